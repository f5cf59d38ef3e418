//! Whose turn it is to shake hands, poll by poll.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_actor::{Elapsed, Timers};
use msgtrans_core::ConnectError;
use msgtrans_session::SessionTask;
use msgtrans_transport::{Connection, Handshake};
use tokio::sync::Semaphore;
use tokio::time::{Instant, advance, sleep};

use super::{Peer, in_turn};

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
