//! Alarms ring once, never early, within a tick, and cost nothing once cancelled. Time is paused.

use std::sync::Arc;

use tokio::time::{advance, sleep};

use super::*;
use crate::test_waker::Wakes;

const MS: Duration = Duration::from_millis(1);

/// Lets the wheel's task see what has changed, without the clock moving.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

async fn after(time: Duration) {
    advance(time).await;
    settle().await;
}

fn arm(timers: &Timers, delay: Duration) -> (TimerKey, Arc<Wakes>) {
    let wakes = Wakes::new();
    let key = timers.arm(Instant::now() + delay, wakes.waker());
    (key, wakes)
}

#[tokio::test(start_paused = true)]
async fn an_alarm_rings_once_never_early_and_within_a_tick() {
    let timers = Timers::start();
    for delay in [1, 9, 10, 11, 25, 1000, 12_345] {
        // Not at the start of a tick.
        after(3 * MS).await;
        let (_, wakes) = arm(&timers, MS * delay);
        settle().await;
        after(MS * delay - MS).await;
        assert_eq!(wakes.count(), 0, "{delay} ms: early");
        after(MS + TICK).await;
        assert_eq!(wakes.count(), 1, "{delay} ms: late");
        after(TICK * 10).await;
        assert_eq!(wakes.count(), 1, "{delay} ms: twice");
    }
    assert_eq!(timers.armed(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_in_the_past_rings_at_once() {
    let timers = Timers::start();
    after(Duration::from_secs(1)).await;
    let wakes = Wakes::new();
    timers.arm(Instant::now() - Duration::from_millis(500), wakes.waker());
    settle().await;
    assert_eq!(wakes.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_alarm_does_not_ring_and_others_do() {
    let timers = Timers::start();
    // All three in one tick.
    let (_, first) = arm(&timers, MS * 100);
    let (key, second) = arm(&timers, MS * 100);
    let (_, third) = arm(&timers, MS * 100);
    timers.cancel(key);
    assert_eq!(timers.armed(), 2);
    timers.cancel(key);
    after(MS * 110).await;
    assert_eq!((first.count(), second.count(), third.count()), (1, 0, 1));
    timers.cancel(key);
}

#[tokio::test(start_paused = true)]
async fn an_earlier_alarm_wakes_the_wheel() {
    let timers = Timers::start();
    let (_, late) = arm(&timers, Duration::from_secs(3600));
    settle().await;
    let (_, early) = arm(&timers, MS * 50);
    settle().await;
    after(MS * 60).await;
    assert_eq!((early.count(), late.count()), (1, 0));
    after(Duration::from_secs(3600)).await;
    assert_eq!(late.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_later_alarm_rings_after_the_first_was_cancelled() {
    let timers = Timers::start();
    let (key, _) = arm(&timers, MS * 50);
    let (_, late) = arm(&timers, MS * 200);
    settle().await;
    timers.cancel(key);
    after(MS * 100).await;
    assert_eq!(late.count(), 0);
    after(MS * 110).await;
    assert_eq!(late.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_in_the_far_future_harms_nobody() {
    let timers = Timers::start();
    let far = Duration::from_secs(3600 * 24 * 365 * 1000);
    let (key, wakes) = arm(&timers, far);
    settle().await;
    after(Duration::from_secs(3600)).await;
    let (_, near) = arm(&timers, MS * 20);
    settle().await;
    after(MS * 40).await;
    assert_eq!((wakes.count(), near.count()), (0, 1));
    timers.cancel(key);
    assert_eq!(timers.armed(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_alarms_rings_each_once() {
    let timers = Timers::start();
    let alarms: Vec<_> = (0..1000).map(|n| arm(&timers, MS * (n % 97)).1).collect();
    assert_eq!(timers.armed(), 1000);
    settle().await;
    // The wheel sleeps from tick to tick on its own; the clock moves when nobody else has anything to do.
    sleep(MS * 200).await;
    assert!(alarms.iter().all(|wakes| wakes.count() == 1));
    assert_eq!(timers.armed(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_wheel_ends_with_its_last_handle() {
    let timers = Timers::start();
    let clone = timers.clone();
    let shared = Arc::downgrade(&timers.shared);
    let (_, wakes) = arm(&timers, MS * 10);
    drop(timers);
    settle().await;
    assert!(shared.upgrade().is_some());
    after(MS * 20).await;
    assert_eq!(wakes.count(), 1, "a clone keeps it going");
    drop(clone);
    settle().await;
    assert!(shared.upgrade().is_none());
}

/// The waker of an alarm may be the last of its task, and that task may cancel alarms as it goes.
#[tokio::test(start_paused = true)]
async fn a_waker_that_cancels_another_alarm_when_it_is_dropped_does_not_lock_up() {
    struct Last(Timers, TimerKey);
    impl std::task::Wake for Last {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.cancel(self.1);
        }
    }
    let timers = Timers::start();
    let (other, _) = arm(&timers, MS * 100);
    let waker = Waker::from(Arc::new(Last(timers.clone(), other)));
    let key = timers.arm(Instant::now() + MS * 100, waker);
    timers.cancel(key);
    assert_eq!(timers.armed(), 0);
}

struct Bell(std::sync::mpsc::Sender<()>);

impl std::task::Wake for Bell {
    fn wake(self: Arc<Self>) {
        // Nobody may listen any more.
        let _ = self.0.send(());
    }
}

#[test]
fn where_the_clock_runs_a_thread_rings() {
    let timers = Timers::start();
    assert!(timers._owner.is_none());
    let begin = Instant::now();
    let late = Wakes::new();
    let (soon, rung) = std::sync::mpsc::channel();
    let key = timers.arm(begin + Duration::from_secs(3600), late.waker());
    timers.arm(begin + MS * 30, Waker::from(Arc::new(Bell(soon))));
    rung.recv().expect("the bell lives");
    assert!(begin.elapsed() >= MS * 30, "early");
    assert_eq!(late.count(), 0);
    timers.cancel(key);
}

#[tokio::test(start_paused = true)]
async fn where_the_clock_is_paused_a_task_rings() {
    assert!(Timers::start()._owner.is_some());
}

/// Each peer that comes in arms an alarm, and cancels it when it has spoken: who sleeps is told of the first of them alone.
#[test]
fn who_sleeps_is_told_of_what_comes_before_it_wakes_and_of_nothing_else() {
    let shared = Shared::new(Earlier::Thread(Condvar::new()));
    let mut wheel = shared.lock();
    let far = 1 << 40;
    let add = |wheel: &mut Wheel, tick| wheel.add(tick, Wakes::new().waker()).1;
    assert!(add(&mut wheel, far + 9), "nobody wakes by itself");
    assert!(!add(&mut wheel, far + 9));
    assert!(add(&mut wheel, far + 2), "earlier");
    wheel.slots.remove(&(far + 2));
    assert!(!add(&mut wheel, far + 2), "it was told before");
    assert!(!add(&mut wheel, far + 3));
    assert!(add(&mut wheel, far + 1), "earlier still");
    // It has looked, and sleeps until what is first now.
    wheel.slots.retain(|tick, _| *tick == far + 9);
    let next = shared.take_due(&mut wheel, &mut Vec::new());
    assert!(next.is_some());
    assert!(add(&mut wheel, far + 8));
    assert!(!add(&mut wheel, far + 8));
}

/// On the thread of the process: what it loses there, every server and client loses.
#[tokio::test]
async fn a_waker_that_panics_takes_no_other_alarm_with_it() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("as the test wishes");
        }
    }
    let timers = Timers::start();
    timers.arm(Instant::now(), Waker::from(Arc::new(Panics)));
    // Rings behind it, or never.
    let rung = tokio::time::timeout(Duration::from_secs(60), timers.sleep(TICK * 3)).await;
    rung.expect("it rings");
}
