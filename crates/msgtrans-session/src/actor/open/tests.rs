//! Who is late: a peer that has said nothing, not one that was not heard.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_actor::{Bounds, Timers};
use msgtrans_core::{
    CloseReason, ConnectionInfo, Limits, PeerAddress, SessionId, WireVersion, WireVersions,
};
use msgtrans_transport::{Connection, StreamConnection};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::time::{Instant, advance};

use crate::{
    Accepted, Arriving, EventSink, Handlers, RateLimiter, Refusal, RuntimeStats, Session,
    SessionConfig, SessionHooks, SessionRuntime, accept, connect,
};

/// Lets everybody in, and keeps the last session that has opened.
#[derive(Default)]
pub(in crate::actor) struct Anybody(Mutex<Option<Session>>);

impl Anybody {
    pub(in crate::actor) fn last(&self) -> Option<Session> {
        self.0.lock().expect("nobody panics").clone()
    }
}

impl SessionHooks for Anybody {
    fn admit(&self, _: &Session) -> Result<(), Refusal> {
        Ok(())
    }

    fn opened(&self, session: &Session) {
        *self.0.lock().expect("nobody panics") = Some(session.clone());
    }

    fn closed(&self, _: &Session, _: &CloseReason) {}

    fn address_limiter(&self, _: &Session) -> Option<Arc<RateLimiter>> {
        None
    }
}

fn runtime() -> Arc<SessionRuntime> {
    runtime_of(Arc::default())
}

pub(in crate::actor) fn runtime_of(hooks: Arc<Anybody>) -> Arc<SessionRuntime> {
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
        hooks,
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

pub(in crate::actor) fn accepted(stream: DuplexStream, since: Instant) -> Accepted {
    Accepted {
        connection: connection(stream),
        id: SessionId::new(1),
        wire: WireVersions::V2,
        since,
        permit: None,
    }
}

/// A session from the beginning, or made when its peer speaks.
async fn serve(runtime: Arc<SessionRuntime>, accepted: Accepted, arrives: bool) {
    if arrives {
        let arrived = Arriving::new(runtime, accepted).await;
        arrived.expect("it ends once").await;
    } else {
        accept(runtime, accepted).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_came_in_time_counts_however_late_it_is_read() {
    for arrives in [false, true] {
        came_in_time(arrives).await;
    }
}

async fn came_in_time(arrives: bool) {
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
    tokio::spawn(serve(server, accepted(ours, since), arrives));
    tokio::spawn(client);
    opened.await.expect("an answer").expect("an open session");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_cut_at_the_deadline() {
    for arrives in [false, true] {
        silent(arrives).await;
    }
}

async fn silent(arrives: bool) {
    let (ours, mut theirs) = duplex(4096);
    let (server, since) = (runtime(), Instant::now());
    let timeout = server.config.handshake_timeout;
    let session = tokio::spawn(serve(server, accepted(ours, since), arrives));
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

#[tokio::test(start_paused = true)]
async fn a_peer_that_listens_first_waits_no_longer_for_a_session_that_is_made_late() {
    let hooks = Arc::<Anybody>::default();
    let server = runtime_of(hooks.clone());
    let (ours, _theirs) = duplex(4096);
    let patience = server.config.listen_first_after;
    let since = Instant::now();
    let accepted = Accepted {
        wire: WireVersions::Any,
        ..accepted(ours, since)
    };
    tokio::spawn(serve(server, accepted, true));
    while hooks.last().is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let took = since.elapsed();
    assert!(
        took >= patience && took < patience + Duration::from_millis(100),
        "{took:?}"
    );
    let version = hooks.last().and_then(|session| session.version());
    assert_eq!(version, Some(WireVersion::V1));
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_there_was_a_session_is_counted_in_it() {
    let hooks = Arc::<Anybody>::default();
    let (ours, theirs) = duplex(4096);
    let (client, opened) = connect(
        runtime(),
        connection(theirs),
        "test://".to_owned(),
        WireVersions::V2,
    );
    let server = runtime_of(hooks.clone());
    tokio::spawn(serve(server, accepted(ours, Instant::now()), true));
    tokio::spawn(client);
    let client = opened.await.expect("an answer").expect("an open session");
    let server = hooks.last().expect("it has opened");
    assert_eq!(server.stats().bytes_in, client.stats().bytes_out);
    assert!(server.stats().bytes_in > 0);
}
