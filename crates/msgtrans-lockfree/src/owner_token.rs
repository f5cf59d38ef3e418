//! One owner that is at work most of the time, and guests that do a little of its work while it rests.

use crate::primitive::{AtomicUsize, Ordering};

/// The owner's; also for ever, once it has [sealed](OwnerToken::seal) the token.
const OWNER: usize = 0;
/// Nobody's: the owner rests and has left nothing to do.
const FREE: usize = 1;
/// A guest's.
const GUEST: usize = 2;
/// A guest's, and the owner waits for it.
const WANTED: usize = 3;

/// The turn of one owner, which guests may take for a moment while the owner rests.
///
/// Nobody stands still for the other. A guest that does not get the turn does something else. An owner that does not get it
/// goes to sleep, and the guest that has it learns of this when it [gives the turn back](Self::give_back): then it is the
/// owner's, and the guest wakes the owner.
///
/// ```
/// use msgtrans_lockfree::OwnerToken;
///
/// let token = OwnerToken::new();
/// assert!(!token.take(), "the owner has it from the beginning");
/// token.lay_down();
/// assert!(token.take(), "a guest");
/// assert!(!token.begin(|| { /* make known whom to wake */ }));
/// assert!(token.give_back(), "wake the owner");
/// assert!(token.begin(|| ()));
/// ```
///
/// # Limits
/// Guards no data of its own. A guest that stops for good while it has the turn stops the owner.
///
/// # Cost
/// 8 bytes; one atomic operation to take and one to give back, none for an owner that has kept the turn.
#[derive(Debug)]
pub struct OwnerToken {
    state: AtomicUsize,
}

impl OwnerToken {
    /// The owner's turn.
    pub fn new() -> Self {
        Self {
            state: AtomicUsize::new(OWNER),
        }
    }

    /// The owner takes the turn, or keeps it. `false`: a guest has it and will be told that the owner is to be woken;
    /// `register` has been called before, so that whoever wakes it finds how.
    #[inline]
    pub fn begin(&self, register: impl FnOnce()) -> bool {
        // Acquire in both: what the last guest has done, also where it has handed the turn over.
        self.state.load(Ordering::Acquire) == OWNER
            || self
                .state
                .compare_exchange(FREE, OWNER, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
            || self.begin_behind(register)
    }

    #[cold]
    fn begin_behind(&self, register: impl FnOnce()) -> bool {
        // Before the guest can find that the owner waits.
        register();
        let mut found = self.state.load(Ordering::Acquire);
        loop {
            let next = match found {
                OWNER => return true,
                FREE => OWNER,
                _ => WANTED,
            };
            // Written also where the owner was waiting already, because it may be woken in another way by now. Release:
            // the guest that finds it finds what was registered. Acquire: as in `begin`.
            match self
                .state
                .compare_exchange(found, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return next == OWNER,
                Err(now) => found = now,
            }
        }
    }

    /// The owner has done all that there was, and rests. For the owner, in its turn.
    #[inline]
    pub fn lay_down(&self) {
        // Release: who takes the turn comes behind everything that the owner has done.
        self.state.store(FREE, Ordering::Release);
    }

    /// The owner has gone: nobody gets the turn any more. For the owner, also while a guest has it; the guest is then told
    /// to wake an owner.
    pub fn seal(&self) {
        // A swap and no store, so that it is either before or behind each step of a guest.
        self.state.swap(OWNER, Ordering::AcqRel);
    }

    /// A guest takes the turn, if it is nobody's.
    #[inline]
    pub fn take(&self) -> bool {
        // Acquire: behind everything that whoever had it last has done.
        self.state
            .compare_exchange(FREE, GUEST, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// The guest lays the turn down. `true`: the owner waits and has it now; it is to be woken.
    #[inline]
    #[must_use = "an owner that nobody wakes waits for ever"]
    pub fn give_back(&self) -> bool {
        // Release: whoever has it next comes behind what the guest has done.
        let free = self
            .state
            .compare_exchange(GUEST, FREE, Ordering::Release, Ordering::Relaxed);
        if free.is_ok() {
            return false;
        }
        // The owner sleeps until it is woken, or has gone: nobody else writes this now but an owner that looks again.
        // Acquire: how to wake it.
        self.state.swap(OWNER, Ordering::AcqRel);
        true
    }
}

impl Default for OwnerToken {
    fn default() -> Self {
        Self::new()
    }
}
