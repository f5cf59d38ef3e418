//! Who is late: a peer that has said nothing, not one that was not heard.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_actor::{Bounds, Timers};
use msgtrans_core::{CloseReason, ConnectionInfo, Limits, PeerAddress, SessionId, WireVersions};
use msgtrans_transport::{Connection, StreamConnection};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::time::{Instant, advance};

use crate::{
    Accepted, EventSink, Handlers, RateLimiter, Refusal, RuntimeStats, Session, SessionConfig,
    SessionHooks, SessionRuntime, accept, connect,
};

struct Anybody;

impl SessionHooks for Anybody {
    fn admit(&self, _: &Session) -> Result<(), Refusal> {
        Ok(())
    }

    fn opened(&self, _: &Session) {}

    fn closed(&self, _: &Session, _: &CloseReason) {}

    fn address_limiter(&self, _: &Session) -> Option<Arc<RateLimiter>> {
        None
    }
}

fn runtime() -> Arc<SessionRuntime> {
    let events = EventSink::new(Bounds {
        items: 64,
        bytes: 65_536,
    });
    Arc::new(SessionRuntime {
        config: SessionConfig::default(),
        service: Arc::new(Handlers::new(events.clone())),
        events,
        middleware: Vec::new(),
        timers: Timers::start(),
        hooks: Arc::new(Anybody),
        stats: Arc::new(RuntimeStats::new("test")),
    })
}

fn connection(stream: DuplexStream) -> Box<dyn Connection> {
    let info = ConnectionInfo::new("test", PeerAddress::Local("test".into()));
    let limits = Limits::default();
    Box::new(StreamConnection::new(
        stream,
        info,
        WireVersions::Any,
        limits,
        false,
    ))
}

fn accepted(stream: DuplexStream, since: Instant) -> Accepted {
    Accepted {
        connection: connection(stream),
        id: SessionId::new(1),
        wire: WireVersions::V2,
        since,
        permit: None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_in_time_counts_however_late_it_is_read() {
    let (ours, theirs) = duplex(4096);
    let (server, since) = (runtime(), Instant::now());
    let timeout = server.config.handshake_timeout;
    advance(timeout / 2).await;
    let (mut client, opened) = connect(
        runtime(),
        connection(theirs),
        "test://".to_owned(),
        WireVersions::V2,
    );
    let polled = Future::poll(
        std::pin::Pin::new(&mut client),
        &mut Context::from_waker(Waker::noop()),
    );
    assert!(matches!(polled, Poll::Pending), "Hello is said");
    // The server stood still.
    advance(timeout / 2 + Duration::from_secs(1)).await;
    tokio::spawn(accept(server, accepted(ours, since)));
    tokio::spawn(client);
    opened.await.expect("an answer").expect("an open session");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_cut_at_the_deadline() {
    let (ours, mut theirs) = duplex(4096);
    let (server, since) = (runtime(), Instant::now());
    let timeout = server.config.handshake_timeout;
    let session = tokio::spawn(accept(server, accepted(ours, since)));
    let mut heard = Vec::new();
    theirs.read_to_end(&mut heard).await.expect("the end");
    assert!(heard.is_empty());
    let took = since.elapsed();
    assert!(
        took >= timeout && took < timeout + Duration::from_secs(1),
        "{took:?}"
    );
    drop(theirs);
    session.await.expect("it ends in good order");
}
