//! Queues that nobody empties, handlers that take their time, peers that look around.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use msgtrans::{Handler, HandlerError, Packet, Session, TransportServer};
use msgtrans_testkit::adversary::websocket::{self, ClientFrame, opcode};
use msgtrans_testkit::adversary::{Frame, Wire, kind};
use msgtrans_testkit::sessions::until;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{address, connect, dial, listen, run, start};

struct Chatty;

impl Handler for Chatty {
    async fn on_request(&self, session: &Session, request: Packet) -> Result<Packet, HandlerError> {
        // What the client is told besides, and does not look at.
        session.send(Packet::text("by the way")).await?;
        Ok(Packet::response(request.payload))
    }
}

#[test]
fn a_client_whose_events_nobody_reads_makes_20_000_requests_and_connects_again() {
    const REQUESTS: u32 = 20_000;
    const AT_ONCE: u32 = 32;
    run(async {
        for scheme in ["tcp", "ws"] {
            let server = listen(TransportServer::builder(), scheme);
            let server = start(server.with_handler(Chatty)).await;
            let client = Arc::new(connect(dial(&server, scheme)).await);
            let mut callers = JoinSet::new();
            for _ in 0..AT_ONCE {
                let client = client.clone();
                callers.spawn(async move {
                    for _ in 0..REQUESTS / AT_ONCE {
                        client.request("x").await.expect("answered");
                    }
                });
            }
            callers.join_all().await;
            client.disconnect().await.expect("disconnected");
            client.connect().await.expect("connected again");
            client.request("x").await.expect("answered");
            client.disconnect().await.expect("disconnected");
        }
    });
}

/// Never comes back from its first message.
struct Stuck;

impl Handler for Stuck {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        std::future::pending().await
    }
}

#[test]
fn what_waits_for_a_handler_is_bounded_in_bytes() {
    run(async {
        let server = listen(TransportServer::builder(), "tcp").with_handler(Stuck);
        let server = start(server).await;
        let mut wire = Wire::tcp(address(&server).parse().expect("an address"))
            .await
            .expect("a listener");
        wire.open().await.expect("a session");
        let block = Frame::v2(kind::ONE_WAY)
            .payload(vec![7; 1024 * 1024])
            .bytes();
        let flooding = async {
            // Far more than the kernel's buffers and all bounds together.
            for _ in 0..256 {
                wire.write(&block).await.expect("open");
            }
        };
        let stopped = timeout(Duration::from_secs(2), flooding).await;
        assert!(
            stopped.is_err(),
            "256 MiB were taken for a handler that is stuck"
        );
        // What the server has taken from the kernel: its bound, one batch, one frame that has begun.
        let taken = server.stats().bytes_in;
        assert!(taken < 8 << 20, "{} MiB are held", taken >> 20);
    });
}

#[test]
fn a_websocket_ping_is_answered_while_the_handler_waits() {
    run(async {
        let server = listen(TransportServer::builder(), "ws").with_handler(Stuck);
        let server = start(server).await;
        let mut wire = Wire::tcp(address(&server).parse().expect("an address"))
            .await
            .expect("a listener");
        let upgraded = websocket::upgrade(&mut wire.stream, "localhost").await;
        upgraded.expect("upgraded");
        let mut bytes = Vec::new();
        ClientFrame::new(opcode::BINARY, Frame::hello().bytes()).put(&mut bytes);
        // The handler takes the first and never comes back; the others wait behind it.
        for _ in 0..20 {
            let message = Frame::v2(kind::ONE_WAY).payload(vec![1; 10_000]);
            ClientFrame::new(opcode::BINARY, message.bytes()).put(&mut bytes);
        }
        wire.write(&bytes).await.expect("sent");
        websocket::read(&mut wire.stream).await.expect("Welcome");
        for number in 0..50_u8 {
            let ping = ClientFrame::new(opcode::PING, [number]);
            wire.write(&ping.bytes()).await.expect("sent");
            let pong = timeout(Duration::from_secs(10), websocket::read(&mut wire.stream)).await;
            let (first, payload) = pong.expect("in time").expect("still open");
            assert_eq!(
                (first, payload.as_slice()),
                (0x80 | opcode::PONG, &[number][..])
            );
        }
        assert_eq!(server.session_count(), 1);
    });
}

/// Everything that was logged.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut paper = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paper.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_port_scan_is_no_warning() {
    let paper = Paper::default();
    let writer = paper.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .finish();
    // One thread, whose subscriber this is: other tests log elsewhere.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let _here = tracing::subscriber::set_default(subscriber);
    runtime.block_on(async {
        for scheme in ["tcp", "tls", "ws", "wss"] {
            let server = start(listen(TransportServer::builder(), scheme)).await;
            let to = address(&server).parse().expect("an address");
            for first in [
                &b""[..],
                b"GET / HTTP/1.0\r\n\r\n",
                b"\x16\x03\x01\0\0",
                b"\0",
                &[1; 16],
            ] {
                let mut wire = Wire::tcp(to).await.expect("a listener");
                wire.write(first).await.expect("sent");
                wire.reset();
            }
            until(|| server.listener_stats().accepted == 5).await;
            let all = timeout(
                Duration::from_secs(30),
                until(|| {
                    let stats = server.stats();
                    stats.handshakes_failed + stats.sessions_closed >= 5
                }),
            );
            all.await.expect("all of them noticed");
            tracing::warn!("over {scheme}");
        }
    });
    let paper = paper.0.lock().unwrap_or_else(PoisonError::into_inner);
    let text = String::from_utf8_lossy(&paper);
    assert_eq!(text.lines().count(), 4, "{text}");
}
