//! [`Timers`]: one coarse wheel for many actors, instead of a timer a connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How finely time is cut. Deadlines are rounded up to it, so nothing ever fires early.
const TICK: Duration = Duration::from_millis(10);

/// An armed alarm, to cancel it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    tick: u64,
    ticket: u64,
}

/// Wakes tasks at coarse times: ticks of 10 ms. One task sleeps until the first alarm, so an idle server has one timer
/// in all. Cost: 40 bytes an armed alarm, one short lock to arm or cancel.
#[derive(Clone, Debug)]
pub struct Timers {
    shared: Arc<Shared>,
    /// Ends the task when the last handle is gone.
    _owner: Arc<Owner>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    wheel: Mutex<Wheel>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Wheel {
    slots: BTreeMap<u64, Vec<(u64, Waker)>>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Owner(tokio::task::JoinHandle<()>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Timers {
    /// Starts the wheel's task on the current tokio runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime with time enabled.
    pub fn start() -> Self {
        let shared = Arc::new(Shared {
            start: Instant::now(),
            wheel: Mutex::default(),
            earlier: Notify::new(),
        });
        let task = tokio::spawn(run(shared.clone()));
        Self {
            shared,
            _owner: Arc::new(Owner(task)),
        }
    }

    /// Wakes `waker` at `at` or within a tick after it.
    pub fn arm(&self, at: Instant, waker: Waker) -> TimerKey {
        let since = at.saturating_duration_since(self.shared.start);
        let tick = u64::try_from(since.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX);
        let mut wheel = self.shared.lock();
        let ticket = wheel.next_ticket;
        wheel.next_ticket += 1;
        let first = wheel
            .slots
            .first_key_value()
            .is_none_or(|(first, _)| tick < *first);
        wheel.slots.entry(tick).or_default().push((ticket, waker));
        drop(wheel);
        if first {
            self.shared.earlier.notify_one();
        }
        TimerKey { tick, ticket }
    }

    /// Forgets an alarm; one that has rung already is nothing.
    pub fn cancel(&self, key: TimerKey) {
        let mut wheel = self.shared.lock();
        let Some(slot) = wheel.slots.get_mut(&key.tick) else {
            return;
        };
        let index = slot.iter().position(|(ticket, _)| *ticket == key.ticket);
        let alarm = index.map(|index| slot.swap_remove(index));
        if slot.is_empty() {
            wheel.slots.remove(&key.tick);
        }
        // A waker may be the last of its task, which may have alarms of its own to cancel.
        drop(wheel);
        drop(alarm);
    }

    /// Alarms armed now.
    pub fn armed(&self) -> usize {
        self.shared.lock().slots.values().map(Vec::len).sum()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wheel> {
        self.wheel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes every alarm that is due; returns when the next one is.
    fn take_due(&self, due: &mut Vec<Waker>) -> Option<Instant> {
        let now =
            u64::try_from(self.start.elapsed().as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        let mut wheel = self.lock();
        while let Some(slot) = wheel.slots.first_entry().filter(|slot| *slot.key() <= now) {
            due.extend(slot.remove().into_iter().map(|(_, waker)| waker));
        }
        // A deadline beyond what the clock can say is a year from now, and looked at again then.
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        wheel.slots.first_key_value().map(|(tick, _)| {
            let nanos = u128::from(*tick) * TICK.as_nanos();
            u64::try_from(nanos)
                .ok()
                .and_then(|nanos| self.start.checked_add(Duration::from_nanos(nanos)))
                .unwrap_or_else(|| Instant::now() + YEAR)
        })
    }
}

async fn run(shared: Arc<Shared>) {
    let mut due = Vec::new();
    loop {
        let next = shared.take_due(&mut due);
        for waker in due.drain(..) {
            waker.wake();
        }
        // Memory of a burst of alarms is given back.
        due.shrink_to(64);
        let earlier = shared.earlier.notified();
        match next {
            Some(at) => {
                tokio::select! {
                    () = sleep_until(at) => {}
                    () = earlier => {}
                }
            }
            None => earlier.await,
        }
    }
}

#[cfg(test)]
mod tests;
