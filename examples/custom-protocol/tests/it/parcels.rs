//! What is parcel's own on the wire: batches, packed ones, and an end in each state.

use std::future::Future;
use std::io;
use std::task::Poll;
use std::time::Duration;

use custom_protocol::ParcelConfig;
use msgtrans_core::{CloseReason, Code, Limits, Packet, WireVersion, WireVersions};
use msgtrans_testkit::{Bell, Peer, accept};
use msgtrans_transport::{ConnectionError, Connector, DialContext, ListenContext, ServerProtocol};

use crate::conformance::fresh_name;

/// What must be woken is woken, or the test fails instead of hanging.
async fn soon<T>(woken: impl Future<Output = T>) -> T {
    let woken = tokio::time::timeout(Duration::from_secs(30), woken).await;
    woken.expect("nobody woke it")
}

/// Both ends, their wires set.
async fn pair() -> (Peer, Peer) {
    let config = ParcelConfig::new(fresh_name());
    let listen = ListenContext::new(WireVersions::V2, Limits::default());
    let dial = DialContext::new(WireVersions::V2, Limits::default());
    let mut listener = config.bind(&listen).await.expect("free");
    let client = config.connect(&dial).await.expect("somebody listens");
    let server = accept(listener.as_mut()).await.expect("came");
    let mut ends = [client, server].map(|connection| Peer::new(connection, WireVersion::V2));
    for end in &mut ends {
        end.set_wire(Limits::default());
    }
    let [client, server] = ends;
    (client, server)
}

fn kind(result: Result<impl std::fmt::Debug, ConnectionError>) -> io::ErrorKind {
    match result {
        Err(ConnectionError::Io(error)) => error.kind(),
        other => panic!("{other:?}"),
    }
}

/// More than the pipe holds, in one packet.
fn huge() -> Packet {
    Packet::binary(vec![0; 4 << 20])
}

#[tokio::test]
async fn small_packets_cost_few_bytes_and_repeated_ones_fewer() {
    let (mut client, _server) = pair().await;
    for id in 0..1000 {
        let packet = Packet::text("a small one").with_message_id(id);
        client.queue(packet).expect("in version 2");
    }
    soon(client.flush()).await.expect("there is room");
    // 11 bytes of payload and at most 5 of head, where the built-in wire has 16.
    let written = client.progress().written;
    assert!(written <= 1 + 1000 * 16, "{written} bytes");

    for _ in 0..100 {
        client
            .queue(Packet::binary(vec![0; 1000]))
            .expect("in version 2");
    }
    soon(client.flush()).await.expect("there is room");
    let packed = client.progress().written - written;
    assert!(packed < 10_000, "{packed} bytes for 100 000 zeros");
}

#[tokio::test]
async fn what_was_sent_is_read_before_a_good_end() {
    let (mut client, mut server) = pair().await;
    client.send(Packet::text("last")).await.expect("taken");
    client.close(&CloseReason::normal()).await.expect("closed");
    client.queue(Packet::text("late")).expect("in version 2");
    assert_eq!(kind(soon(client.flush()).await), io::ErrorKind::BrokenPipe);
    drop(client);
    assert_eq!(soon(server.expect()).await.expect("came").payload, "last");
    assert!(soon(server.recv()).await.expect("a good end").is_none());
}

#[tokio::test]
async fn who_goes_without_a_word_is_lost_and_so_is_who_lost_the_network() {
    for close in [false, true] {
        let (mut client, mut server) = pair().await;
        client.send(Packet::text("last")).await.expect("taken");
        if close {
            let lost = CloseReason::network(Code::TIMEOUT, "silent");
            client.close(&lost).await.expect("nothing to do");
        }
        drop(client);
        assert_eq!(soon(server.expect()).await.expect("came").payload, "last");
        let lost = soon(server.recv()).await;
        assert_eq!(kind(lost), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_close_inside_a_packet_is_no_good_end() {
    let (mut client, mut server) = pair().await;
    client.queue(huge()).expect("in version 2");
    let full = Bell::new().poll(|cx| client.poll_flush(cx));
    assert!(full.is_pending(), "{full:?}");
    let normal = CloseReason::normal();
    soon(client.close(&normal)).await.expect("closed");
    drop(client);
    match soon(server.recv()).await {
        Err(ConnectionError::Truncated { held }) => assert!(held > 0 && held < 4 << 20),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_close_behind_a_full_pipe_waits_for_room() {
    let (mut client, mut server) = pair().await;
    // Sixteen messages that no batch can join.
    for _ in 0..16 {
        let noise: Vec<u8> = (0..60_000u32)
            .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        client.send(Packet::binary(noise)).await.expect("room");
    }
    let (bell, normal) = (Bell::new(), CloseReason::normal());
    let closed = bell.poll(|cx| client.poll_close(cx, &normal));
    assert!(matches!(closed, Poll::Pending), "{closed:?}");
    soon(server.expect()).await.expect("the first");
    soon(bell.until(|cx| client.poll_close(cx, &normal)))
        .await
        .expect("closed");
    for _ in 1..16 {
        soon(server.expect()).await.expect("the others");
    }
    assert!(soon(server.recv()).await.expect("a good end").is_none());
}
