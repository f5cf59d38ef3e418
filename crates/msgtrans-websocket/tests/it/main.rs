//! Real sockets: our listener and connector with each other, and each of them with tungstenite.

mod conformance;

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::task::Poll;
use std::time::Duration;

use msgtrans_core::{
    CloseReason, ConnectError, Limits, Packet, PacketBatch, PeerAddress, WireVersion, WireVersions,
};
use msgtrans_transport::{
    Connection, Connector, DialContext, Incoming, ListenContext, Listener, OutboundBatch, Received,
    ServerProtocol,
};
use msgtrans_websocket::{WebSocketClientConfig, WebSocketServerConfig};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::server::{Request, Response};

const BUDGET: usize = 1 << 20;

async fn bind(config: WebSocketServerConfig) -> (Box<dyn Listener>, String) {
    let context = ListenContext::new(WireVersions::Any, Limits::default());
    let listener = config.bind(&context).await.expect("a free port");
    let endpoint = listener.local_endpoint();
    let address = endpoint.authority().expect("a port");
    (listener, address)
}

async fn accept(listener: &mut dyn Listener) -> Result<Box<dyn Connection>, ConnectError> {
    match poll_fn(|cx| listener.poll_accept(cx))
        .await
        .expect("a listener that works")
    {
        Incoming::Handshake {
            peer, handshake, ..
        } => {
            assert!(matches!(peer, PeerAddress::Socket(_)));
            handshake.await
        }
        Incoming::Connection(_) => panic!("an upgrade is a handshake"),
    }
}

async fn dial(
    config: &impl Connector,
    wire: WireVersions,
) -> Result<Box<dyn Connection>, ConnectError> {
    config
        .connect(&DialContext::new(wire, Limits::default()))
        .await
}

/// Sends everything back until the peer closes, and closes in good order.
async fn echo(connection: &mut dyn Connection) {
    let mut version = connection.info().negotiated;
    let mut received = PacketBatch::new();
    loop {
        let outcome = poll_fn(|cx| connection.poll_recv(cx, BUDGET, &mut received)).await;
        if outcome.expect("a peer that keeps the rules") == Received::End {
            break;
        }
        let version = *version.get_or_insert_with(|| received.version().expect("a packet"));
        connection.set_wire(version, Limits::default());
        send(connection, version, std::iter::from_fn(|| received.pop())).await;
    }
    close(connection).await;
}

async fn send(
    connection: &mut dyn Connection,
    version: WireVersion,
    packets: impl IntoIterator<Item = Packet>,
) {
    let mut out = OutboundBatch::new(connection.framing(), version);
    for packet in packets {
        out.push(&packet).expect("encodable");
    }
    poll_fn(|cx| connection.poll_send(cx, &mut out))
        .await
        .expect("a peer that reads");
    out.recycle();
}

async fn recv(connection: &mut dyn Connection) -> Packet {
    let mut received = PacketBatch::new();
    let outcome = poll_fn(|cx| connection.poll_recv(cx, BUDGET, &mut received)).await;
    assert_ne!(outcome.expect("a peer that keeps the rules"), Received::End);
    received.pop().expect("a packet")
}

async fn close(connection: &mut dyn Connection) {
    let reason = CloseReason::normal();
    poll_fn(|cx| connection.poll_close(cx, &reason))
        .await
        .expect("a peer that closes too");
}

/// Runs both sides; either may finish first.
async fn both<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(a, b) })
        .await
        .expect("done long before")
}

/// One packet there and back between a listener and a connector; the versions they negotiated.
async fn round_trip(
    server: WebSocketServerConfig,
    client: impl FnOnce(String) -> WebSocketClientConfig,
    wire: WireVersions,
    version: WireVersion,
) -> (Option<WireVersion>, Option<WireVersion>) {
    let (mut listener, address) = bind(server).await;
    let client = client(address);
    let serve = async {
        let mut connection = accept(listener.as_mut()).await.expect("a legal upgrade");
        echo(connection.as_mut()).await;
        connection.info().negotiated
    };
    let ask = async {
        let mut connection = dial(&client, wire).await.expect("a server that accepts");
        connection.set_wire(version, Limits::default());
        for len in [0, 100, 100_000] {
            let packet = Packet::binary(vec![7; len]).with_message_id(5);
            send(connection.as_mut(), version, [packet.clone()]).await;
            let back = recv(connection.as_mut()).await;
            assert!(
                back.payload == packet.payload && back.message_id == 5,
                "{len} bytes"
            );
        }
        close(connection.as_mut()).await;
        connection.info().negotiated
    };
    both(serve, ask).await
}

#[tokio::test]
async fn packets_go_there_and_back_in_the_version_that_was_negotiated() {
    for (wire, version) in [
        (WireVersions::Any, WireVersion::V2),
        (WireVersions::V2, WireVersion::V2),
        (WireVersions::V1, WireVersion::V1),
    ] {
        let server = WebSocketServerConfig::new("127.0.0.1:0").path("/chat");
        let client = |address| WebSocketClientConfig::new(address).path("/chat?room=1");
        let negotiated = round_trip(server, client, wire, version).await;
        assert_eq!(negotiated, (Some(version), Some(version)), "{wire:?}");
    }
}

#[tokio::test]
async fn behind_a_lone_packet_whoever_read_it_is_woken_without_asking_again() {
    let (mut listener, address) = bind(WebSocketServerConfig::new("127.0.0.1:0")).await;
    let client = WebSocketClientConfig::new(address);
    let (served, dialled) = both(accept(listener.as_mut()), dial(&client, WireVersions::V2)).await;
    let mut here = served.expect("a legal upgrade");
    let mut peer = dialled.expect("a server that accepts");
    for connection in [&mut here, &mut peer] {
        connection.set_wire(WireVersion::V2, Limits::default());
    }
    let packet = Packet::binary(vec![7; 64]).with_message_id(5);
    let mut lone = 0;
    for _ in 0..100 {
        let mut batch = PacketBatch::new();
        let received = poll_fn(|cx| here.poll_recv(cx, BUDGET, &mut batch));
        let (_, received) = both(
            send(peer.as_mut(), WireVersion::V2, [packet.clone()]),
            received,
        )
        .await;
        assert_eq!(batch.len(), 1);
        if received.expect("a packet") != Received::Lone {
            // The socket has been told of the packet once more, behind the read.
            continue;
        }
        lone += 1;
        // The send is done at once: only who was stored by the look polls this again.
        let mut polled = false;
        let woken = poll_fn(|_| {
            if std::mem::replace(&mut polled, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        let again = send(peer.as_mut(), WireVersion::V2, [packet.clone()]);
        both(woken, again).await;
        recv(here.as_mut()).await;
    }
    assert!(lone > 0, "no packet came alone");
}

#[tokio::test]
async fn a_refusal_tells_the_client_why() {
    let server = WebSocketServerConfig::new("127.0.0.1:0")
        .path("/chat")
        .wire(WireVersions::V2);
    let (mut listener, address) = bind(server).await;
    for (client, wire, words) in [
        (
            WebSocketClientConfig::new(&address).path("/other"),
            WireVersions::V2,
            "404",
        ),
        (
            WebSocketClientConfig::new(&address).path("/chat"),
            WireVersions::V1,
            "subprotocols",
        ),
        (
            WebSocketClientConfig::new(&address)
                .path("/chat")
                .origin("https://evil.example"),
            WireVersions::V2,
            "origin is not allowed",
        ),
    ] {
        let (served, dialled) = both(async { accept(listener.as_mut()).await.err() }, async {
            dial(&client, wire).await.err()
        })
        .await;
        assert!(matches!(
            served,
            Some(ConnectError::Handshake {
                stage: "upgrade",
                ..
            })
        ));
        let Some(
            error @ ConnectError::Handshake {
                stage: "upgrade", ..
            },
        ) = dialled
        else {
            panic!("{dialled:?}");
        };
        assert!(!error.is_retryable());
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_used_port_is_an_error_of_binding() {
    let (_listener, address) = bind(WebSocketServerConfig::new("127.0.0.1:0")).await;
    let context = ListenContext::new(WireVersions::Any, Limits::default());
    let again = WebSocketServerConfig::new(&address);
    let error = again.bind(&context).await.err().expect("the port is used");
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn what_is_no_upgrade_gets_an_http_answer_at_once() {
    let (mut listener, address) = bind(WebSocketServerConfig::new("127.0.0.1:0")).await;
    for (bytes, status) in [
        (&b"\x16\x03\x01\x02\x00"[..], "400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "426"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
    ] {
        let address: SocketAddr = address.parse().expect("an address");
        let peer = tokio::task::spawn_blocking(move || {
            let mut socket = TcpStream::connect(address).expect("a listener");
            socket.write_all(bytes).expect("a server that reads");
            let mut answer = String::new();
            socket
                .read_to_string(&mut answer)
                .expect("an answer, not a reset");
            answer
        });
        let (served, answer) = both(accept(listener.as_mut()), peer).await;
        assert!(served.is_err());
        let answer = answer.expect("no panic");
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
}

/// The bytes of a packet, as another implementation sends them.
fn frame(version: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![version, 0, 0, 0, 0, 0, 0, 9, 0, 0];
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn a_tungstenite_client_talks_to_our_listener() {
    let (mut listener, address) = bind(WebSocketServerConfig::new("127.0.0.1:0")).await;
    for (offer, version, negotiated) in [
        (Some("msgtrans.v1"), 1, Some(WireVersion::V1)),
        (Some("msgtrans.v2"), 2, Some(WireVersion::V2)),
        (None, 1, None),
    ] {
        let address = address.clone();
        let peer = tokio::task::spawn_blocking(move || {
            let mut request = format!("ws://{address}/any")
                .into_client_request()
                .expect("legal");
            if let Some(offer) = offer {
                let offer = offer.parse().expect("a header value");
                request
                    .headers_mut()
                    .insert("Sec-WebSocket-Protocol", offer);
            }
            let stream = TcpStream::connect(&address).expect("a listener");
            let (mut socket, response) = tungstenite::client(request, stream).expect("an upgrade");
            let chosen = response.headers().get("Sec-WebSocket-Protocol");
            assert_eq!(chosen.map(|value| value.to_str().expect("ascii")), offer);

            socket.send(Message::Ping("alive?".into())).expect("sent");
            assert_eq!(
                socket.read().expect("answered"),
                Message::Pong("alive?".into())
            );
            for len in [0, 50, 200, 70_000] {
                let frame = frame(version, &vec![3; len]);
                socket
                    .send(Message::Binary(frame.clone().into()))
                    .expect("sent");
                assert_eq!(
                    socket.read().expect("echoed"),
                    Message::Binary(frame.into())
                );
            }
            socket.close(None).expect("sent");
            while socket.read().is_ok() {}
        });
        let serve = async {
            let mut connection = accept(listener.as_mut()).await.expect("a legal upgrade");
            assert_eq!(connection.info().negotiated, negotiated);
            echo(connection.as_mut()).await;
        };
        both(serve, peer).await.1.expect("no panic");
    }
}

#[tokio::test]
async fn our_connector_talks_to_a_tungstenite_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let peer = tokio::task::spawn_blocking(move || {
        let (stream, _) = listener.accept().expect("a client");
        #[expect(
            clippy::result_large_err,
            reason = "the callback's type is tungstenite's"
        )]
        let choose = |request: &Request, mut response: Response| {
            let offered = request
                .headers()
                .get("Sec-WebSocket-Protocol")
                .expect("an offer");
            assert_eq!(offered, "msgtrans.v2, msgtrans.v1");
            let v1 = "msgtrans.v1".parse().expect("a header value");
            response.headers_mut().insert("Sec-WebSocket-Protocol", v1);
            Ok(response)
        };
        let mut socket = tungstenite::accept_hdr(stream, choose).expect("a legal request");
        loop {
            match socket.read() {
                Ok(message @ Message::Binary(_)) => socket.send(message).expect("sent"),
                Ok(other) => assert!(other.is_close(), "{other:?}"),
                Err(_) => break,
            }
        }
    });
    let ask = async {
        let client = WebSocketClientConfig::new(&address);
        let mut connection = dial(&client, WireVersions::Any).await.expect("an upgrade");
        assert_eq!(connection.info().negotiated, Some(WireVersion::V1));
        connection.set_wire(WireVersion::V1, Limits::default());
        for len in [0, 50, 200, 5_000, 70_000, 300_000] {
            let packet = Packet::binary(vec![7; len]);
            send(connection.as_mut(), WireVersion::V1, [packet.clone()]).await;
            assert!(
                recv(connection.as_mut()).await.payload == packet.payload,
                "{len} bytes"
            );
        }
        close(connection.as_mut()).await;
    };
    both(ask, peer).await.1.expect("no panic");
}

#[cfg(feature = "tls")]
mod tls {
    use msgtrans_tls::{ClientTls, Identity, Roots, ServerTls};
    use msgtrans_transport::{Endpoint, ProtocolConfig};

    use super::*;

    fn trusting(identity: &Identity) -> ClientTls {
        let pem = identity.to_pem().certificates;
        ClientTls::new().roots(Roots::from_pem(pem.as_bytes()).expect("a certificate"))
    }

    #[tokio::test]
    async fn packets_go_there_and_back_over_tls() {
        let identity = Identity::development().expect("a certificate");
        let client_tls = trusting(&identity);
        let server = WebSocketServerConfig::new("127.0.0.1:0").tls(ServerTls::new(identity));
        assert_eq!(server.endpoint().scheme(), "wss");
        let client = |address| WebSocketClientConfig::new(address).tls(client_tls);
        let negotiated = round_trip(server, client, WireVersions::Any, WireVersion::V2).await;
        assert_eq!(negotiated, (Some(WireVersion::V2), Some(WireVersion::V2)));
    }

    #[tokio::test]
    async fn a_server_that_is_not_believed_is_not_spoken_to() {
        let url = Endpoint::parse("wss://127.0.0.1:0?cert=development").expect("a URL");
        let server = WebSocketServerConfig::from_endpoint(&url).expect("legal");
        let (mut listener, address) = bind(server).await;
        let other = Identity::development().expect("a certificate");
        let client = WebSocketClientConfig::new(&address).tls(trusting(&other));
        let (served, dialled) = both(async { accept(listener.as_mut()).await.err() }, async {
            dial(&client, WireVersions::V2).await.err()
        })
        .await;
        for error in [served, dialled] {
            assert!(
                matches!(error, Some(ConnectError::Handshake { stage: "tls", .. })),
                "{error:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_plain_client_is_not_served_by_a_secure_listener() {
        let url = Endpoint::parse("wss://127.0.0.1:0?cert=development").expect("a URL");
        let server = WebSocketServerConfig::from_endpoint(&url).expect("legal");
        let (mut listener, address) = bind(server).await;
        let client = WebSocketClientConfig::new(&address);
        let (served, dialled) = both(async { accept(listener.as_mut()).await.err() }, async {
            dial(&client, WireVersions::V2).await.err()
        })
        .await;
        assert!(
            matches!(served, Some(ConnectError::Handshake { stage: "tls", .. })),
            "{served:?}"
        );
        assert!(dialled.is_some());
    }
}
