//! Panics of the application where a session opens, sends and ends: nothing is left behind, and everybody hears of the end.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use msgtrans::{
    CloseReason, Handler, HandlerError, Middleware, Packet, PacketType, Session, TransportEvent,
};

use crate::raw::Raw;
use crate::support::{Protocol, connect, next_close, only_session, run, start, until};

/// Counts the ends of sessions, and panics where it is told to.
struct Ends {
    count: Arc<AtomicU32>,
    panics: bool,
}

impl Ends {
    fn hear(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "as the test wishes");
    }
}

impl Middleware for Ends {
    fn on_close(&self, _: &Session, _: &CloseReason) {
        self.hear();
    }
}

impl Handler for Ends {
    fn on_disconnect(&self, _: &Session, _: &CloseReason) -> impl Future<Output = ()> + Send {
        // At each poll, which there must be one of.
        poll_fn(|_| {
            self.hear();
            Poll::Ready(())
        })
    }
}

fn ends(panics: bool) -> (Ends, Arc<AtomicU32>) {
    let count = Arc::<AtomicU32>::default();
    let ends = Ends {
        count: count.clone(),
        panics,
    };
    (ends, count)
}

#[test]
fn a_middleware_that_panics_at_the_end_of_a_session_leaves_nothing_of_it() {
    const SESSIONS: u32 = 3;
    run(async {
        let (first, panics) = ends(true);
        let (second, hears) = ends(false);
        let builder = Protocol::Tcp.server().max_connections(1);
        let server = start(builder.with_middleware(first).with_middleware(second)).await;
        let mut events = server.events();
        for round in 1..=SESSIONS {
            let (raw, _) = Raw::v2(&server).await;
            let session = only_session(&server).await;
            drop(raw);
            session.closed().await;
            next_close(&mut events).await;
            // The only place is free again behind the end.
            until(|| server.session_count() == 0).await;
            assert_eq!(hears.load(Ordering::Relaxed), round);
            assert_eq!(panics.load(Ordering::Relaxed), round);
        }
        assert_eq!(server.stats().sessions_closed, u64::from(SESSIONS));
        server.shutdown().await;
        while let Some(event) = events.next().await {
            let again = matches!(event, TransportEvent::ConnectionClosed { .. });
            assert!(!again, "the end of a session comes once");
        }
    });
}

#[test]
fn a_handler_that_panics_at_the_end_of_a_session_is_asked_once_and_leaves_nothing_of_it() {
    run(async {
        let (handler, count) = ends(true);
        let builder = Protocol::Tcp.server().max_connections(1);
        let server = start(builder.with_handler(handler)).await;
        for round in 1..=3 {
            let (raw, _) = Raw::v2(&server).await;
            drop(raw);
            until(|| server.session_count() == 0).await;
            until(|| count.load(Ordering::Relaxed) == round).await;
        }
        assert!(server.shutdown().await.is_clean());
        assert_eq!(count.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn a_request_whose_middleware_panics_is_no_longer_awaited() {
    struct NoRequests;
    impl Middleware for NoRequests {
        fn on_outbound(&self, _: &Session, packet: &mut Packet) -> Result<(), HandlerError> {
            assert_ne!(
                packet.packet_type,
                PacketType::Request,
                "as the test wishes"
            );
            Ok(())
        }
    }
    run(async {
        let server = start(Protocol::Tcp.server()).await;
        let client = connect(Protocol::Tcp.client(&server).with_middleware(NoRequests)).await;
        let asker = client.clone();
        let asked = tokio::spawn(async move { asker.request(Packet::request("?")).await });
        assert!(asked.await.expect_err("it panics").is_panic());
        let session = client.session().expect("the caller alone has failed");
        assert_eq!(session.stats().requests_pending, 0);
        client.send(Packet::text("still here")).await.expect("sent");
    });
}
