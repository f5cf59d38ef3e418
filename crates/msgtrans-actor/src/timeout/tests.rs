//! A wait ends with what it waited for or in time, and leaves no alarm behind. Time is paused.

use std::future::{pending, ready};

use tokio::sync::oneshot;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn what_never_comes_ends_in_time_and_not_early() {
    let (timers, begin) = (Timers::start(), Instant::now());
    assert_eq!(timers.timeout(SECOND, pending::<()>()).await, Err(Elapsed));
    let taken = begin.elapsed();
    assert!((SECOND..SECOND + 2 * TICK).contains(&taken), "{taken:?}");
    assert_eq!(timers.armed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_time_that_is_over_still_lets_in_what_is_ready() {
    let timers = Timers::start();
    assert_eq!(timers.timeout(Duration::ZERO, ready(7)).await, Ok(7));
    assert_eq!(
        timers.timeout_at(Instant::now(), pending::<()>()).await,
        Err(Elapsed)
    );
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_time_leaves_no_alarm() {
    let timers = Timers::start();
    let (sender, receiver) = oneshot::channel();
    let theirs = timers.clone();
    let waiting = tokio::spawn(async move { theirs.timeout(SECOND, receiver).await });
    tokio::task::yield_now().await;
    assert_eq!(timers.armed(), 1);
    sender.send(7).expect("somebody waits");
    assert_eq!(waiting.await.expect("no panic"), Ok(Ok(7)));
    assert_eq!(timers.armed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_leaves_no_alarm() {
    let timers = Timers::start();
    let theirs = timers.clone();
    let waiting = tokio::spawn(async move { theirs.sleep(SECOND).await });
    tokio::task::yield_now().await;
    assert_eq!(timers.armed(), 1);
    waiting.abort();
    assert!(waiting.await.expect_err("it was aborted").is_cancelled());
    assert_eq!(timers.armed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_moves_with_its_task_to_another_waker() {
    let timers = Timers::start();
    let mut sleep = Box::pin(timers.sleep(SECOND));
    // Polled once with a waker that wakes nobody.
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(sleep.as_mut().poll(&mut nobody).is_pending());
    sleep.await;
    assert_eq!(timers.armed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_the_clock_is_no_panic() {
    let timers = Timers::start();
    assert_eq!(timers.timeout(Duration::MAX, ready(7)).await, Ok(7));
    let mut wait = Box::pin(timers.timeout(Duration::MAX, pending::<()>()));
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(wait.as_mut().poll(&mut nobody).is_pending());
}

/// No timer of the runtime: it has none.
#[test]
fn a_runtime_without_timers_is_enough() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let timers = Timers::start();
        assert_eq!(timers.timeout(TICK, pending::<()>()).await, Err(Elapsed));
    });
}
