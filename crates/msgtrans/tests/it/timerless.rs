//! A server needs no timers of the runtime, unless it speaks QUIC: every wait of its own is on the process's wheel.

use std::future::{Future, pending};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use msgtrans::{
    CloseReason, Code, Handler, HandlerError, Packet, Session, ShutdownReport, TransportServer,
    TransportServerBuilder,
};
use tokio::sync::oneshot;

use crate::raw::Raw;
use crate::support::{Log, Protocol, connect, next_message, run, start, until};

const TIMERLESS: [Protocol; 3] = [Protocol::Tcp, Protocol::Ws, Protocol::Inproc];

/// Runs `test` with a server that lives on a thread and a runtime of its own, without timers.
fn beside<F: Future>(
    builder: impl FnOnce() -> TransportServerBuilder + Send + 'static,
    test: impl FnOnce(Arc<TransportServer>) -> F,
) -> ShutdownReport {
    let (tell, told) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let server = Arc::new(start(builder()).await);
            tell.send(server.clone()).expect("somebody waits");
            // An error is the test's panic.
            let _ = stopped.await;
            server.shutdown().await
        })
    });
    let server = told.recv().expect("a server");
    let mut report = ShutdownReport::default();
    run(async {
        // What the test keeps open stays open while the server stops.
        let _kept = test(server).await;
        drop(stop);
        // Tasks have threads of their own: it is the test's that waits.
        report = thread.join().expect("the server needed no timer");
    });
    report
}

struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session.send(packet).await?;
        Ok(())
    }
}

#[test]
fn sessions_open_echo_and_end() {
    let builder = || {
        let protocols = TIMERLESS.iter();
        protocols
            .fold(TransportServer::builder(), |builder, protocol| {
                protocol.listen(builder)
            })
            .with_handler(Echo)
    };
    beside(builder, |server| async move {
        for (protocol, endpoint) in TIMERLESS.iter().zip(server.local_endpoints()) {
            let client = connect(protocol.dial(&endpoint)).await;
            let mut events = client.events();
            client.send(Packet::binary("timeless")).await.expect("sent");
            assert_eq!(next_message(&mut events).await.payload, "timeless");
            client.disconnect().await.expect("said goodbye");
        }
        until(|| server.session_count() == 0).await;
    });
}

#[test]
fn who_asks_for_no_upgrade_is_refused() {
    beside(
        || Protocol::Ws.server(),
        |server| async move {
            let port = server.local_endpoints()[0].port().expect("a port");
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
            stream
                .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                .expect("written");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("read to its end");
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        },
    );
}

/// Sends to its own session until there is no room in time, and tells how the session ends.
struct Flood(Log<CloseReason>);

impl Handler for Flood {
    async fn on_message(&self, session: &Session, _: Packet) -> Result<(), HandlerError> {
        loop {
            session.send(Packet::binary(vec![0; 60_000])).await?;
        }
    }

    async fn on_disconnect(&self, _: &Session, reason: &CloseReason) {
        self.0.put(reason.clone());
    }
}

#[test]
fn a_send_waits_for_room_no_longer_than_it_may() {
    let (ended, mut told) = Log::new();
    let builder = || {
        let builder = Protocol::Tcp.server().with_handler(Flood(ended));
        builder.send_timeout(Duration::from_millis(50))
    };
    beside(builder, |server| async move {
        let (mut peer, _) = Raw::v2(&server).await;
        peer.send(&Packet::binary("begin")).await;
        // A handler that panics would have ended it before.
        let reason = told.recv().await.expect("the session has ended");
        assert_eq!(reason.code, Code::SLOW_CONSUMER, "{reason}");
        peer
    });
}

/// Says that it has begun, and never ends.
struct Endless(Log<()>);

impl Handler for Endless {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        self.0.put(());
        pending().await
    }
}

#[test]
fn a_shutdown_waits_for_work_no_longer_than_it_may() {
    let (begun, mut told) = Log::new();
    let builder = || {
        let builder = Protocol::Tcp.server().with_handler(Endless(begun));
        builder.graceful_shutdown(Duration::from_millis(50))
    };
    let report = beside(builder, |server| async move {
        let client = Protocol::Tcp.connected(&server).await;
        client.send(Packet::binary("begin")).await.expect("sent");
        told.recv().await.expect("the handler has begun");
        client
    });
    assert_eq!((report.sessions, report.closed), (1, 1));
}
