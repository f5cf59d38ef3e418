//! What was handed over arrives: to slow readers, across each other, and before a server goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use msgtrans::tls::ClientTls;
use msgtrans::{CloseReason, Handler, HandlerError, Packet, Session, TransportServer};
use msgtrans_testkit::adversary::websocket::{self, ClientFrame, opcode};
use msgtrans_testkit::adversary::{Frame, Wire, kind};
use msgtrans_testkit::sessions::{next_message, only_session};
use tokio::io::AsyncReadExt;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::support::{SCHEMES, address, connect, dial, identity, listen, run, start};

/// Answers with four MiB less a bit, so that no buffer ends where the answer does.
struct Generous;

const ANSWER: usize = 4 * 1024 * 1024 - 777;

impl Handler for Generous {
    async fn on_request(&self, _: &Session, _: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(vec![7; ANSWER]))
    }
}

#[test]
fn the_tail_of_a_large_response_reaches_a_slow_reader_over_tls() {
    run(async {
        for scheme in ["tls", "wss"] {
            let server = listen(TransportServer::builder(), scheme).with_handler(Generous);
            let server = start(server).await;
            let socket = TcpSocket::new_v4().expect("a socket");
            // A window of the smallest, so that the server's writes stop again and again.
            socket.set_recv_buffer_size(4_096).expect("an option");
            let to = address(&server).parse().expect("an address");
            let stream = socket.connect(to).await.expect("connected");
            let tls = ClientTls::new().pin(identity().spki_pin());
            let config = tls.build(&[]).expect("a configuration");
            let name = tls.name_for("localhost").expect("a name");
            let stream = TlsConnector::from(config).connect(name, stream).await;
            let mut wire = Wire::over(stream.expect("a handshake"));
            let request = Frame::v2(kind::REQUEST).id(1);
            if scheme == "tls" {
                wire.open().await.expect("a session");
                wire.send(&request).await.expect("sent");
            } else {
                let upgraded = websocket::upgrade(&mut wire.stream, "localhost").await;
                upgraded.expect("upgraded");
                for frame in [Frame::hello(), request] {
                    let message = ClientFrame::new(opcode::BINARY, frame.bytes());
                    wire.write(&message.bytes()).await.expect("sent");
                }
                websocket::read(&mut wire.stream).await.expect("Welcome");
            }
            // Not another byte is written to this connection by either side.
            let mut missing = ANSWER;
            let mut part = vec![0; 16 * 1024];
            while missing > 0 {
                let len = wire.stream.read(&mut part).await.expect("still open");
                assert!(len > 0, "{scheme}: {missing} bytes never came");
                missing = missing.saturating_sub(len);
                tokio::task::yield_now().await;
            }
        }
    });
}

#[test]
fn two_frames_of_16_mib_cross_each_other() {
    run(async {
        for scheme in SCHEMES {
            let server = start(listen(TransportServer::builder(), scheme)).await;
            let mut there = server.events();
            let client = connect(dial(&server, scheme)).await;
            let mut here = client.events();
            let session = only_session(&server).await;
            let large = |byte| Packet::binary(vec![byte; 16 * 1024 * 1024]);
            let sending = async {
                let (a, b) = tokio::join!(client.send(large(1)), session.send(large(2)));
                a.expect("queued");
                b.expect("queued");
            };
            let reading = async { tokio::join!(next_message(&mut here), next_message(&mut there)) };
            let ((), (down, up)) = tokio::join!(sending, reading);
            assert_eq!(down.payload.first(), Some(&2), "{scheme}");
            assert_eq!(up.payload.first(), Some(&1), "{scheme}");
            assert_eq!(up.payload.len() + down.payload.len(), 32 * 1024 * 1024);
            client.disconnect().await.expect("disconnected");
        }
    });
}

/// Counts ends.
struct Ends(Arc<AtomicUsize>);

impl Handler for Ends {
    async fn on_disconnect(&self, _: &Session, _: &CloseReason) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_shutdown_writes_what_was_queued_and_every_end_is_heard_of_once() {
    const CLIENTS: usize = 5;
    const MESSAGES: u32 = 100;
    run(async {
        for scheme in SCHEMES {
            let ends = Arc::new(AtomicUsize::new(0));
            let server = listen(TransportServer::builder(), scheme);
            let server = start(server.with_handler(Ends(ends.clone()))).await;
            let mut clients = Vec::new();
            for _ in 0..CLIENTS {
                clients.push(connect(dial(&server, scheme)).await);
            }
            let mut streams: Vec<_> = clients.iter().map(|client| client.events()).collect();
            for id in server.active_sessions().await {
                let session = server.session(id).expect("open");
                for number in 0..MESSAGES {
                    let packet = Packet::echo(number, vec![3; 2_000]);
                    session.send(packet).await.expect("queued");
                }
            }
            let report = server.shutdown().await;
            assert!(report.is_clean(), "{scheme}: {report:?}");
            assert_eq!(ends.load(Ordering::Relaxed), CLIENTS, "{scheme}");
            for stream in &mut streams {
                for number in 0..MESSAGES {
                    let packet = next_message(stream).await;
                    assert_eq!(packet.message_id, number, "{scheme}");
                }
            }
        }
    });
}

#[test]
fn a_quic_server_at_its_capacity_refuses_and_goes_on() {
    run(async {
        let server = listen(TransportServer::builder(), "quic").max_connections(1);
        let server = start(server).await;
        let first = connect(dial(&server, "quic")).await;
        for _ in 0..5 {
            // Of version 1 and silent: it never shows its stream, and must not be waited for.
            let silent = dial(&server, "quic").wire(msgtrans::WireVersions::V1);
            let silent = silent.build().await.expect("valid");
            // It hears of the refusal as an end of the connection, at once or a moment later.
            let _ = silent.connect().await;
            let second = dial(&server, "quic").build().await.expect("valid");
            second.connect().await.expect_err("one too many");
        }
        first.disconnect().await.expect("disconnected");
        let third = dial(&server, "quic").build().await.expect("valid");
        // The place is free once the session's task has ended.
        while third.connect().await.is_err() {}
        third.disconnect().await.expect("disconnected");
    });
}
