//! Bounded waits on the wheel of [`Timers`], for what must not need a timer of the async runtime.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::timers::{TimerKey, Timers};

/// The time was over before what was waited for: see [`Timers::timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

/// An alarm for whoever waits, cancelled when the wait is dropped.
struct Alarm<'a> {
    timers: &'a Timers,
    at: Instant,
    armed: Option<(TimerKey, Waker)>,
}

impl Alarm<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.at {
            return Poll::Ready(());
        }
        if let Some((key, waker)) = &self.armed {
            if waker.will_wake(cx.waker()) {
                return Poll::Pending;
            }
            self.timers.cancel(*key);
        }
        let key = self.timers.arm(self.at, cx.waker().clone());
        self.armed = Some((key, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some((key, _)) = self.armed {
            self.timers.cancel(key);
        }
    }
}

impl Timers {
    /// What `future` brings, or [`Elapsed`] once `wait` is over: within a tick of 10 ms after it.
    ///
    /// # Errors
    /// The time was over first; `future` is dropped.
    ///
    /// # Cancel safety
    /// That of `future`.
    ///
    /// # Cost
    /// Nothing but `future` where it is ready at once; else an alarm.
    // No async functions, which would hold `future` once more.
    pub fn timeout<F: Future>(
        &self,
        wait: Duration,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        self.bounded(move || after(wait), future)
    }

    /// The same up to a point in time.
    ///
    /// # Errors
    /// As [`timeout`](Self::timeout).
    ///
    /// # Cancel safety
    /// That of `future`.
    pub fn timeout_at<F: Future>(
        &self,
        at: Instant,
        future: F,
    ) -> impl Future<Output = Result<F::Output, Elapsed>> {
        self.bounded(move || at, future)
    }

    /// Waits: `wait`, and up to a tick of 10 ms more.
    ///
    /// # Cancel safety
    /// Dropping it forgets the wait.
    pub async fn sleep(&self, wait: Duration) {
        let mut alarm = self.alarm(after(wait));
        poll_fn(|cx| alarm.poll(cx)).await;
    }

    fn alarm(&self, at: Instant) -> Alarm<'_> {
        Alarm {
            timers: self,
            at,
            armed: None,
        }
    }

    /// `at` is asked, and with it the clock, only where the future is not ready at once.
    async fn bounded<F: Future>(
        &self,
        at: impl Fn() -> Instant,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut alarm = None;
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let alarm = alarm.get_or_insert_with(|| self.alarm(at()));
            alarm.poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }
}

/// `wait` from now; what is beyond the clock is a year away, and nobody's timeout.
fn after(wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    let now = Instant::now();
    now.checked_add(wait).unwrap_or_else(|| now + YEAR)
}

#[cfg(test)]
mod tests;
