//! Version 1 on QUIC, with a peer that knows nothing but quinn.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Buf;
use msgtrans_core::{OutBuffer, Packet, PacketType, WireVersion, WireVersions, encode};
use msgtrans_tls::{ClientTls, Identity, ServerTls, SpkiPin};
use msgtrans_transport::ConnectionError;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};

use crate::end::{Bound, End, bind, dial, hello, local, packet};

/// A client that writes bytes.
pub(crate) struct Raw {
    pub(crate) connection: quinn::Connection,
    pub(crate) send: quinn::SendStream,
    pub(crate) recv: quinn::RecvStream,
    _endpoint: quinn::Endpoint,
}

impl Raw {
    pub(crate) async fn connect(address: &str, pin: SpkiPin, alpn: &[u8]) -> Self {
        let tls = ClientTls::new().pin(pin).build(&[alpn]).expect("builds");
        let crypto = QuicClientConfig::try_from(tls).expect("QUIC");
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let any = "127.0.0.1:0".parse().expect("an address");
        let endpoint = quinn::Endpoint::client(any).expect("bound");
        let address = address.parse().expect("an address");
        let connecting = endpoint.connect_with(config, address, "localhost");
        let connection = connecting.expect("dials").await.expect("connected");
        let (send, recv) = connection.open_bi().await.expect("opened");
        Self {
            connection,
            send,
            recv,
            _endpoint: endpoint,
        }
    }
}

/// A raw client of version 2 that has said Hello, and the server's end.
pub(crate) async fn raw_pair() -> (Raw, End, Bound) {
    let mut bound = bind(local()).await;
    let (address, pin) = (bound.address.clone(), bound.identity.spki_pin());
    let connected = async {
        let mut raw = Raw::connect(&address, pin, b"msgtrans/2").await;
        let hello = frame(&hello(WireVersion::V2), WireVersion::V2);
        raw.send.write_all(&hello).await.expect("written");
        raw
    };
    let (raw, server) = tokio::join!(connected, bound.accept());
    let mut server = server.expect("accepted");
    server.expect().await;
    (raw, server, bound)
}

fn frame(packet: &Packet, version: WireVersion) -> Vec<u8> {
    let mut out = OutBuffer::new();
    encode(packet, version, &mut out).expect("encodes");
    out.copy_to_bytes(out.remaining()).to_vec()
}

/// A frame behind its length.
fn prefixed(packet: &Packet) -> Vec<u8> {
    let frame = frame(packet, WireVersion::V1);
    let mut bytes = (frame.len() as u32).to_be_bytes().to_vec();
    bytes.extend_from_slice(&frame);
    bytes
}

/// A raw client of version 1 that has opened its stream and written nothing, and the server's end.
async fn silent_pair() -> (Raw, End, Bound) {
    let mut bound = bind(local()).await;
    let (address, pin) = (bound.address.clone(), bound.identity.spki_pin());
    let connected = Raw::connect(&address, pin, b"msgtrans/1");
    let (raw, server) = tokio::join!(connected, bound.accept());
    (raw, server.expect("accepted before its stream"), bound)
}

#[tokio::test]
async fn the_bytes_on_the_stream_are_lengths_and_frames() {
    let (mut raw, mut server, _bound) = silent_pair().await;
    assert_eq!(server.connection.info().negotiated, Some(WireVersion::V1));
    assert!(server.connection.info().secure);
    let packets = [packet(1, 0), packet(2, 10), packet(3, 9000)];
    let bytes: Vec<u8> = packets.iter().flat_map(prefixed).collect();
    raw.send.write_all(&bytes).await.expect("written");
    for packet in &packets {
        assert_eq!(server.expect().await, *packet);
        server.queue(packet.clone());
    }
    server.flush().await.expect("written");
    let mut back = vec![0; bytes.len()];
    raw.recv.read_exact(&mut back).await.expect("read");
    assert!(back == bytes);
    raw.send.finish().expect("finished");
    assert!(matches!(server.recv().await, Ok(None)));
}

#[tokio::test]
async fn what_a_server_has_to_say_waits_for_the_stream() {
    let (mut raw, mut server, _bound) = silent_pair().await;
    let early = packet(9, 100);
    server.queue(early.clone());
    // Reader and writer wait in tasks' clothing of their own: both have to be woken.
    let mut read = None;
    let waits = poll_fn(|cx| {
        let End {
            connection,
            out,
            inbox,
        } = &mut server;
        read = Some(connection.poll_recv(cx, 1, inbox).is_pending());
        Poll::Ready(connection.poll_send(cx, out).is_pending())
    });
    assert!(waits.await, "there is no stream to write to");
    assert_eq!(read, Some(true));
    let (flushed, ()) = tokio::join!(server.flush(), async {
        // The lone zero that makes a stream visible.
        raw.send.write_all(&[0]).await.expect("written");
        let expected = prefixed(&early);
        let mut got = vec![0; expected.len()];
        raw.recv.read_exact(&mut got).await.expect("read");
        assert_eq!(got, expected);
    });
    flushed.expect("written");
    let quiet = poll_fn(|cx| {
        Poll::Ready(
            server
                .connection
                .poll_recv(cx, 1, &mut server.inbox)
                .is_pending(),
        )
    });
    assert!(quiet.await);
    assert_eq!(server.connection.progress().read, 0, "it begins no frame");
    let rest = prefixed(&packet(1, 20));
    raw.send.write_all(&rest[1..]).await.expect("written");
    assert_eq!(server.expect().await, packet(1, 20));
    assert_eq!(server.connection.progress().read, rest.len() as u64);
}

#[tokio::test]
async fn a_stream_that_ends_after_the_lone_zero_has_ended_well() {
    let (mut raw, mut server, _bound) = silent_pair().await;
    raw.send.write_all(&[0]).await.expect("written");
    raw.send.finish().expect("finished");
    assert!(matches!(server.recv().await, Ok(None)));
}

#[tokio::test]
async fn a_client_that_never_shows_its_stream_can_be_closed() {
    let (raw, mut server, _bound) = silent_pair().await;
    let reason = msgtrans_core::CloseReason::local(msgtrans_core::Code(12), "gone");
    server.close(&reason).await;
    let quinn::ConnectionError::ApplicationClosed(close) = raw.connection.closed().await else {
        panic!("no close");
    };
    assert_eq!(close.error_code, 12_u32.into());
    assert_eq!(&close.reason[..], b"gone");
}

#[tokio::test]
async fn a_wrong_length_is_a_framing_error() {
    let (mut raw, mut server, _bound) = silent_pair().await;
    let mut bytes = prefixed(&packet(1, 5));
    bytes[3] += 1;
    raw.send.write_all(&bytes).await.expect("written");
    let error = server.recv().await.expect_err("refused");
    assert!(matches!(error, ConnectionError::Decode(_)), "{error}");
}

/// A quinn server of version 1, and our client's end of a connection to it.
struct RawServer {
    connection: quinn::Connection,
    _endpoint: quinn::Endpoint,
    _client: msgtrans_quic::QuicClientConfig,
}

async fn raw_server() -> (RawServer, End) {
    let identity = Identity::development().expect("an identity");
    let tls = ServerTls::new(identity.clone()).build(&[b"msgtrans/1"]);
    let crypto = QuicServerConfig::try_from(tls.expect("builds")).expect("QUIC");
    let config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let any = "127.0.0.1:0".parse().expect("an address");
    let endpoint = quinn::Endpoint::server(config, any).expect("bound");
    let address = endpoint.local_addr().expect("bound").to_string();
    let client = msgtrans_quic::QuicClientConfig::new(address).with_pin(identity.spki_pin());
    let (dialled, accepted) = tokio::join!(dial(&client, WireVersions::V1), async {
        endpoint.accept().await.expect("a client").await
    });
    let server = RawServer {
        connection: accepted.expect("accepted"),
        _endpoint: endpoint,
        _client: client,
    };
    (server, dialled.expect("dialled"))
}

/// Reads what arrives while the client waits for something to read.
async fn while_idle(client: &mut End, recv: &mut quinn::RecvStream, bytes: &mut [u8]) {
    tokio::select! {
        received = client.recv() => panic!("{received:?}"),
        read = recv.read_exact(bytes) => read.expect("read"),
    }
}

#[tokio::test]
async fn a_client_with_nothing_to_say_makes_its_stream_visible_and_goes_on_behind() {
    let (server, mut client) = raw_server().await;
    let (mut send, mut recv) = tokio::select! {
        received = client.recv() => panic!("{received:?}"),
        accepted = server.connection.accept_bi() => accepted.expect("a stream"),
    };
    let mut zero = [7];
    while_idle(&mut client, &mut recv, &mut zero).await;
    assert_eq!(zero, [0]);
    // The server speaks first, as the published one does.
    send.write_all(&prefixed(&packet(5, 30)))
        .await
        .expect("written");
    assert_eq!(client.expect().await, packet(5, 30));
    client.queue(packet(1, 3));
    client.queue(packet(2, 4));
    client.flush().await.expect("written");
    let mut expected = prefixed(&packet(1, 3));
    expected.extend(prefixed(&packet(2, 4)));
    let mut got = vec![0; expected.len() - 1];
    recv.read_exact(&mut got).await.expect("read");
    assert_eq!(got, expected[1..]);
}

#[tokio::test]
async fn a_client_that_speaks_at_once_adds_nothing() {
    let (server, mut client) = raw_server().await;
    client.send(packet(1, 3)).await;
    let (_send, mut recv) = server.connection.accept_bi().await.expect("a stream");
    let expected = prefixed(&packet(1, 3));
    let mut got = vec![0; expected.len()];
    recv.read_exact(&mut got).await.expect("read");
    assert_eq!(got, expected);
    let more = tokio::time::timeout(Duration::from_millis(150), async {
        while_idle(&mut client, &mut recv, &mut [0]).await;
    });
    assert!(more.await.is_err(), "something came behind the only frame");
}

#[tokio::test]
async fn a_first_frame_too_long_for_the_zero_fails_by_name() {
    let (server, mut client) = raw_server().await;
    tokio::select! {
        received = client.recv() => panic!("{received:?}"),
        accepted = server.connection.accept_bi() => drop(accepted.expect("a stream")),
    }
    client.queue(Packet::new(PacketType::OneWay, vec![0; 1 << 24]));
    let error = client.flush().await.expect_err("refused");
    assert!(error.to_string().contains("2^24"), "{error}");
    assert!(client.out.len() > 1 << 24, "it stays with the session");
}
