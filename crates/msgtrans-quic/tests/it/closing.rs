//! Ends: the last packets arrive, the code arrives, and nothing else is taken for a good end.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::Poll;
use std::time::Duration;

use msgtrans_core::{CloseReason, Code, Initiator, Packet, PacketType, WireVersion};
use msgtrans_quic::QuicClientConfig;
use msgtrans_testkit::chaos::{DatagramProxy, Direction};
use msgtrans_transport::ConnectionError;

use crate::end::{End, PATIENCE, bind, local, packet, pair, pair_of};
use crate::relay::Relay;
use crate::version1::{Raw, raw_pair};

async fn closes(mut one: End, mut other: End) {
    const COUNT: u32 = 300;
    for id in 0..COUNT {
        one.queue(packet(id, 20_000));
    }
    one.queue(Packet::new(PacketType::Goodbye, ""));
    let closing = async {
        one.flush().await.expect("written");
        one.close(&CloseReason::local(Code(1234), "enough")).await;
        one
    };
    let (_one, (packets, error)) = tokio::join!(closing, other.drain());
    assert_eq!(packets.len(), COUNT as usize + 1);
    // The end of the stream is seen before the close that follows it, unless that was quicker.
    if let Some(error) = error {
        assert_code(&error, 1234, "enough");
    }
    // The code is there all the same: a write meets it.
    let error = loop {
        other.queue(packet(0, 10));
        if let Err(error) = other.flush().await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert_code(&error, 1234, "enough");
}

fn assert_code(error: &ConnectionError, code: u16, words: &str) {
    let ConnectionError::Closed(reason) = error else {
        panic!("{error} is no close");
    };
    assert_eq!(reason.code, Code(code));
    assert_eq!(reason.reason, words);
    assert_eq!(reason.initiator, Initiator::Peer);
}

#[tokio::test]
async fn a_close_from_either_side_delivers_the_last_packets_and_the_code() {
    let (client, server, _bound) = pair(WireVersion::V2).await;
    closes(client, server).await;
    let (client, server, _bound) = pair(WireVersion::V2).await;
    closes(server, client).await;
}

#[tokio::test]
async fn both_sides_may_close_at_once() {
    let (mut client, mut server, _bound) = pair(WireVersion::V2).await;
    let normal = CloseReason::normal();
    tokio::join!(client.close(&normal), server.close(&normal));
}

#[tokio::test]
async fn a_connection_dropped_without_closing_is_no_good_end() {
    for client_drops in [true, false] {
        let (client, server, _bound) = pair(WireVersion::V2).await;
        let mut left = if client_drops {
            drop(client);
            server
        } else {
            drop(server);
            client
        };
        let error = left.recv().await.expect_err("lost");
        let ConnectionError::Closed(reason) = &error else {
            panic!("{error}");
        };
        assert!(!reason.is_clean(), "{reason}");
    }
}

#[tokio::test]
async fn a_drop_is_told_although_the_congestion_window_is_full() {
    for client_drops in [true, false] {
        let mut bound = bind(local()).await;
        let address = bound.address.parse().expect("an address");
        // Nothing is acknowledged before the drop.
        let proxy = DatagramProxy::start(address, 5).await.expect("a port");
        proxy.change(Direction::Both, |path| {
            path.latency = Duration::from_millis(50);
        });
        let config =
            QuicClientConfig::new(proxy.address().to_string()).with_pin(bound.identity.spki_pin());
        let (client, server) = pair_of(&mut bound, &config, WireVersion::V2).await;
        let (mut dropped, mut left) = match client_drops {
            true => (client, server),
            false => (server, client),
        };
        dropped.queue(packet(1, 8 << 20));
        let full = poll_fn(|cx| {
            let End {
                connection, out, ..
            } = &mut dropped;
            Poll::Ready(connection.poll_send(cx, out).is_pending())
        });
        assert!(full.await, "everything was taken at once");
        // The first flight has arrived, and its acknowledgement has not.
        let passed = proxy.stats().passed;
        while proxy.stats().passed < passed + 8 {
            tokio::task::yield_now().await;
        }
        drop(dropped);
        let (packets, error) = tokio::time::timeout(PATIENCE, left.drain())
            .await
            .expect("nobody told it");
        assert!(packets.is_empty());
        let error = error.expect("no good end");
        assert_code(&error, Code::INTERNAL.0, "dropped without closing");
    }
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let mut bound = bind(local()).await;
    let relay = Relay::to(&bound.address).await;
    let config = QuicClientConfig::new(&relay.address)
        .with_pin(bound.identity.spki_pin())
        .keep_alive(Duration::from_secs(1))
        .max_idle_timeout(Duration::from_millis(1100));
    let (mut client, mut server) = pair_of(&mut bound, &config, WireVersion::V2).await;
    relay.cut();
    for end in [&mut client, &mut server] {
        match end.recv().await {
            Err(ConnectionError::Io(error)) => assert_eq!(error.kind(), ErrorKind::TimedOut),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn keep_alive_holds_a_silent_connection_above_its_idle_timeout() {
    let mut bound = bind(local()).await;
    let config = bound
        .client()
        .keep_alive(Duration::from_secs(1))
        .max_idle_timeout(Duration::from_millis(1500));
    let (mut client, mut server) = pair_of(&mut bound, &config, WireVersion::V2).await;
    let silent = tokio::time::timeout(Duration::from_secs(3), client.recv()).await;
    assert!(silent.is_err(), "{silent:?}");
    server.send(packet(7, 10)).await;
    assert_eq!(client.expect().await.message_id, 7);
}

/// How a connection ends for the server, whose raw client does `act`.
async fn ends(act: impl AsyncFnOnce(&mut Raw)) -> ConnectionError {
    let (mut raw, mut server, _bound) = raw_pair().await;
    act(&mut raw).await;
    let (packets, error) = server.drain().await;
    assert!(packets.is_empty());
    error.expect("no good end")
}

fn is_io(error: &ConnectionError, kind: ErrorKind) -> bool {
    matches!(error, ConnectionError::Io(error) if error.kind() == kind)
}

/// The beginning of a frame.
const HALF: &[u8] = &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[tokio::test]
async fn each_bad_end_is_reported_as_what_it_is() {
    let error = ends(async |raw| raw.send.reset(77_u32.into()).expect("reset")).await;
    assert!(is_io(&error, ErrorKind::ConnectionReset), "{error}");
    assert!(error.to_string().contains("77"), "{error}");

    let error = ends(async |raw| {
        raw.send.write_all(HALF).await.expect("written");
        raw.send.finish().expect("finished");
    })
    .await;
    let cut = matches!(error, ConnectionError::Truncated { held: 10 });
    assert!(cut, "{error}");

    let error = ends(async |raw| raw.connection.close(5_u32.into(), b"slower")).await;
    assert_code(&error, 5, "slower");

    let error = ends(async |raw| raw.connection.close(1_000_000_u32.into(), b"")).await;
    assert_code(&error, 2, "");
}

#[tokio::test]
async fn a_good_close_inside_a_frame_is_a_cut() {
    let (mut raw, mut server, _bound) = raw_pair().await;
    let before = server.connection.progress().read;
    raw.send.write_all(HALF).await.expect("written");
    poll_fn(|cx| {
        let pending = server
            .connection
            .poll_recv(cx, 1, &mut server.inbox)
            .is_pending();
        assert!(pending, "half a frame is none");
        match server.connection.progress().read - before {
            10 => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    raw.connection.close(0_u32.into(), b"");
    let error = server.recv().await.expect_err("cut");
    let cut = matches!(error, ConnectionError::Truncated { held: 10 });
    assert!(cut, "{error}");
}

#[tokio::test]
async fn a_peer_that_stops_reading_ends_writing_with_its_name() {
    let (mut raw, mut server, _bound) = raw_pair().await;
    raw.recv.stop(9_u32.into()).expect("stopped");
    let error = loop {
        server.queue(packet(1, 100));
        if let Err(error) = server.flush().await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(is_io(&error, ErrorKind::BrokenPipe), "{error}");
}
