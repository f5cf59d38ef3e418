//! Who looks at a map right now, so that what was taken out of it waits for them and for nobody else.
//!
//! A thread that looks makes a number of its own odd, and even again when it leaves: two plain stores. The fence that
//! belongs between the first of them and its first load would cost every look more than the rest of it; instead, whoever
//! wants to free asks the kernel, once for a whole batch, to let each thread of the process pass a barrier
//! (`membarrier`, about 1 µs). A thread whose number is even after that came too late to find what was unlinked
//! before; those whose number is odd are waited for until it has changed.
//!
//! Source: the `memb` flavour of M. Desnoyers et al., "User-Level Implementations of Read-Copy Update" (2012). Where the
//! kernel has no such call, crossbeam-epoch says when, with a fence for each look.

use crate::primitive::{AtomicPtr, AtomicU64, AtomicUsize, CachePadded, Ordering};
use std::ptr;

/// One thread's number. Records are used again, and never freed.
pub(crate) struct Record {
    // Odd while the thread looks. Written by the thread that has the record, read by those who free.
    looks: CachePadded<AtomicU64>,
    // 1 while a thread has it.
    taken: AtomicUsize,
    // Fixed once the record is in the list.
    next: *mut Record,
}

/// All records there are.
pub(crate) struct Records {
    // Only grows, by as many records as there are threads at once.
    first: AtomicPtr<Record>,
}

impl Records {
    #[cfg(not(msgtrans_loom))]
    pub(crate) const fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[cfg(msgtrans_loom)]
    pub(crate) fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Every record, the newest first.
    fn all(&self) -> impl Iterator<Item = &'static Record> {
        // Acquire: pairs with the Release in `take`.
        let mut next = self.first.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: what is in the list is a record, and records are never freed.
            let record = unsafe { next.as_ref() }?;
            next = record.next;
            Some(record)
        })
    }

    /// A record for a thread that had none.
    pub(crate) fn take(&self) -> &'static Record {
        let free = self.all().find(|record| {
            // Acquire: pairs with the Release in `give_back`, so that the number goes on where it stopped.
            record
                .taken
                .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        });
        if let Some(record) = free {
            return record;
        }
        let record = Box::into_raw(Box::new(Record {
            looks: CachePadded::new(AtomicU64::new(0)),
            taken: AtomicUsize::new(1),
            next: ptr::null_mut(),
        }));
        loop {
            let first = self.first.load(Ordering::Relaxed);
            // SAFETY: nobody else knows the record before the exchange below has succeeded.
            unsafe { (*record).next = first };
            // Release: publishes the record. Relaxed on failure: `first` is not looked into.
            if self
                .first
                .compare_exchange(first, record, Ordering::Release, Ordering::Relaxed)
                .is_ok()
            {
                // SAFETY: made above, and never freed.
                return unsafe { &*record };
            }
        }
    }

    /// Who looks at this moment; `None` when the kernel did not answer. What was unlinked before the call may be freed
    /// when all of them have moved on.
    pub(crate) fn looking(&self) -> Option<Looking> {
        // Pairs with the light barrier in `enter`: each thread whose odd number is not seen below passes this one
        // before its first load, and so loads what is linked now.
        if !barrier::heavy() {
            return None;
        }
        let mut looking = Vec::new();
        for record in self.all() {
            // Acquire: pairs with the Release in `leave`; the loads of a look that ended come before the freeing.
            let looks = record.looks.load(Ordering::Acquire);
            if looks % 2 == 1 {
                looking.push((record, looks));
            }
        }
        Some(Looking(looking))
    }
}

impl Record {
    /// Begins a look: what it will be when the look ends, or `None` when the thread looks already.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Option<u64> {
        // Relaxed: nobody else writes it.
        let looks = self.looks.load(Ordering::Relaxed);
        if looks % 2 == 1 {
            return None;
        }
        // The barrier orders the store before the loads of the look. Release: who sees this number and waits for the
        // one before it must see the end of that look.
        self.looks.store(looks + 1, Ordering::Release);
        barrier::light();
        Some(looks + 2)
    }

    #[inline(always)]
    pub(crate) fn leave(&self, after: u64) {
        // Release: the loads of the look come before it.
        self.looks.store(after, Ordering::Release);
    }

    pub(crate) fn give_back(&self) {
        // Release: pairs with the Acquire in `take`.
        self.taken.store(0, Ordering::Release);
    }
}

/// Those who looked at a certain moment.
pub(crate) struct Looking(Vec<(&'static Record, u64)>);

impl Looking {
    /// Whether all of them have moved on.
    #[inline]
    pub(crate) fn is_over(&mut self) -> bool {
        while let Some((record, looks)) = self.0.last() {
            // Acquire: as in `looking`.
            if record.looks.load(Ordering::Acquire) == *looks {
                return false;
            }
            self.0.pop();
        }
        true
    }
}

#[cfg(not(msgtrans_loom))]
mod barrier {
    use std::sync::atomic::{Ordering, compiler_fence};

    /// Keeps the compiler from moving loads up; the processor's part is done by `heavy`.
    #[inline(always)]
    pub(super) fn light() {
        compiler_fence(Ordering::SeqCst);
    }

    /// A full barrier on every thread of the process that runs; those that do not pass one when they are switched in.
    pub(super) fn heavy() -> bool {
        kernel::membarrier(kernel::PRIVATE_EXPEDITED)
    }

    /// Has the kernel get ready for `heavy`; says whether it can.
    pub(super) fn prepare() -> bool {
        kernel::membarrier(kernel::REGISTER_PRIVATE_EXPEDITED)
    }

    #[cfg(all(
        target_os = "linux",
        target_pointer_width = "64",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(miri)
    ))]
    mod kernel {
        use std::ffi::{c_int, c_long};

        // The kernel's `linux/membarrier.h`.
        pub(super) const PRIVATE_EXPEDITED: c_int = 1 << 3;
        pub(super) const REGISTER_PRIVATE_EXPEDITED: c_int = 1 << 4;

        const MEMBARRIER: c_long = if cfg!(target_arch = "x86_64") {
            324
        } else {
            283
        };

        unsafe extern "C" {
            // Of the C library that std stands on.
            fn syscall(number: c_long, ...) -> c_long;
        }

        pub(super) fn membarrier(command: c_int) -> bool {
            const NONE: c_int = 0;
            // SAFETY: the call takes these three numbers and touches no memory of ours.
            unsafe { syscall(MEMBARRIER, command, NONE, NONE) == 0 }
        }
    }

    #[cfg(not(all(
        target_os = "linux",
        target_pointer_width = "64",
        any(target_arch = "x86_64", target_arch = "aarch64"),
        not(miri)
    )))]
    mod kernel {
        pub(super) const PRIVATE_EXPEDITED: i32 = 0;
        pub(super) const REGISTER_PRIVATE_EXPEDITED: i32 = 0;

        pub(super) fn membarrier(_: i32) -> bool {
            false
        }
    }
}

#[cfg(msgtrans_loom)]
mod barrier {
    use loom::sync::atomic::{Ordering, fence};

    /// Loom has no barrier on behalf of others; between two fences the same holds.
    pub(super) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(super) fn heavy() -> bool {
        fence(Ordering::SeqCst);
        true
    }
}

#[cfg(not(msgtrans_loom))]
pub(super) use threads::{Guard, Since, pin};

/// The records of this process.
#[cfg(not(msgtrans_loom))]
mod threads {
    use super::{Looking, Record, Records, barrier};
    use std::cell::Cell;
    use std::mem::{self, MaybeUninit};
    use std::ptr;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, OnceLock};

    static RECORDS: Records = Records::new();

    thread_local! {
        // Without a destructor, so that to look at it is one load; `OWNED` has the destructor.
        static OWN: Cell<Option<&'static Record>> = const { Cell::new(None) };
        static OWNED: Owned = const { Owned };
    }

    struct Owned;

    impl Drop for Owned {
        fn drop(&mut self) {
            if let Some(record) = OWN.take() {
                record.give_back();
            }
        }
    }

    /// A look: what this thread finds while it lasts is not freed.
    pub(crate) struct Guard {
        // Null with crossbeam-epoch.
        record: *const Record,
        // What the number will be, which is even. Odd is what else the end of the look means, see `leave_otherwise`.
        after: u64,
        // There when there is no record. No `Option`: a look would be written to memory and looked through at its end.
        epoch: MaybeUninit<crossbeam_epoch::Guard>,
    }

    /// At the end of a look within another one, and of one with crossbeam-epoch, no number changes.
    const NOTHING: u64 = 1;

    #[inline(always)]
    pub(crate) fn pin() -> Guard {
        // Field by field, so that a look lives in registers.
        let (record, given_back) = OWN
            .get()
            .map_or_else(first_look, |record| (ptr::from_ref(record), 0));
        // SAFETY: what is not null is a record, and records are never freed.
        let (after, epoch) = match unsafe { record.as_ref() } {
            Some(record) => (
                record.enter().map_or(NOTHING, |after| after + given_back),
                MaybeUninit::uninit(),
            ),
            None => (NOTHING, MaybeUninit::new(crossbeam_epoch::pin())),
        };
        Guard {
            record,
            after,
            epoch,
        }
    }

    /// The record of a thread that had none, if the kernel helps, and 1 if it is to be given back after this look.
    #[cold]
    #[inline(never)]
    fn first_look() -> (*const Record, u64) {
        if !kernel_helps() {
            return (ptr::null(), 0);
        }
        let record = RECORDS.take();
        if OWNED.try_with(|_| ()).is_ok() {
            OWN.set(Some(record));
            (record, 0)
        } else {
            // The thread is being torn down: nobody would give the record back later.
            (record, 1)
        }
    }

    fn kernel_helps() -> bool {
        static HELPS: OnceLock<bool> = OnceLock::new();
        *HELPS.get_or_init(barrier::prepare)
    }

    impl Guard {
        /// Says so once in so many looks of this thread, a power of two.
        #[inline(always)]
        pub(crate) fn is_one_in(&self, many: u64) -> bool {
            self.after & (2 * many - 1) == 0
        }
    }

    impl Drop for Guard {
        #[inline(always)]
        fn drop(&mut self) {
            if self.after & 1 == 0 {
                // SAFETY: an even number comes with a record, and records are never freed.
                unsafe { &*self.record }.leave(self.after);
            } else {
                let epoch = mem::replace(&mut self.epoch, MaybeUninit::uninit());
                // SAFETY: these are a guard's own, at its end.
                unsafe { leave_otherwise(self.record, self.after, epoch) };
            }
        }
    }

    /// What an odd number means: nothing, the end of a look with crossbeam-epoch, or one more than the number for a record
    /// that is given back with it.
    ///
    /// # Safety
    /// The three are those of one guard, and it is not used again.
    #[cold]
    unsafe fn leave_otherwise(
        record: *const Record,
        after: u64,
        epoch: MaybeUninit<crossbeam_epoch::Guard>,
    ) {
        // SAFETY: what is not null is a record, and records are never freed.
        match unsafe { record.as_ref() } {
            // SAFETY: without a record there is a guard of crossbeam-epoch.
            None => drop(unsafe { epoch.assume_init() }),
            Some(_) if after == NOTHING => {}
            Some(record) => {
                record.leave(after - 1);
                record.give_back();
            }
        }
    }

    /// A moment, from which the looks that lasted then are waited for.
    pub(crate) enum Since {
        Looks(Looking),
        Epoch(Arc<AtomicBool>),
        /// The kernel has not answered.
        Unknown,
    }

    impl Since {
        /// The present: what was unlinked before it may be freed when it is over.
        pub(crate) fn now() -> Self {
            if kernel_helps() {
                return RECORDS.looking().map_or(Self::Unknown, Self::Looks);
            }
            Self::by_epoch()
        }

        fn by_epoch() -> Self {
            let over = Arc::new(AtomicBool::new(false));
            let guard = crossbeam_epoch::pin();
            let setting = over.clone();
            // Release: passes on what the guards that are gone by then did; pairs with the load below.
            guard.defer(move || setting.store(true, Ordering::Release));
            guard.flush();
            Self::Epoch(over)
        }

        /// Whether nobody looks any more of those who did.
        #[inline]
        pub(crate) fn is_over(&mut self) -> bool {
            match self {
                Self::Looks(looking) => looking.is_over(),
                // Acquire: pairs with the Release above.
                Self::Epoch(over) => over.load(Ordering::Acquire),
                Self::Unknown => false,
            }
        }

        /// Moves time on, where it does not by itself.
        pub(crate) fn hurry() {
            if !kernel_helps() {
                crossbeam_epoch::pin().flush();
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn where_the_kernel_does_not_help_a_moment_is_over_when_its_guards_are_gone() {
            let guard = crossbeam_epoch::pin();
            let mut since = Since::by_epoch();
            for _ in 0..100 {
                crossbeam_epoch::pin().flush();
                assert!(!since.is_over());
            }
            drop(guard);
            while !since.is_over() {
                crossbeam_epoch::pin().flush();
            }
        }
    }
}
