//! The two queues: what they share, hold and say when an end goes.

use std::io;
use std::task::Poll;

use bytes::Bytes;
use msgtrans_core::{CloseReason, Code, Limits, Packet, WireVersion, WireVersions};
use msgtrans_inproc::{InprocClientConfig, InprocServerConfig};
use msgtrans_testkit::{Bell, Peer, accept};
use msgtrans_transport::{ConnectionError, Connector, DialContext, ListenContext, ServerProtocol};

use crate::conformance::{fresh_name, soon};

/// Both ends, their wires set.
async fn pair() -> (Peer, Peer) {
    let name = fresh_name();
    let listen = ListenContext::new(WireVersions::V2, Limits::default());
    let dial = DialContext::new(WireVersions::V2, Limits::default());
    let server = InprocServerConfig::new(&name);
    let mut listener = server.bind(&listen).await.expect("free");
    let client = InprocClientConfig::new(&name);
    let client = client.connect(&dial).await.expect("somebody listens");
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

#[tokio::test]
async fn payloads_and_headers_are_shared_and_never_copied() {
    let (mut client, mut server) = pair().await;
    for size in [1, 100, 100_000] {
        let (payload, header) = (Bytes::from(vec![1; size]), Bytes::from(vec![2; 10]));
        let packet = Packet::binary(payload.clone()).with_ext_header(header.clone());
        client.send(packet).await.expect("taken");
        let got = soon(server.expect()).await.expect("came");
        assert_eq!(got.payload.as_ptr(), payload.as_ptr());
        assert_eq!(got.ext_header.as_ptr(), header.as_ptr());
    }
}

#[tokio::test]
async fn a_direction_holds_a_mebibyte() {
    let (mut client, mut server) = pair().await;
    let packet = Packet::binary(vec![0; 1024 - 64]);
    assert_eq!(packet.queued_bytes(), 1024);
    for _ in 0..1500 {
        client.queue(packet.clone()).expect("in version 2");
    }
    let bell = Bell::new();
    assert!(bell.poll(|cx| client.poll_flush(cx)).is_pending());
    assert_eq!(client.progress().written, 1024 * 1024);
    assert_eq!(client.queued_bytes(), 476 * 1024);
    assert_eq!(bell.rings(), 0);
    // The reader takes everything in one go, and the writer is told once.
    soon(server.expect()).await.expect("came");
    assert_eq!(bell.rings(), 1);
    soon(bell.until(|cx| client.poll_flush(cx)))
        .await
        .expect("there is room");
}

#[tokio::test]
async fn empty_packets_are_bounded_by_their_number() {
    let (mut client, _server) = pair().await;
    for _ in 0..5000 {
        client.queue(Packet::text("")).expect("in version 2");
    }
    assert!(Bell::new().poll(|cx| client.poll_flush(cx)).is_pending());
    assert_eq!(client.progress().written, 4096 * 64);
}

#[tokio::test]
async fn a_packet_larger_than_the_queue_is_taken_alone() {
    let (mut client, mut server) = pair().await;
    let large = Packet::binary(vec![0; 4 << 20]);
    let alone = client.queue_confirmed(large.clone()).expect("in version 2");
    client.queue(large).expect("in version 2");
    let bell = Bell::new();
    assert!(bell.poll(|cx| client.poll_flush(cx)).is_pending());
    assert!(soon(alone).await, "in the peer's queue");
    soon(server.expect()).await.expect("the first");
    soon(bell.until(|cx| client.poll_flush(cx)))
        .await
        .expect("there is room");
    soon(server.expect()).await.expect("the second");
}

#[tokio::test]
async fn what_is_queued_is_read_before_a_good_end() {
    let (mut client, mut server) = pair().await;
    client.send(Packet::text("last")).await.expect("taken");
    let closed = Bell::new().poll(|cx| client.poll_close(cx, &CloseReason::normal()));
    assert!(matches!(closed, Poll::Ready(Ok(()))), "{closed:?}");
    drop(client);
    assert_eq!(soon(server.expect()).await.expect("came").payload, "last");
    assert!(soon(server.recv()).await.expect("a good end").is_none());
    let late = server.queue(Packet::text("late"));
    late.expect("in version 2");
    assert_eq!(kind(soon(server.flush()).await), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_is_queued_is_read_before_a_loss() {
    let (mut client, mut server) = pair().await;
    client.send(Packet::text("last")).await.expect("taken");
    drop(client);
    assert_eq!(soon(server.expect()).await.expect("came").payload, "last");
    assert_eq!(
        kind(soon(server.recv()).await),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(
        kind(soon(server.recv()).await),
        io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn a_lost_connection_is_not_a_good_end_although_it_is_closed() {
    let (mut client, mut server) = pair().await;
    let lost = CloseReason::network(Code::TIMEOUT, "silent");
    client.close(&lost).await.expect("nothing to do");
    drop(client);
    assert_eq!(
        kind(soon(server.recv()).await),
        io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn a_writer_that_waits_for_room_learns_that_the_reader_is_gone() {
    let (mut client, server) = pair().await;
    for _ in 0..3 {
        client
            .queue(Packet::binary(vec![0; 1 << 20]))
            .expect("in version 2");
    }
    let bell = Bell::new();
    assert!(bell.poll(|cx| client.poll_flush(cx)).is_pending());
    drop(server);
    let lost = soon(bell.until(|cx| client.poll_flush(cx))).await;
    assert_eq!(kind(lost), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn closing_closes_for_this_end_too() {
    let (mut client, _server) = pair().await;
    client.close(&CloseReason::normal()).await.expect("closed");
    client.queue(Packet::text("late")).expect("in version 2");
    assert_eq!(kind(soon(client.flush()).await), io::ErrorKind::BrokenPipe);
}

#[tokio::test]
async fn what_no_encoder_takes_is_not_queued() {
    let (mut client, _server) = pair().await;
    let hello = Packet::numbered(msgtrans_core::PacketType::Hello, 0, vec![0; 16 * 1024 + 1]);
    assert!(client.queue(hello).is_err());
}
