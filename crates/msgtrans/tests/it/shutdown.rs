//! Shutdowns that are begun anywhere, and what is free behind them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use msgtrans::{Handler, HandlerError, Packet, RequestError, Session, TransportServer};
use tokio::sync::Notify;

use crate::raw::Raw;
use crate::support::{Protocol, next_close, only_session, run, start, until};

/// Never done with a message.
struct Busy(Arc<Notify>);

impl Handler for Busy {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        self.0.notify_one();
        std::future::pending().await
    }
}

/// Begins a shutdown on a runtime that ends at once; `turns` is how often its tasks have a turn.
fn begin_elsewhere(server: TransportServer, turns: usize) {
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut shutdown = pin!(server.shutdown());
            poll_fn(|cx| {
                assert!(shutdown.as_mut().poll(cx).is_pending(), "there is work");
                Poll::Ready(())
            })
            .await;
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
        });
    });
    elsewhere.join().expect("it only begins");
}

#[test]
fn a_shutdown_whose_runtime_ends_first_ends_the_server_all_the_same() {
    run(async {
        for turns in [0, 10] {
            let begun = Arc::new(Notify::new());
            let builder = Protocol::Tcp.server().with_handler(Busy(begun.clone()));
            let server = start(builder).await;
            let (mut raw, _) = Raw::v2(&server).await;
            raw.send(&Packet::text("work")).await;
            begun.notified().await;
            begin_elsewhere(server.clone(), turns);
            // The same shutdown, begun already.
            let report = server.shutdown().await;
            assert_eq!((report.sessions, report.closed), (1, 1), "{report:?}");
            while raw.recv().await.is_some() {}
        }
    });
}

/// On an address of its own, where no other test can take the port: on Linux all of 127.0.0.0/8 is this machine.
#[cfg(target_os = "linux")]
#[test]
fn behind_a_shutdown_the_port_is_free() {
    run(async {
        let mut url = "tcp://127.0.87.1:0".to_owned();
        for _ in 0..50 {
            let builder = TransportServer::builder().with_protocol(url.clone());
            let server = start(builder).await;
            url = server.local_endpoints()[0].to_string();
            assert!(server.shutdown().await.is_clean());
        }
    });
}

#[test]
fn a_server_whose_runtime_ends_first_tells_everybody() {
    let protocols = [Protocol::Tcp, Protocol::Ws, Protocol::Inproc];
    for (protocol, stops) in protocols
        .into_iter()
        .flat_map(|it| [(it, false), (it, true)])
    {
        let theirs = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let server = theirs.block_on(start(protocol.server()));
        run(async move {
            let mut events = server.events();
            let client = protocol.connected(&server).await;
            let session = only_session(&server).await;
            let asker = session.clone();
            let asked = tokio::spawn(async move {
                let request = Packet::request("nobody answers");
                asker.request_with(request, Duration::MAX).await
            });
            until(|| session.stats().requests_pending == 1).await;
            if stops {
                // Wherever it has come to: a request at work holds it up.
                let server = server.clone();
                theirs.spawn(async move { server.shutdown().await });
            }
            theirs.shutdown_background();
            session.closed().await;
            let failed = asked.await.expect("it does not panic");
            assert!(matches!(failed, Err(RequestError::Closed(_))), "{failed:?}");
            next_close(&mut events).await;
            until(|| !client.is_connected()).await;
            assert_eq!(server.session_count(), 0);
            let report = server.shutdown().await;
            assert!(stops || report.is_clean(), "{report:?}");
        });
    }
}
