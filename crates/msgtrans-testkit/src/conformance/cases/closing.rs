//! Ends, in good order and not.

use std::future::poll_fn;
use std::task::Poll;

use msgtrans_core::{CloseReason, Packet, PacketType, WireVersion};
use msgtrans_transport::ConnectionError;

use super::{Case, Ran, both, case, either_way, large, needs_bytes, needs_half_close, needs_v1};
use crate::bell::Bell;
use crate::conformance::Protocol;
use crate::conformance::pair::Setup;
use crate::failure::Failure;
use crate::peer::Peer;

pub(super) const CASES: &[Case] = &[
    case!(closing_an_idle_connection_ends_the_other_side),
    case!(both_sides_may_close_at_once),
    case!(the_last_packet_arrives_before_the_end),
    case!(the_last_packet_arrives_although_the_closer_has_unread_input),
    case!(everything_sent_before_a_close_arrives),
    case!(a_close_is_bounded_while_the_peer_sends_on, needs_half_close),
    case!(a_dropped_connection_is_seen),
    case!(a_dropped_peer_is_seen_by_a_waiting_reader),
    case!(writing_to_a_peer_that_is_gone_fails),
    case!(a_frame_that_is_cut_is_an_error_and_no_packet, needs_bytes),
    case!(a_version_1_connection_closes, needs_v1),
];

fn goodbye() -> Packet {
    Packet::numbered(PacketType::Goodbye, 0, "")
}

/// Reads to the end, which a protocol with a close of its own may put into words. Returns how many packets came.
async fn read_to_end(peer: &mut Peer) -> Result<usize, Failure> {
    let mut packets = 0;
    loop {
        match peer.recv().await {
            Ok(Some(_)) => packets += 1,
            Ok(None) => return Ok(packets),
            Err(ConnectionError::Closed(_)) => return Ok(packets),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads to the end and closes, as a session does.
async fn finish(mut peer: Peer) -> Result<usize, Failure> {
    let packets = read_to_end(&mut peer).await?;
    // Whether the other side is still there to be closed towards is its own affair.
    let _ = peer.close(&CloseReason::normal()).await;
    Ok(packets)
}

async fn close(mut peer: Peer) -> Ran {
    Ok(peer.close(&CloseReason::normal()).await?)
}

async fn closing_an_idle_connection_ends_the_other_side(protocol: Protocol) -> Ran {
    either_way(&protocol, Setup::default(), |one, other| async move {
        let ((), packets) = both(close(one), finish(other)).await?;
        Failure::unless(packets == 0, || format!("{packets} packets nobody sent"))
    })
    .await
}

async fn both_sides_may_close_at_once(protocol: Protocol) -> Ran {
    either_way(&protocol, Setup::default(), |one, other| async move {
        both(close(one), close(other)).await.map(drop)
    })
    .await
}

async fn the_last_packet_arrives_before_the_end(protocol: Protocol) -> Ran {
    either_way(
        &protocol,
        Setup::default(),
        |mut one, mut other| async move {
            let last = async {
                one.send(large(1000)).await?;
                one.send(goodbye()).await?;
                close(one).await
            };
            both(last, async {
                other.expect().await?;
                let got = other.expect().await?;
                Failure::unless(got.packet_type == PacketType::Goodbye, || {
                    format!("got {got:?} instead of the last packet")
                })?;
                finish(other).await
            })
            .await
            .map(drop)
        },
    )
    .await
}

async fn the_last_packet_arrives_although_the_closer_has_unread_input(protocol: Protocol) -> Ran {
    either_way(
        &protocol,
        Setup::default(),
        |mut one, mut other| async move {
            // Arrives at the closing side and is never read there.
            for _ in 0..8 {
                other.send(large(4000)).await?;
            }
            one.send(goodbye()).await?;
            both(close(one), async {
                let got = other.expect().await?;
                Failure::unless(got.packet_type == PacketType::Goodbye, || {
                    format!("got {got:?} instead of the last packet")
                })?;
                finish(other).await
            })
            .await
            .map(drop)
        },
    )
    .await
}

async fn everything_sent_before_a_close_arrives(protocol: Protocol) -> Ran {
    const COUNT: usize = 200;
    either_way(&protocol, Setup::default(), |mut one, other| async move {
        let packet = large(50_000);
        let send = async {
            for _ in 0..COUNT {
                one.queue(packet.clone())?;
            }
            one.send(goodbye()).await?;
            close(one).await
        };
        let ((), packets) = both(send, finish(other)).await?;
        Failure::unless(packets == COUNT + 1, || {
            format!("{packets} of {} packets arrived", COUNT + 1)
        })
    })
    .await
}

/// The peer neither reads nor closes, and never stops writing.
async fn a_close_is_bounded_while_the_peer_sends_on(protocol: Protocol) -> Ran {
    either_way(&protocol, Setup::default(), |one, mut other| async move {
        let flood = async {
            let packet = large(16 * 1024);
            while other.send(packet.clone()).await.is_ok() {}
            std::future::pending::<Ran>().await
        };
        tokio::select! {
            closed = close(one) => closed,
            never = flood => never,
        }
    })
    .await
}

async fn a_dropped_connection_is_seen(protocol: Protocol) -> Ran {
    either_way(
        &protocol,
        Setup::default(),
        |mut one, mut other| async move {
            one.send(large(1000)).await?;
            // It has arrived before the other side goes, so it is there to be read.
            other.expect().await?;
            drop(one);
            match other.recv().await {
                // On a byte stream the session tells the difference: there was no Goodbye.
                Ok(None) | Err(_) => Ok(()),
                Ok(Some(packet)) => Err(Failure::new(format!("{packet:?} that nobody sent"))),
            }
        },
    )
    .await
}

async fn a_dropped_peer_is_seen_by_a_waiting_reader(protocol: Protocol) -> Ran {
    either_way(&protocol, Setup::default(), |one, mut other| async move {
        let bell = Bell::new();
        let idle = bell.poll(|cx| other.poll_recv(cx)).is_pending();
        Failure::unless(idle, || "something came that nobody sent".to_owned())?;
        drop(one);
        match bell.until(|cx| other.poll_recv(cx)).await {
            Ok(None) | Err(_) => Ok(()),
            Ok(Some(packet)) => Err(Failure::new(format!("{packet:?} that nobody sent"))),
        }
    })
    .await
}

async fn writing_to_a_peer_that_is_gone_fails(protocol: Protocol) -> Ran {
    either_way(&protocol, Setup::default(), |one, mut other| async move {
        drop(one);
        let packet = large(64 * 1024);
        // The first writes may still go into a buffer.
        while other.send(packet.clone()).await.is_ok() {}
        Ok(())
    })
    .await
}

async fn a_frame_that_is_cut_is_an_error_and_no_packet(protocol: Protocol) -> Ran {
    const COUNT: usize = 64;
    let payload = protocol.capabilities.max_payload.min(4 << 20);
    either_way(
        &protocol,
        Setup::default(),
        |mut one, mut other| async move {
            let packet = large(payload);
            for _ in 0..COUNT {
                one.queue(packet.clone())?;
            }
            let full = poll_fn(|cx| Poll::Ready(one.poll_flush(cx).is_pending())).await;
            Failure::unless(full, || "everything was taken at once".to_owned())?;
            drop(one);
            let mut packets = 0;
            loop {
                match other.recv().await {
                    Ok(Some(got)) if got.payload.len() == payload => packets += 1,
                    Ok(Some(got)) => return Err(Failure::new(format!("{got:?} that nobody sent"))),
                    Ok(None) => {
                        let what = format!("a good end after {packets} packets and a cut one");
                        return Err(Failure::new(what));
                    }
                    Err(_) => return Ok(()),
                }
            }
        },
    )
    .await
}

async fn a_version_1_connection_closes(protocol: Protocol) -> Ran {
    let setup = Setup {
        version: WireVersion::V1,
        ..Setup::default()
    };
    let waits = protocol.capabilities.v1_close_waits;
    let protocol = &protocol;
    either_way(protocol, setup, |mut one, mut other| async move {
        one.send(Packet::text("last")).await?;
        other.expect().await?;
        let (bell, normal) = (Bell::new(), CloseReason::normal());
        if bell.poll(|cx| one.poll_close(cx, &normal))?.is_pending() {
            // A published peer that sees a half-close drops what it still had to write. An end that had been written
            // would be known here by the time that another connection has come and answered.
            drop(protocol.pair().await?);
            let open = bell.poll(|cx| other.poll_recv(cx)).is_pending();
            Failure::unless(open || !waits, || {
                "the peer of a version 1 close sees an end before the connection has gone"
                    .to_owned()
            })?;
            drop(other);
            return close(one).await;
        }
        drop(one);
        finish(other).await.map(drop)
    })
    .await
}
