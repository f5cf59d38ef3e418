//! Whose turn it is to shake hands, poll by poll.

use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use msgtrans_core::ConnectError;
use msgtrans_transport::{Connection, Handshake};
use tokio::sync::Semaphore;

use super::in_turn;

type Shaken = Result<Box<dyn Connection>, ConnectError>;

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

#[test]
fn a_peer_that_has_begun_holds_a_place_and_a_silent_one_does_not() {
    let places = Arc::new(Semaphore::new(2));
    let mut begun = pin!(in_turn(places.clone(), true, Box::pin(pending())));
    let mut silent = pin!(in_turn(places.clone(), false, Box::pin(pending())));
    assert!(poll_once(begun.as_mut()).is_pending());
    assert_eq!(places.available_permits(), 1);
    assert!(poll_once(silent.as_mut()).is_pending());
    assert_eq!(places.available_permits(), 1);
    // Something has come.
    assert!(poll_once(silent.as_mut()).is_pending());
    assert_eq!(places.available_permits(), 0);
}

#[test]
fn who_begins_waits_until_another_has_shaken_hands() {
    let places = Arc::new(Semaphore::new(1));
    let mut first = pin!(in_turn(places.clone(), true, two_polls()));
    let mut second = pin!(in_turn(places.clone(), true, two_polls()));
    assert!(poll_once(first.as_mut()).is_pending());
    for _ in 0..3 {
        assert!(poll_once(second.as_mut()).is_pending());
    }
    assert!(poll_once(first.as_mut()).is_ready());
    assert!(poll_once(second.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_ready());
    assert_eq!(places.available_permits(), 1);
}
