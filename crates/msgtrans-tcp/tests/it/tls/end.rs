//! Ends that are said and ends that are only seen, and the last bytes of a large message.

use std::time::Duration;

use bytes::Buf;
use msgtrans_core::{CloseReason, Limits, Packet, WireVersion, WireVersions};
use msgtrans_testkit::{Bell, Peer, accept};
use msgtrans_tls::Identity;
use msgtrans_transport::{ConnectionError, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::{bind, frame, identity, local, meet, pinning, raw};

const PATIENCE: Duration = Duration::from_secs(30);

/// Our end and a raw one of a connection of version 2.
async fn pair(
    listener: &mut dyn Listener,
    address: &str,
    identity: &Identity,
) -> (Peer, TlsStream<TcpStream>) {
    let (accepted, stream) =
        tokio::join!(accept(listener), raw(address, identity, &[b"msgtrans/2"]));
    let mut peer = Peer::new(accepted.expect("came"), WireVersion::V2);
    peer.set_wire(Limits::default());
    (peer, stream)
}

/// Reads to the end: how many packets came and how it ended.
async fn read_to_end(peer: &mut Peer) -> (usize, Result<(), ConnectionError>) {
    let mut packets = 0;
    loop {
        match peer.recv().await {
            Ok(Some(_)) => packets += 1,
            Ok(None) => return (packets, Ok(())),
            Err(error) => return (packets, Err(error)),
        }
    }
}

#[tokio::test]
async fn a_fin_without_close_notify_is_a_lost_connection_wherever_it_comes() {
    let identity = identity();
    let (mut listener, address) = bind(&local(&identity)).await;
    let bytes = frame(WireVersion::V2, 5000);
    for cut in [0, 1, 15, 16, 17, 5015, 5016, 5017, 5032, 6000] {
        let (mut peer, mut stream) = pair(listener.as_mut(), &address, &identity).await;
        let sent = [&bytes[..], &bytes[..]].concat();
        stream.write_all(&sent[..cut]).await.expect("written");
        stream.flush().await.expect("written");
        // Not dropped, so that it is a FIN and no reset.
        let (mut socket, _session) = stream.into_inner();
        socket.shutdown().await.expect("written");
        let (packets, end) = read_to_end(&mut peer).await;
        assert_eq!(packets, cut / bytes.len(), "cut after {cut}");
        assert!(
            matches!(end, Err(ConnectionError::Io(_))),
            "cut after {cut}: {end:?}"
        );
    }
}

#[tokio::test]
async fn close_notify_ends_a_stream_between_frames_and_truncates_it_within_one() {
    let identity = identity();
    let (mut listener, address) = bind(&local(&identity)).await;
    let bytes = frame(WireVersion::V2, 5000);
    for cut in [0, 1, 16, 5015, 5016] {
        let (mut peer, mut stream) = pair(listener.as_mut(), &address, &identity).await;
        stream.write_all(&bytes[..cut]).await.expect("written");
        stream.shutdown().await.expect("written");
        match read_to_end(&mut peer).await {
            (packets, Ok(())) => assert_eq!(packets * bytes.len(), cut),
            (0, Err(ConnectionError::Truncated { held })) => assert_eq!(held, cut),
            other => panic!("cut after {cut}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_close_says_close_notify_and_takes_a_peer_that_does_not() {
    let identity = identity();
    let (mut listener, address) = bind(&local(&identity)).await;
    let (mut peer, mut stream) = pair(listener.as_mut(), &address, &identity).await;
    let closing = async {
        let closed = peer.close(&CloseReason::normal()).await;
        closed.expect("a peer that goes without a word is gone too");
    };
    let going = async {
        // An end that nobody said would be an error here.
        let rest = stream.read_to_end(&mut Vec::new()).await;
        assert_eq!(rest.expect("an end that was said"), 0);
        let (mut socket, _session) = stream.into_inner();
        socket.shutdown().await.expect("written");
    };
    timeout(PATIENCE, async { tokio::join!(closing, going) })
        .await
        .expect("done long before");
}

/// The published crate leaves the last bytes of such a message with the encryption until it has something else to send.
#[tokio::test]
async fn a_large_message_arrives_whole_although_nothing_follows_it() {
    const LEN: usize = 1 << 20;
    let identity = identity();
    let small = local(&identity).send_buffer(16_384);
    let (mut listener, address) = bind(&small).await;
    let (mut peer, mut stream) = pair(listener.as_mut(), &address, &identity).await;
    let taken = peer.queue_confirmed(Packet::binary(vec![7; LEN]).with_message_id(1));
    let taken = taken.expect("encodes");

    let reading = async {
        let mut got = Vec::new();
        let mut some = [0; 1500];
        while got.len() < LEN + 16 {
            let count = stream.read(&mut some).await.expect("alive");
            assert_ne!(count, 0, "ended after {}", got.len());
            got.extend_from_slice(&some[..count]);
            tokio::task::yield_now().await;
        }
        got
    };
    let writing = async { peer.flush().await.expect("alive") };
    let ((), got) = timeout(PATIENCE, async { tokio::join!(writing, reading) })
        .await
        .expect("the last bytes come without anything behind them");
    assert!(got == frame(WireVersion::V2, LEN));
    assert!(taken.await);
}

#[tokio::test]
async fn a_packet_is_not_confirmed_while_the_encryption_holds_some_of_it() {
    let identity = identity();
    let small = local(&identity).send_buffer(16_384);
    let (mut listener, address) = bind(&small).await;
    let client = pinning(&address, &identity).recv_buffer(16_384);
    let (accepted, dialled) = meet(listener.as_mut(), &client, WireVersions::V2).await;
    let mut server = Peer::new(accepted.expect("came"), WireVersion::V2);
    let mut client = Peer::new(dialled.expect("believed"), WireVersion::V2);
    server.set_wire(Limits::default());
    client.set_wire(Limits::default());
    // Packet by packet, until one is taken whole and not all of it is out.
    let bell = Bell::new();
    let mut sent = 0;
    let mut last = loop {
        let packet = Packet::binary(vec![7; 10_000]).with_message_id(1);
        let confirmed = server.queue_confirmed(packet).expect("encodes");
        sent += 1;
        if bell.poll(|cx| server.poll_flush(cx)).is_pending() && server.queued_bytes() == 0 {
            break Box::pin(confirmed);
        }
        assert!(sent < 10_000, "everything is taken at once");
    };
    let waits = bell.poll(|cx| Future::poll(last.as_mut(), cx)).is_pending();
    assert!(waits, "confirmed before it was flushed");
    let reading = async {
        for _ in 0..sent {
            assert_eq!(
                client.expect().await.expect("a packet").payload.remaining(),
                10_000
            );
        }
    };
    let writing = async { server.flush().await.expect("alive") };
    timeout(PATIENCE, async { tokio::join!(writing, reading) })
        .await
        .expect("done long before");
    assert!(last.await);
}
