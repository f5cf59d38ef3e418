//! [`Timers`]: one coarse wheel for many actors, instead of a timer a connection.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError};
#[cfg(not(msgtrans_shuttle))]
use std::sync::{Condvar, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

#[cfg(msgtrans_shuttle)]
use shuttle::sync::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::task_group::Panicked;

/// How finely time is cut. Deadlines are rounded up to it, so nothing ever fires early.
const TICK: Duration = Duration::from_millis(10);

/// An armed alarm, to cancel it with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    tick: u64,
    ticket: u64,
}

/// Wakes tasks at coarse times: ticks of 10 ms. Cost: 40 bytes an armed alarm, one short lock to arm or cancel.
///
/// One thread of the process sleeps until the first alarm of all its servers and clients, and not a timer of the async
/// runtime: as long as one of those is armed, each time a worker goes to sleep it looks at the clock twice and at its
/// wheel once, about 600 instructions of every lone round trip. And deadlines are noticed while the runtime is
/// saturated. Where tokio's clock is paused, as in tests, a task on that clock does the same.
#[derive(Clone, Debug)]
pub struct Timers {
    shared: Arc<Shared>,
    /// Ends the task when the last handle is gone.
    _owner: Option<Arc<Owner>>,
}

#[derive(Debug)]
struct Shared {
    start: Instant,
    wheel: Mutex<Wheel>,
    earlier: Earlier,
}

/// Tells who sleeps that an alarm comes before the one that it sleeps for.
#[derive(Debug)]
enum Earlier {
    Thread(Condvar),
    Task(Notify),
}

impl Earlier {
    fn notify(&self) {
        match self {
            Self::Thread(condvar) => condvar.notify_one(),
            Self::Task(notify) => notify.notify_one(),
        }
    }
}

/// The alarms of one tick, in the order of their tickets. One that is cancelled leaves its place, so that the others keep
/// theirs and are found by halves: a burst of peers arms a thousand for one tick, and cancels them all.
#[derive(Debug, Default)]
struct Slot {
    alarms: Vec<(u64, Option<Waker>)>,
    /// Those that are not cancelled.
    live: usize,
}

impl Slot {
    fn take(&mut self, ticket: u64) -> Option<Waker> {
        let at = self.alarms.binary_search_by_key(&ticket, |alarm| alarm.0);
        let waker = self.alarms.get_mut(at.ok()?)?.1.take()?;
        self.live -= 1;
        // Each look over all places is paid for by as many cancels.
        if self.alarms.len() > 2 * self.live + 8 {
            self.alarms.retain(|(_, waker)| waker.is_some());
        }
        Some(waker)
    }
}

#[derive(Debug)]
struct Wheel {
    slots: BTreeMap<u64, Slot>,
    next_ticket: u64,
    /// The tick at which who sleeps wakes by itself, or has been told to. An alarm from there on needs nobody told, also
    /// where it is the first, because those before it were cancelled: most alarms are.
    wakes_at: u64,
}

impl Wheel {
    /// Adds an alarm: its ticket, and whether who sleeps has to be told.
    fn add(&mut self, tick: u64, waker: Waker) -> (u64, bool) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let slot = self.slots.entry(tick).or_default();
        slot.alarms.push((ticket, Some(waker)));
        slot.live += 1;
        let earlier = tick < self.wakes_at;
        if earlier {
            self.wakes_at = tick;
        }
        (ticket, earlier)
    }
}

#[derive(Debug)]
struct Owner(tokio::task::JoinHandle<()>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Timers {
    /// The wheel of this process, or one of its own where the current runtime's clock is paused.
    ///
    /// # Panics
    /// Where the clock is paused, outside a tokio runtime.
    pub fn start() -> Self {
        /// `None` where the system had no thread to give.
        static PROCESS: OnceLock<Option<Arc<Shared>>> = OnceLock::new();
        if !is_clock_paused()
            && let Some(shared) = PROCESS.get_or_init(start_thread)
        {
            return Self {
                shared: shared.clone(),
                _owner: None,
            };
        }
        let shared = Arc::new(Shared::new(Earlier::Task(Notify::new())));
        let task = tokio::spawn(run_task(shared.clone()));
        Self {
            shared,
            _owner: Some(Arc::new(Owner(task))),
        }
    }

    /// Wakes `waker` at `at` or within a tick after it.
    pub fn arm(&self, at: Instant, waker: Waker) -> TimerKey {
        let since = at.saturating_duration_since(self.shared.start);
        let tick = u64::try_from(since.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX);
        let (ticket, earlier) = self.shared.lock().add(tick, waker);
        if earlier {
            self.shared.earlier.notify();
        }
        TimerKey { tick, ticket }
    }

    /// Forgets an alarm; one that has rung already is nothing.
    pub fn cancel(&self, key: TimerKey) {
        let mut wheel = self.shared.lock();
        let Some(slot) = wheel.slots.get_mut(&key.tick) else {
            return;
        };
        let alarm = slot.take(key.ticket);
        if slot.live == 0 {
            wheel.slots.remove(&key.tick);
        }
        // A waker may be the last of its task, which may have alarms of its own to cancel.
        drop(wheel);
        drop(alarm);
    }

    /// A wheel whose thread is [`Timers::run_while`].
    #[cfg(all(test, msgtrans_shuttle))]
    pub(crate) fn for_model() -> Self {
        Self {
            shared: Arc::new(Shared::new(Earlier::Thread(Condvar::new()))),
            _owner: None,
        }
    }

    /// Does what the thread of the process does, as long as `more` says so.
    #[cfg(all(test, msgtrans_shuttle))]
    pub(crate) fn run_while(&self, more: impl Fn() -> bool) {
        run_thread_while(&self.shared, more);
    }

    #[cfg(test)]
    pub(crate) fn armed(&self) -> usize {
        self.shared
            .lock()
            .slots
            .values()
            .map(|slot| slot.live)
            .sum()
    }
}

impl Shared {
    fn new(earlier: Earlier) -> Self {
        Self {
            start: Instant::now(),
            wheel: Mutex::new(Wheel {
                slots: BTreeMap::new(),
                next_ticket: 0,
                wakes_at: u64::MAX,
            }),
            earlier,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wheel> {
        self.wheel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes every alarm of `wheel` that is due; returns when the next one is, until when the caller sleeps.
    fn take_due(&self, wheel: &mut Wheel, due: &mut Vec<Waker>) -> Option<Instant> {
        let now =
            u64::try_from(self.start.elapsed().as_nanos() / TICK.as_nanos()).unwrap_or(u64::MAX);
        while let Some(slot) = wheel.slots.first_entry().filter(|slot| *slot.key() <= now) {
            let alarms = slot.remove().alarms;
            due.extend(alarms.into_iter().filter_map(|(_, waker)| waker));
        }
        // A deadline beyond what the clock can say is a year from now, and looked at again then.
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let next = wheel.slots.first_key_value().map(|(tick, _)| *tick);
        wheel.wakes_at = next.unwrap_or(u64::MAX);
        next.map(|tick| {
            let nanos = u128::from(tick) * TICK.as_nanos();
            u64::try_from(nanos)
                .ok()
                .and_then(|nanos| self.start.checked_add(Duration::from_nanos(nanos)))
                .unwrap_or_else(|| Instant::now() + YEAR)
        })
    }
}

/// Wakes whom `due` holds; memory of a burst of alarms is given back.
fn ring(due: &mut Vec<Waker>) {
    for waker in due.drain(..) {
        // Its executor's code, which may be anybody's: a panic has been printed, and ends no other deadline of the process.
        let _ = Panicked::catch(|| waker.wake());
    }
    due.shrink_to(64);
}

/// Whether tokio's clock stands still while the system's goes on.
fn is_clock_paused() -> bool {
    let (tokio, system) = (Instant::now(), std::time::Instant::now());
    while system.elapsed().is_zero() {
        std::hint::spin_loop();
    }
    tokio.elapsed().is_zero()
}

fn start_thread() -> Option<Arc<Shared>> {
    let shared = Arc::new(Shared::new(Earlier::Thread(Condvar::new())));
    let theirs = shared.clone();
    let thread = std::thread::Builder::new().name("msgtrans-timers".to_owned());
    thread
        .spawn(move || run_thread_while(&theirs, || true))
        .ok()?;
    Some(shared)
}

/// Runs as long as the process, but in a model.
fn run_thread_while(shared: &Shared, more: impl Fn() -> bool) {
    let Earlier::Thread(earlier) = &shared.earlier else {
        return;
    };
    let mut due = Vec::new();
    let mut wheel = shared.lock();
    while more() {
        let next = shared.take_due(&mut wheel, &mut due);
        if !due.is_empty() {
            // Not under the lock: a waker may be the last of its task, which may have alarms to cancel.
            drop(wheel);
            ring(&mut due);
            wheel = shared.lock();
            continue;
        }
        wheel = match next {
            Some(at) => {
                let wait = at.saturating_duration_since(Instant::now());
                let woken = earlier.wait_timeout(wheel, wait);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => earlier.wait(wheel).unwrap_or_else(PoisonError::into_inner),
        };
    }
}

async fn run_task(shared: Arc<Shared>) {
    let Earlier::Task(earlier) = &shared.earlier else {
        return;
    };
    let mut due = Vec::new();
    loop {
        let next = shared.take_due(&mut shared.lock(), &mut due);
        ring(&mut due);
        let earlier = earlier.notified();
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
