//! A waker that is registered once and woken at most once per look of its owner.
//!
//! One word holds three bits:
//!
//! | bit | set by | cleared by | meaning |
//! |---|---|---|---|
//! | `SCHEDULED` | `wake` | the owner's `clear` | the owner is going to look; further wakes are free |
//! | `HELD` | whoever touches the cell | the same | exclusive access to the stored waker |
//! | `WANTED` | a `wake` that could not hold | the holder | the holder wakes (again) before it lets go |
//!
//! `HELD` is never waited for: a `wake` that finds it set leaves `WANTED` and returns, an owner that
//! finds it set wakes itself and registers on its next poll.
#![allow(unsafe_code, reason = "the stored waker is guarded by the HELD bit")]

use crate::primitive::{AtomicUsize, Ordering, UnsafeCell};
use std::fmt;
use std::task::Waker;

const SCHEDULED: usize = 1;
const HELD: usize = 2;
const WANTED: usize = 4;

/// Wakes one owner from many threads.
///
/// Unlike an `AtomicWaker`, waking does not take the waker out: one [`register`](Self::register)
/// serves every later [`wake`](Self::wake). And wakes coalesce: from the first `wake` until the
/// owner's [`clear`](Self::clear) all others cost one atomic operation and wake nobody.
///
/// The owner's order is: `register`, `clear`, look for work. Whatever was made ready before a
/// `wake` is then either found by that look or followed by a wake of the task:
///
/// ```
/// use msgtrans_lockfree::WakeCell;
/// use std::task::Waker;
///
/// let cell = WakeCell::new();
/// cell.register(Waker::noop()); // in poll: cx.waker()
/// cell.clear();
/// // … look for work, return Pending if there is none …
/// assert!(cell.wake()); // another thread: this call is the one that woke the owner
/// assert!(!cell.wake()); // coalesced
/// assert!(cell.clear());
/// assert!(cell.wake()); // no second `register` was needed
/// ```
///
/// # Limits
/// One owner. Two tasks that both register are memory-safe, but only the last one is woken.
///
/// # Cost
/// 24 bytes. A coalesced `wake` is one atomic operation; a delivered one is three and the waker's.
pub struct WakeCell {
    // Written by wakers and the owner, see the table at the top of the file.
    state: AtomicUsize,
    // Touched only between setting and clearing HELD.
    waker: UnsafeCell<Option<Waker>>,
}

// SAFETY: the waker is `Send + Sync`, and the HELD bit gives one thread at a time access to the cell.
unsafe impl Send for WakeCell {}
// SAFETY: as above.
unsafe impl Sync for WakeCell {}

impl WakeCell {
    /// Creates a cell with no waker and no wake pending.
    pub fn new() -> Self {
        Self {
            state: AtomicUsize::new(0),
            waker: UnsafeCell::new(None),
        }
    }

    /// Stores the owner's waker unless the stored one already wakes the same task.
    ///
    /// When another thread is delivering a wake at this very moment, `waker` is woken instead, so
    /// that the owner comes back and registers then.
    pub fn register(&self, waker: &Waker) {
        let Some(held) = self.try_hold(0) else {
            waker.wake_by_ref();
            return;
        };
        if held.current(|stored| stored.is_some_and(|stored| stored.will_wake(waker))) {
            return;
        }
        // Cloning runs foreign code, so it happens while nothing is held.
        drop(held);
        let clone = waker.clone();
        let Some(held) = self.try_hold(0) else {
            waker.wake_by_ref();
            return;
        };
        let replaced = held.replace(Some(clone));
        drop(held);
        // Dropping a waker may run foreign code too.
        drop(replaced);
    }

    /// Wakes the owner unless a wake is already pending; says whether this call set it pending.
    ///
    /// What the caller wrote before is visible to the owner after its next `clear`.
    #[inline]
    pub fn wake(&self) -> bool {
        // AcqRel on both sides of SCHEDULED: if this reads "already set", the owner's later `clear`
        // reads a value in the release sequence of this operation and so sees what was made ready.
        // A plain load would not do: it could read the bit that the owner is just clearing.
        if self.state.fetch_or(SCHEDULED, Ordering::AcqRel) & SCHEDULED != 0 {
            return false;
        }
        self.deliver();
        true
    }

    /// Takes note of all wakes so far; says whether there was one. Call it before looking for work.
    #[inline]
    pub fn clear(&self) -> bool {
        // AcqRel: pairs with `wake`.
        self.state.fetch_and(!SCHEDULED, Ordering::AcqRel) & SCHEDULED != 0
    }

    /// Whether a wake is pending. A hint: it may change at once.
    pub fn is_scheduled(&self) -> bool {
        self.state.load(Ordering::Acquire) & SCHEDULED != 0
    }

    #[cold]
    fn deliver(&self) {
        // A holder that is already there sees WANTED before it lets go and wakes in our place.
        drop(self.try_hold(WANTED));
    }

    /// Tries to become the holder, setting `also` whether or not that succeeds.
    fn try_hold(&self, also: usize) -> Option<Held<'_>> {
        // Acquire: pairs with the Release in `Held::drop`, so the cell's last change is seen.
        // Release: hands what was made ready to the holder that finds WANTED.
        let before = self.state.fetch_or(HELD | also, Ordering::AcqRel);
        // Lazily: a `Held` that is made and dropped lets go of what it never held.
        (before & HELD == 0).then(|| Held { cell: self })
    }
}

impl Default for WakeCell {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WakeCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WakeCell")
            .field("scheduled", &self.is_scheduled())
            .finish_non_exhaustive()
    }
}

/// Exclusive access to the stored waker; letting go delivers what was wanted meanwhile.
struct Held<'a> {
    cell: &'a WakeCell,
}

impl Held<'_> {
    fn current<R>(&self, look: impl FnOnce(Option<&Waker>) -> R) -> R {
        self.cell.waker.with_mut(|waker| {
            // SAFETY: this value exists only between setting and clearing HELD, which one thread at
            // a time does, and `look` cannot reach the cell again because `Held` is not re-entrant.
            let waker = unsafe { &*waker };
            look(waker.as_ref())
        })
    }

    fn replace(&self, new: Option<Waker>) -> Option<Waker> {
        self.cell.waker.with_mut(|waker| {
            // SAFETY: as in `current`; the exclusive reference ends with this closure.
            let waker = unsafe { &mut *waker };
            std::mem::replace(waker, new)
        })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut state = self.cell.state.load(Ordering::Relaxed);
        loop {
            if state & WANTED != 0 {
                // Acquire: pairs with the `try_hold` that set WANTED.
                state = self.cell.state.fetch_and(!WANTED, Ordering::AcqRel) & !WANTED;
                // A waker that panics must not leave the cell held for ever: `Unhold` clears the bit.
                let unhold = Unhold(self.cell);
                self.current(|waker| {
                    if let Some(waker) = waker {
                        waker.wake_by_ref();
                    }
                });
                std::mem::forget(unhold);
            }
            // Release: pairs with the Acquire in `try_hold`.
            match self.cell.state.compare_exchange_weak(
                state,
                state & !HELD,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => state = now,
            }
        }
    }
}

/// Lets go of the cell when a waker panics.
struct Unhold<'a>(&'a WakeCell);

impl Drop for Unhold<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `try_hold`.
        self.0.state.fetch_and(!HELD, Ordering::AcqRel);
    }
}
