//! [`ByteAccount`]: how many bytes many holders hold together, counted in lots.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Holders count in steps of so many bytes, and below the first step not at all: what is small and passes quickly
/// never meets the account, and what is large meets it once a lot.
pub const LOT: usize = 32 * 1024;

/// Bytes held by many, each of whom writes down whole lots of [`LOT`] bytes.
///
/// Whoever bounds the sum leaves a bound and a bell: the bell rings, from the holder's thread, when a holder takes more
/// while the sum is at the bound or above it.
///
/// # Cost
/// One atomic addition for a holder that has grown or shrunk by a lot, nothing otherwise.
#[derive(Default)]
pub struct ByteAccount {
    held: AtomicUsize,
    /// The lowest bound less one lot of slack, plus one; 0 where there is none. Kept apart so that a holder that grows
    /// takes no lock.
    bell_from: AtomicUsize,
    bells: Mutex<Vec<(u64, usize, Bell)>>,
}

type Bell = Arc<dyn Fn() + Send + Sync>;

/// Takes its bell down when it is dropped.
#[must_use = "the bell rings as long as this is kept"]
pub struct BellGuard {
    account: &'static ByteAccount,
    number: u64,
}

impl ByteAccount {
    /// Nobody holds anything.
    pub const fn new() -> Self {
        Self {
            held: AtomicUsize::new(0),
            bell_from: AtomicUsize::new(0),
            bells: Mutex::new(Vec::new()),
        }
    }

    /// Bytes held by all, in lots.
    #[inline]
    pub fn held(&self) -> usize {
        // Acquire: who has seen bytes here sees them in the holder's own note too; see `note_in`.
        self.held.load(Ordering::Acquire)
    }

    /// A holder that had written down `noted` bytes holds `now`: what it has written down afterwards.
    #[inline]
    pub fn note(&self, noted: usize, now: usize) -> usize {
        let lots = now.saturating_sub(now % LOT);
        // Shrinking by one lot alone is not worth a word: who sways about a step would write at each.
        if lots > noted || lots.saturating_add(LOT) < noted || (lots == 0 && noted > 0) {
            self.write(noted, lots);
            return lots;
        }
        noted
    }

    /// The same for a holder whose note others look at, and who alone writes it: it is raised before the sum and lowered
    /// behind it, so that nobody finds bytes in the sum that no holder has.
    #[inline]
    pub fn note_in(&self, noted: &AtomicUsize, now: usize) {
        let before = noted.load(Ordering::Relaxed);
        let lots = now.saturating_sub(now % LOT);
        if lots > before {
            noted.store(lots, Ordering::Relaxed);
        }
        noted.store(self.note(before, now), Ordering::Relaxed);
    }

    #[cold]
    fn write(&self, noted: usize, lots: usize) {
        let Some(more) = lots.checked_sub(noted) else {
            self.held
                .fetch_sub(noted.saturating_sub(lots), Ordering::Relaxed);
            return;
        };
        let held = self
            .held
            // Release: pairs with the Acquire in `held`.
            .fetch_add(more, Ordering::Release)
            .saturating_add(more);
        let from = self.bell_from.load(Ordering::Acquire);
        if from != 0 && held >= from {
            self.ring(held);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, usize, Bell)>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self, held: usize) {
        // Called without the lock: a bell is code of others.
        let due: Vec<Bell> = self
            .lock()
            .iter()
            .filter(|(_, from, _)| held >= *from)
            .map(|(_, _, bell)| bell.clone())
            .collect();
        for bell in due {
            bell();
        }
    }

    /// `bell` rings whenever a holder takes more while `from` bytes or more are held, until the guard is dropped. It is
    /// called with locks of holders held: it may leave word, and must not wait.
    pub fn ring_from(
        &'static self,
        from: usize,
        bell: impl Fn() + Send + Sync + 'static,
    ) -> BellGuard {
        let mut bells = self.lock();
        let number = bells.last().map_or(0, |(last, ..)| last.saturating_add(1));
        bells.push((number, from.max(1), Arc::new(bell)));
        self.publish(&bells);
        BellGuard {
            account: self,
            number,
        }
    }

    fn publish(&self, bells: &[(u64, usize, Bell)]) {
        let lowest = bells.iter().map(|(_, from, _)| *from).min();
        self.bell_from.store(lowest.unwrap_or(0), Ordering::Release);
    }
}

impl Drop for BellGuard {
    fn drop(&mut self) {
        let mut bells = self.account.lock();
        bells.retain(|(number, ..)| *number != self.number);
        self.account.publish(&bells);
    }
}

impl fmt::Debug for ByteAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteAccount")
            .field("held", &self.held())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for BellGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BellGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
