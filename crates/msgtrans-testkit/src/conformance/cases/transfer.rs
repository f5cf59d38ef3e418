//! What crosses, and how it looks at the other side.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use msgtrans_core::{
    Code, Compression, Flags, Limits, Meta, Packet, PacketType, WireVersion, WireVersions,
};

use super::{Case, Ran, both, case, large, needs_v1, pattern, same};
use crate::conformance::Protocol;
use crate::conformance::pair::{Pair, Setup};
use crate::failure::Failure;
use crate::peer::Peer;

pub(super) const CASES: &[Case] = &[
    case!(packets_arrive_as_they_were_sent),
    case!(a_packet_that_no_session_has_numbered_arrives_without_that_mark),
    case!(packets_arrive_in_order),
    case!(payloads_of_every_size_arrive),
    case!(extended_headers_of_every_size_arrive),
    case!(both_directions_flow_at_once_with_full_buffers),
    case!(many_small_packets_arrive_in_few_calls),
    case!(unreliable_packets_that_fit_no_datagram_arrive_on_the_stream),
    case!(unreliable_packets_arrive, |capabilities| {
        capabilities
            .datagrams
            .then_some("datagrams may be lost and overtake")
    }),
    case!(datagrams_arrive, |capabilities| {
        (!capabilities.datagrams).then_some("no datagrams")
    }),
    case!(version_1_packets_arrive, needs_v1),
    case!(the_first_frame_decides_the_version, needs_v1),
    case!(a_version_that_is_not_accepted_is_refused, needs_v1),
];

/// Sends `packets` from one side and checks each at the other, both at once.
async fn cross(from: &mut Peer, to: &mut Peer, packets: Vec<Packet>) -> Ran {
    let expected = packets.clone();
    both(
        async {
            for packet in packets {
                from.send(packet).await?;
            }
            Ok(())
        },
        async {
            for sent in &expected {
                same(&to.expect().await?, sent)?;
            }
            Ok(())
        },
    )
    .await?;
    Ok(())
}

async fn packets_arrive_as_they_were_sent(protocol: Protocol) -> Ran {
    let Pair {
        mut client,
        mut server,
        ..
    } = protocol.pair().await?;
    let all = Flags::FRAGMENTED | Flags::HIGH_PRIORITY | Flags::HAS_ROUTE_TAG | Flags::ACK_NOW;
    let mut meta = Meta::new()
        .with_deadline(Duration::from_micros(1500))
        .with_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    meta.key = Some(Bytes::from_static(b"key"));
    let packets = vec![
        Packet::text("text").with_message_id(u32::MAX),
        Packet::numbered(PacketType::Request, 7, "request")
            .with_biz_type(255)
            .with_ext_header("header"),
        Packet::numbered(PacketType::Response, 7, "").with_flags(all),
        Packet::numbered(PacketType::OneWay, 0, "zipped").with_compression(Compression::Zstd),
        Packet::failure(9, Code::OVERLOADED, "no"),
        Packet::numbered(PacketType::Cancel, 9, ""),
        Packet::numbered(PacketType::Ping, 3, vec![1; 64]),
        Packet::numbered(PacketType::Ack, 0, vec![0; 8]),
    ];
    cross(&mut client, &mut server, packets.clone()).await?;
    cross(&mut server, &mut client, packets).await?;
    // A deadline crosses in whole milliseconds, rounded up.
    client
        .send(
            Packet::numbered(PacketType::Request, 8, "later")
                .with_ext_header("header")
                .with_meta(meta.clone()),
        )
        .await?;
    let got = server.expect().await?;
    meta.deadline = Some(Duration::from_millis(2));
    Failure::unless(
        got.meta.as_deref() == Some(&meta) && got.ext_header == "header",
        || format!("got {:?} where {meta:?} was sent", got.meta),
    )
}

async fn a_packet_that_no_session_has_numbered_arrives_without_that_mark(
    protocol: Protocol,
) -> Ran {
    let mut pair = protocol.pair().await?;
    pair.client.send(Packet::text("unnumbered")).await?;
    let mut got = pair.server.expect().await?;
    let mut asked = false;
    got.assign_id(|| {
        asked = true;
        1
    });
    Failure::unless(!asked, || {
        "a received packet would be numbered anew".to_owned()
    })
}

async fn packets_arrive_in_order(protocol: Protocol) -> Ran {
    const COUNT: u32 = 10_000;
    let Pair {
        mut client,
        mut server,
        ..
    } = protocol.pair().await?;
    both(
        async {
            for id in 0..COUNT {
                // Lengths that share no factor with any buffer.
                let payload = vec![id as u8; id as usize % 251];
                client.queue(Packet::binary(payload).with_message_id(id))?;
                if id % 7 == 0 {
                    client.flush().await?;
                }
            }
            client.flush().await?;
            Ok(())
        },
        async {
            for id in 0..COUNT {
                let got = server.expect().await?;
                Failure::unless(
                    got.message_id == id && got.payload == vec![id as u8; id as usize % 251],
                    || format!("got {got:?} as number {id}"),
                )?;
            }
            Ok(())
        },
    )
    .await?;
    Ok(())
}

async fn payloads_of_every_size_arrive(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    let max = protocol.capabilities.max_payload;
    let sizes = [
        0,
        1,
        15,
        16,
        17,
        125,
        126,
        4095,
        4096,
        4097,
        65_519,
        65_520,
        65_535,
        65_536,
        65_537,
        262_144,
        1 << 20,
        Limits::MAX_PAYLOAD as usize,
    ];
    let all = pattern(max);
    let packets = sizes.into_iter().filter(|size| *size <= max);
    let packets: Vec<_> = packets
        .map(|size| Packet::binary(all.slice(..size)).with_message_id(size as u32))
        .collect();
    cross(&mut pair.client, &mut pair.server, packets.clone()).await?;
    cross(&mut pair.server, &mut pair.client, packets).await
}

async fn extended_headers_of_every_size_arrive(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    let max = protocol.capabilities.max_ext_header;
    let sizes = [1, 4096, 4097, 32_768, Limits::MAX_EXT_HEADER as usize];
    let all = pattern(max);
    let packets = sizes.into_iter().filter(|size| *size <= max);
    let packets: Vec<_> = packets
        .flat_map(|size| {
            ["", "payload"].map(|payload| {
                Packet::text(payload)
                    .with_message_id(1)
                    .with_ext_header(all.slice(..size))
            })
        })
        .collect();
    cross(&mut pair.client, &mut pair.server, packets.clone()).await?;
    cross(&mut pair.server, &mut pair.client, packets).await
}

/// Both sides write until nothing more is taken, and only then begin to read, while they write on.
async fn both_directions_flow_at_once_with_full_buffers(protocol: Protocol) -> Ran {
    /// More than any kernel or protocol buffers in both directions together.
    const COUNT: usize = 96;
    async fn pump(peer: &mut Peer) -> Ran {
        let packet = large(512 * 1024);
        for _ in 0..COUNT {
            peer.queue(packet.clone())?;
        }
        let (mut sent, mut full, mut received) = (false, false, 0);
        poll_fn(|cx| {
            loop {
                if !sent {
                    match peer.poll_flush(cx)? {
                        Poll::Ready(()) => sent = true,
                        Poll::Pending => full = true,
                    }
                }
                if !sent && !full {
                    return Poll::Pending;
                }
                if received == COUNT {
                    return if sent {
                        Poll::Ready(Ok(()))
                    } else {
                        Poll::Pending
                    };
                }
                match peer.poll_recv(cx)? {
                    Poll::Ready(Some(_)) => received += 1,
                    Poll::Ready(None) => {
                        return Poll::Ready(Err(Failure::new("the stream ended early")));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
    let mut pair = protocol.pair().await?;
    both(pump(&mut pair.client), pump(&mut pair.server)).await?;
    Ok(())
}

async fn many_small_packets_arrive_in_few_calls(protocol: Protocol) -> Ran {
    const COUNT: u32 = 1000;
    let mut pair = protocol.pair().await?;
    for id in 0..COUNT {
        pair.client
            .queue(Packet::text("small").with_message_id(id))?;
    }
    let Pair {
        mut client,
        mut server,
        ..
    } = pair;
    let (_, calls) = both(async { Ok(client.flush().await?) }, async {
        let mut calls = 0;
        while server.inbox().len() < COUNT as usize {
            poll_fn(|cx| server.poll_fill(cx, usize::MAX)).await?;
            calls += 1;
        }
        Ok(calls)
    })
    .await?;
    for id in 0..COUNT {
        let got = server.expect().await?;
        Failure::unless(got.message_id == id, || {
            format!("got {} as number {id}", got.message_id)
        })?;
    }
    Failure::unless(calls <= COUNT / 4, || {
        format!("{COUNT} packets of one write took {calls} calls")
    })
}

fn unreliable(payload: Bytes) -> Packet {
    Packet::binary(payload)
        .with_message_id(5)
        .with_flags(Flags::UNRELIABLE)
}

async fn unreliable_packets_that_fit_no_datagram_arrive_on_the_stream(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    let packets = vec![unreliable(pattern(100_000)), unreliable(pattern(70_000))];
    cross(&mut pair.client, &mut pair.server, packets).await
}

async fn unreliable_packets_arrive(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    let packets = vec![unreliable(pattern(10)), large(10), unreliable(pattern(20))];
    cross(&mut pair.client, &mut pair.server, packets).await
}

/// Sends datagrams until one has arrived: each may be lost.
async fn datagrams_arrive(protocol: Protocol) -> Ran {
    let Pair {
        mut client,
        mut server,
        ..
    } = protocol.pair().await?;
    let sent = unreliable(pattern(100));
    let send = async {
        loop {
            client.send(sent.clone()).await?;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        failure = send => failure,
        got = server.expect() => same(&got?, &sent),
    }
}

fn v1() -> Setup {
    Setup {
        version: WireVersion::V1,
        ..Setup::default()
    }
}

async fn version_1_packets_arrive(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair_with(v1()).await?;
    let packets = vec![
        Packet::text("text").with_message_id(1),
        Packet::numbered(PacketType::Request, 7, pattern(4097)).with_ext_header("header"),
        Packet::numbered(PacketType::Response, 7, pattern(100_000)).with_biz_type(9),
        Packet::numbered(PacketType::OneWay, 0, ""),
    ];
    cross(&mut pair.client, &mut pair.server, packets.clone()).await?;
    cross(&mut pair.server, &mut pair.client, packets).await
}

async fn the_first_frame_decides_the_version(protocol: Protocol) -> Ran {
    for version in [WireVersion::V1, WireVersion::V2] {
        let mut listener = protocol.listen(v1()).await?;
        let endpoint = listener.local_endpoint();
        let setup = Setup { version, ..v1() };
        let first = [crate::conformance::pair::opening(version)];
        let (_client, got) = both(protocol.dial(&endpoint, setup, first), async {
            let mut server = Peer::new(crate::peer::accept(listener.as_mut()).await?, version);
            poll_fn(|cx| server.poll_fill(cx, usize::MAX)).await?;
            Ok(server.inbox().version())
        })
        .await?;
        Failure::unless(got == Some(version), || {
            format!("a first frame of {version:?} arrived as {got:?}")
        })?;
    }
    Ok(())
}

async fn a_version_that_is_not_accepted_is_refused(protocol: Protocol) -> Ran {
    let setup = Setup {
        accept: WireVersions::V2,
        ..v1()
    };
    match protocol.pair_with(setup).await {
        Err(_) => Ok(()),
        Ok(_) => Err(Failure::new(
            "a version 1 client came through to a version 2 listener",
        )),
    }
}
