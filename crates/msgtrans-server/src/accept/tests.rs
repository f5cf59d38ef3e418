//! Whose turn it is to shake hands, poll by poll.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_actor::{Elapsed, Timers};
use msgtrans_core::{BindError, ConfigError, ConnectError, PeerAddress};
use msgtrans_session::SessionTask;
use msgtrans_transport::{
    AcceptError, BoxFuture, Connection, Connector, Endpoint, Handshake, Incoming, ListenContext,
    Listener, ProtocolConfig, Schemes, ServerProtocol,
};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, advance, sleep};

use super::{Peer, ROW_MAX, SERVED_MAX, in_turn};
use crate::TransportServer;

type Shaken = Result<(Instant, Result<Box<dyn Connection>, ConnectError>), Elapsed>;

const LIMIT: Duration = Duration::from_secs(10);

#[test]
fn a_peers_task_is_as_small_as_a_sessions() {
    assert_eq!(size_of::<Peer>(), size_of::<SessionTask>());
}

fn begin(
    places: &Semaphore,
    begun: bool,
    handshake: Handshake,
) -> impl Future<Output = Shaken> + '_ {
    let timers = Timers::start();
    async move { in_turn(&timers, places, begun, handshake, Instant::now(), LIMIT).await }
}

fn poll_once(future: Pin<&mut impl Future<Output = Shaken>>) -> Poll<Shaken> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Ends with the second poll.
fn two_polls() -> Handshake {
    let mut polled = false;
    Box::pin(poll_fn(move |_| {
        if std::mem::replace(&mut polled, true) {
            Poll::Ready(Err(ConnectError::State { what: "shaken" }))
        } else {
            Poll::Pending
        }
    }))
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_begun_holds_a_place_and_a_silent_one_does_not() {
    let places = Semaphore::new(2);
    let mut begun = pin!(begin(&places, true, Box::pin(pending())));
    let mut silent = pin!(begin(&places, false, Box::pin(pending())));
    assert!(poll_once(begun.as_mut()).is_pending());
    assert_eq!(places.available_permits(), 1);
    assert!(poll_once(silent.as_mut()).is_pending());
    assert_eq!(places.available_permits(), 1);
    // Something has come.
    assert!(poll_once(silent.as_mut()).is_pending());
    assert_eq!(places.available_permits(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_begins_waits_until_another_has_shaken_hands() {
    let places = Semaphore::new(1);
    let mut first = pin!(begin(&places, true, two_polls()));
    let mut second = pin!(begin(&places, true, two_polls()));
    assert!(poll_once(first.as_mut()).is_pending());
    for _ in 0..3 {
        assert!(poll_once(second.as_mut()).is_pending());
    }
    assert!(poll_once(first.as_mut()).is_ready());
    assert!(poll_once(second.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_ready());
    assert_eq!(places.available_permits(), 1);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_place_costs_a_peer_none_of_its_time() {
    let places = Semaphore::new(1);
    let held = places.acquire().await.expect("open");
    let slow = || -> Handshake {
        Box::pin(async {
            sleep(Duration::from_secs(6)).await;
            Err(ConnectError::State { what: "shaken" })
        })
    };
    let came = Instant::now();
    let mut peer = pin!(begin(&places, true, slow()));
    assert!(poll_once(peer.as_mut()).is_pending());
    advance(Duration::from_secs(9)).await;
    drop(held);
    // 15 s after it came in.
    let (since, _) = peer.await.expect("in time");
    assert_eq!(since - came, Duration::from_secs(9));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_place_for_ever() {
    let places = Semaphore::new(1);
    let _held = places.acquire().await.expect("open");
    let came = Instant::now();
    let waited = begin(&places, true, two_polls()).await;
    assert!(waited.is_err(), "there is no place");
    assert_eq!(came.elapsed(), LIMIT);
}

/// What a flooded listener and its peers note.
#[derive(Debug, Default)]
struct Noted {
    /// Peers that have come in, and those of them that have been served.
    taken: AtomicUsize,
    served: AtomicUsize,
    /// Peers that had come in when the first was served.
    taken_first: AtomicUsize,
    /// Peers served since the listener was last asked, and the most that there ever were.
    unasked: AtomicUsize,
    unasked_max: AtomicUsize,
    done: Notify,
}

/// A backlog with so many peers in it, and two more for each that is served, until `all` have come.
#[derive(Clone, Debug)]
struct Flood {
    waiting: usize,
    all: usize,
    noted: Arc<Noted>,
}

impl ProtocolConfig for Flood {
    fn endpoint(&self) -> Endpoint {
        Endpoint::new("flood", "nowhere", None)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

impl ServerProtocol for Flood {
    fn bind<'a>(
        &'a self,
        _: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        let listener: Box<dyn Listener> = Box::new(self.clone());
        Box::pin(async { Ok(listener) })
    }
}

impl Listener for Flood {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        let noted = &self.noted;
        let served = noted.unasked.swap(0, Relaxed);
        noted.unasked_max.fetch_max(served, Relaxed);
        let come = self.waiting + 2 * noted.served.load(Relaxed);
        let taken = noted.taken.load(Relaxed);
        if taken == come.min(self.all) {
            if taken < self.all {
                // As the kernel tells a listener: whoever waits here is behind all who are woken.
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        noted.taken.fetch_add(1, Relaxed);
        let (noted, all) = (noted.clone(), self.all);
        let handshake = async move {
            if noted.served.fetch_add(1, Relaxed) == 0 {
                let taken = noted.taken.load(Relaxed);
                noted.taken_first.store(taken, Relaxed);
            }
            noted.unasked.fetch_add(1, Relaxed);
            if noted.served.load(Relaxed) == all {
                noted.done.notify_one();
            }
            Err(ConnectError::State { what: "counted" })
        };
        Poll::Ready(Ok(Incoming::Handshake {
            peer: PeerAddress::Local(String::new()),
            begun: false,
            handshake: Box::pin(handshake),
        }))
    }

    fn local_endpoint(&self) -> Endpoint {
        self.endpoint()
    }
}

/// There are no URLs here.
#[derive(Debug)]
struct NoSchemes;

impl Schemes for NoSchemes {
    fn server(endpoint: &Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError> {
        Err(ConfigError::new(
            "scheme",
            endpoint,
            "must be a configuration",
        ))
    }

    fn connector(endpoint: &Endpoint) -> Result<Box<dyn Connector>, ConfigError> {
        Err(ConfigError::new(
            "scheme",
            endpoint,
            "must be a configuration",
        ))
    }
}

/// Serves `all` peers of whom so many wait from the beginning, with so few handshakes at once.
async fn flooded(waiting: usize, all: usize, max_handshakes: usize) -> Arc<Noted> {
    let noted = Arc::new(Noted::default());
    let flood = Flood {
        waiting,
        all,
        noted: noted.clone(),
    };
    let server = TransportServer::<NoSchemes>::builder()
        .with_protocol(flood)
        .max_handshakes(max_handshakes)
        .build()
        .await
        .expect("valid");
    server.start().expect("started");
    noted.done.notified().await;
    server.shutdown().await;
    noted
}

#[tokio::test]
async fn who_waits_in_the_backlog_comes_in_before_anybody_is_served() {
    let noted = flooded(ROW_MAX, ROW_MAX, 1_024).await;
    assert_eq!(noted.taken_first.load(Relaxed), ROW_MAX);
}

#[tokio::test]
async fn in_a_burst_the_listener_is_asked_again_after_every_few() {
    let noted = flooded(1_000, 12_000, 1_024).await;
    let most = noted.unasked_max.load(Relaxed);
    assert!(most <= SERVED_MAX, "{most} served without a look");
}

#[tokio::test]
async fn a_burst_beyond_those_who_may_have_come_in_is_served_all_the_same() {
    let noted = flooded(1_000, 1_000, 1).await;
    assert_eq!(noted.served.load(Relaxed), 1_000);
    assert!(noted.taken_first.load(Relaxed) <= super::arrivals_max(1));
}
