//! Budgets, backpressure, wakers, confirmations and progress.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use msgtrans_core::Packet;

use super::{Case, Ran, both, case, either_way, large, needs_bytes};
use crate::bell::Bell;
use crate::conformance::Protocol;
use crate::conformance::pair::{Pair, Setup};
use crate::failure::Failure;
use crate::peer::{Peer, accept};

pub(super) const CASES: &[Case] = &[
    case!(an_empty_send_is_done_at_once),
    case!(a_receive_stops_at_its_budget),
    case!(a_budget_of_nothing_still_brings_a_packet),
    case!(one_packet_a_call_until_the_wire_is_set),
    case!(a_waiting_read_is_woken),
    case!(a_waiting_write_is_woken_and_reading_goes_on_meanwhile),
    case!(a_reader_that_stops_stops_the_writer),
    case!(confirmations_complete_once_the_packet_is_taken),
    case!(confirmations_of_packets_that_are_not_taken_fail),
    case!(progress_counts_what_passes),
    case!(progress_grows_while_a_large_frame_arrives, needs_bytes),
];

/// More than any kernel or protocol buffers, in packets that share one payload.
const FLOOD_PACKETS: usize = 64;
const FLOOD_PACKET_BYTES: usize = 1 << 20;

fn queue_flood(peer: &mut Peer) -> Ran {
    let packet = large(FLOOD_PACKET_BYTES);
    for _ in 0..FLOOD_PACKETS {
        peer.queue(packet.clone())?;
    }
    Ok(())
}

async fn an_empty_send_is_done_at_once(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    for peer in [&mut pair.client, &mut pair.server] {
        // A protocol with acknowledgements may still wait for those of what was sent before.
        peer.flush().await?;
        let done = Bell::new().poll(|cx| peer.poll_flush(cx));
        Failure::unless(matches!(done, Poll::Ready(Ok(()))), || {
            format!("an empty batch gives {done:?}")
        })?;
    }
    Ok(())
}

async fn a_receive_stops_at_its_budget(protocol: Protocol) -> Ran {
    const COUNT: usize = 500;
    const BUDGET: usize = 10_000;
    let Pair {
        mut client,
        mut server,
        ..
    } = protocol.pair().await?;
    let packet = large(1000);
    let size = packet.queued_bytes();
    for _ in 0..COUNT {
        client.queue(packet.clone())?;
    }
    both(async { Ok(client.flush().await?) }, async {
        let mut received = 0;
        while received < COUNT {
            poll_fn(|cx| server.poll_fill(cx, BUDGET)).await?;
            let bytes = server.inbox().bytes();
            Failure::unless(bytes < BUDGET + size, || {
                format!("{bytes} bytes came with a budget of {BUDGET}")
            })?;
            received += server.inbox().len();
            server.inbox().clear();
        }
        Ok(())
    })
    .await?;
    Ok(())
}

async fn a_budget_of_nothing_still_brings_a_packet(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    for _ in 0..3 {
        pair.client.queue(large(100))?;
    }
    pair.client.flush().await?;
    for nth in 1..=3 {
        poll_fn(|cx| pair.server.poll_fill(cx, 0)).await?;
        let len = pair.server.inbox().len();
        Failure::unless(len == 1, || {
            format!("call {nth} with a budget of 0 brought {len} packets")
        })?;
        pair.server.inbox().clear();
    }
    Ok(())
}

async fn one_packet_a_call_until_the_wire_is_set(protocol: Protocol) -> Ran {
    const COUNT: u32 = 10;
    let setup = Setup::default();
    let mut listener = protocol.listen(setup).await?;
    let endpoint = listener.local_endpoint();
    let first = (0..COUNT).map(|id| Packet::text("early").with_message_id(id));
    let (_client, mut server) = both(protocol.dial(&endpoint, setup, first), async {
        let mut server = Peer::new(accept(listener.as_mut()).await?, setup.version);
        for _ in 0..3 {
            poll_fn(|cx| server.poll_fill(cx, usize::MAX)).await?;
            let len = server.inbox().len();
            Failure::unless(len == 1, || {
                format!("a call before set_wire brought {len} packets")
            })?;
            server.inbox().clear();
        }
        Ok(server)
    })
    .await?;
    server.set_wire(setup.limits);
    for id in 3..COUNT {
        let got = server.expect().await?;
        Failure::unless(got.message_id == id, || {
            format!("got {} after set_wire, not {id}", got.message_id)
        })?;
    }
    Ok(())
}

async fn a_waiting_read_is_woken(protocol: Protocol) -> Ran {
    either_way(&protocol, Setup::default(), |mut from, mut to| async move {
        let bell = Bell::new();
        let idle = bell.poll(|cx| to.poll_recv(cx)).is_pending();
        Failure::unless(idle, || "something came that nobody sent".to_owned())?;
        from.send(large(10)).await?;
        bell.until(|cx| to.poll_recv(cx)).await?;
        Ok(())
    })
    .await
}

/// One side waits to write and to read with two wakers, as two tasks would; each is woken by its own cause.
async fn a_waiting_write_is_woken_and_reading_goes_on_meanwhile(protocol: Protocol) -> Ran {
    either_way(
        &protocol,
        Setup::default(),
        |mut one, mut other| async move {
            let (reads, writes) = (Bell::new(), Bell::new());
            queue_flood(&mut one)?;
            let idle = reads.poll(|cx| one.poll_recv(cx)).is_pending();
            let full = writes.poll(|cx| one.poll_flush(cx)).is_pending();
            Failure::unless(idle && full, || {
                format!("nothing to read: {idle}; no room to write: {full}")
            })?;
            other.send(large(10)).await?;
            reads.until(|cx| one.poll_recv(cx)).await?;
            both(
                async { Ok(writes.until(|cx| one.poll_flush(cx)).await?) },
                async {
                    for _ in 0..FLOOD_PACKETS {
                        other.expect().await?;
                    }
                    Ok(())
                },
            )
            .await
            .map(drop)
        },
    )
    .await
}

/// What is in flight is bounded: the writer waits, and what it could not write is still its own.
async fn a_reader_that_stops_stops_the_writer(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    queue_flood(&mut pair.client)?;
    let full = Bell::new().poll(|cx| pair.client.poll_flush(cx));
    let left = pair.client.queued_bytes();
    Failure::unless(full.is_pending() && left > 0, || {
        let all = FLOOD_PACKETS * FLOOD_PACKET_BYTES;
        format!("{all} bytes were taken although nobody reads")
    })
}

async fn confirmations_complete_once_the_packet_is_taken(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    let (client, server) = (&mut pair.client, &mut pair.server);
    let mut confirmed = Vec::new();
    for size in [0, 100, 5000, 100_000] {
        confirmed.push(client.queue_confirmed(large(size))?);
        client.queue(large(10))?;
    }
    both(
        async {
            client.flush().await?;
            // Where the peer's acknowledgement is what counts, it comes while this side waits.
            for one in confirmed {
                let taken = one.await;
                Failure::unless(taken, || "a packet was sent, not confirmed".to_owned())?;
            }
            Ok(())
        },
        async {
            for _ in 0..8 {
                server.expect().await?;
            }
            Ok(())
        },
    )
    .await?;
    Ok(())
}

async fn confirmations_of_packets_that_are_not_taken_fail(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    queue_flood(&mut pair.client)?;
    let mut last = pair.client.queue_confirmed(large(10))?;
    let full = Bell::new().poll(|cx| pair.client.poll_flush(cx));
    let early = Bell::new().poll(|cx| Pin::new(&mut last).poll(cx));
    Failure::unless(full.is_pending() && early.is_pending(), || {
        format!("the write gives {full:?} and its confirmation {early:?}, but nobody reads")
    })?;
    drop(pair);
    let taken = last.await;
    Failure::unless(!taken, || {
        "a packet that never left was confirmed".to_owned()
    })
}

async fn progress_counts_what_passes(protocol: Protocol) -> Ran {
    const BYTES: u64 = 100_000;
    let mut pair = protocol.pair().await?;
    let (written, read) = (pair.client.progress().written, pair.server.progress().read);
    let (client, server) = (&mut pair.client, &mut pair.server);
    both(client.send(large(BYTES as usize)), server.expect()).await?;
    let written = client.progress().written - written;
    let read = server.progress().read - read;
    Failure::unless(written >= BYTES && read >= BYTES, || {
        format!("{BYTES} bytes passed; {written} count as written and {read} as read")
    })
}

async fn progress_grows_while_a_large_frame_arrives(protocol: Protocol) -> Ran {
    let mut pair = protocol.pair().await?;
    let bytes = protocol.capabilities.max_payload;
    pair.client.queue(large(bytes))?;
    let start = pair.server.progress().read;
    let (mut steps, mut last) = (0, start);
    let got = poll_fn(|cx| {
        let _ = pair.client.poll_flush(cx)?;
        let got = pair.server.poll_recv(cx)?;
        let read = pair.server.progress().read;
        if got.is_pending() && read > last {
            steps += 1;
            last = read;
        }
        got.map(Ok::<_, Failure>)
    })
    .await?;
    Failure::unless(
        got.is_some_and(|packet| packet.payload.len() == bytes),
        || "the frame did not arrive".to_owned(),
    )?;
    Failure::unless(steps > 0, || {
        format!("{bytes} bytes arrived without a sign of life in between")
    })
}
