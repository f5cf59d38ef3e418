//! One writer at a time; a loser leaves a note instead of waiting.

use crate::primitive::{AtomicUsize, Ordering};

const FREE: usize = 0;
const HELD: usize = 1;
const NOTED: usize = 2;

/// Grants the turn to write to one thread at a time, and never makes another wait.
///
/// A thread that finds the token held leaves a note and goes on; the holder finds the note when it
/// wants to let go and looks at the shared work again. So whatever was queued before
/// [`try_enter`](Self::try_enter) is written by somebody:
///
/// ```
/// use msgtrans_lockfree::WriteToken;
///
/// let token = WriteToken::new();
/// // … queue the work, then:
/// token.run(|| { /* write everything that is queued */ });
/// ```
///
/// # Limits
/// Not fair, guards no data of its own, and a holder may go round as often as notes arrive: bound
/// the work of one round.
///
/// # Cost
/// 8 bytes, one atomic operation to enter and one to leave.
#[derive(Debug)]
pub struct WriteToken {
    // FREE → HELD by the one who enters; HELD → NOTED by losers; back to HELD or FREE by the holder.
    state: AtomicUsize,
}

impl WriteToken {
    /// Creates a free token.
    pub fn new() -> Self {
        Self {
            state: AtomicUsize::new(FREE),
        }
    }

    /// Takes the turn, or leaves a note with the present holder and returns `None`.
    #[inline]
    pub fn try_enter(&self) -> Option<WriteTurn<'_>> {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let next = if state == FREE { HELD } else { NOTED };
            // AcqRel: entering acquires what the last holder wrote (its Release in `finish` or
            // `drop`); leaving a note releases what was queued to the holder that finds it. The note
            // is written even if one is there, or this queueing would not be ordered before the look.
            match self
                .state
                .compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(FREE) => return Some(WriteTurn { token: self }),
                Ok(_) => return None,
                Err(now) => state = now,
            }
        }
    }

    /// Runs `work` while nobody else does, again for each note left meanwhile; returns at once,
    /// leaving a note, when another thread is running it. Says whether this thread ran it.
    pub fn run(&self, mut work: impl FnMut()) -> bool {
        let mut turn = self.try_enter();
        let entered = turn.is_some();
        while let Some(held) = turn {
            work();
            turn = held.finish();
        }
        entered
    }

    /// Whether somebody holds the token. A hint: it may change at once.
    pub fn is_held(&self) -> bool {
        self.state.load(Ordering::Relaxed) != FREE
    }
}

impl Default for WriteToken {
    fn default() -> Self {
        Self::new()
    }
}

/// The turn to write. End it with [`finish`](Self::finish); dropping it (a panic) lets go without
/// looking at notes.
#[must_use = "the turn ends when this is dropped; call `finish` so that no note is lost"]
#[derive(Debug)]
pub struct WriteTurn<'a> {
    token: &'a WriteToken,
}

impl WriteTurn<'_> {
    /// Lets go, or returns the turn because a note was left: look at the work again.
    #[inline]
    #[must_use = "a returned turn means that there may be more work"]
    pub fn finish(self) -> Option<Self> {
        // Release: pairs with the Acquire of the next `try_enter`.
        if self
            .token
            .state
            .compare_exchange(HELD, FREE, Ordering::Release, Ordering::Relaxed)
            .is_ok()
        {
            std::mem::forget(self);
            return None;
        }
        // Acquire: pairs with the loser's Release, so that what it queued is seen by the next look.
        self.token.state.swap(HELD, Ordering::AcqRel);
        Some(self)
    }
}

impl Drop for WriteTurn<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next `try_enter`.
        self.token.state.store(FREE, Ordering::Release);
    }
}
