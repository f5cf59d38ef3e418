//! Who looks at a map right now, so that what was taken out of it waits for them and for nobody else.
//!
//! A thread that looks makes a number of its own odd, and even again when it leaves: two plain stores. The fence that
//! belongs between the first of them and its first load would cost every look more than the rest of it, so only one look in
//! so many has it. What was unlinked may be freed when each thread has passed such a fence since: its looks before that are
//! over, and those after it find what is linked then. Threads that look as often as others write get there by themselves.
//!
//! Those that do not are asked for by way of the kernel, which lets each thread of the process pass a barrier
//! (`membarrier`: below 1 µs, but some 20 µs on a virtual machine with another thread running). A thread whose number is
//! even after that came too late to find what was unlinked before; those whose number is odd are waited for until it has
//! changed. A thread that does not look at that moment is parked: it passes a fence before its next look, and until then
//! nobody waits for it or asks the kernel about it.
//!
//! Source: the `memb` flavour of M. Desnoyers et al., "User-Level Implementations of Read-Copy Update" (2012). Where the
//! kernel has no such call, crossbeam-epoch says when, with a fence for each look.

use crate::primitive::{AtomicPtr, AtomicU64, AtomicUsize, CachePadded, Ordering, fence};
use std::ptr;

/// One look in so many has a fence: the one whose end makes the number a multiple of twice as much.
const LOOKS_PER_FENCE: u64 = if cfg!(msgtrans_loom) { 2 } else { 64 };

const NUMBERS_PER_FENCE: u64 = 2 * LOOKS_PER_FENCE;

/// What a look writes and reads.
struct Looks {
    // Odd while the thread looks. Written by the thread that has the record, read by those who free.
    number: AtomicU64,
    // 0 while nobody minds; more by one than the even number with which somebody is about to park the thread, by two when
    // that is done. Set to 0 by the thread at its next look.
    parked: AtomicU64,
}

/// One thread's number. Records are used again, and never freed.
pub(crate) struct Record {
    looks: CachePadded<Looks>,
    // 1 while a thread has it.
    taken: AtomicUsize,
    // Fixed once the record is in the list.
    next: *mut Record,
    // How many records were there before.
    index: usize,
    // Whether a model has the kernel's barrier.
    #[cfg(msgtrans_loom)]
    kernel_helps: bool,
}

/// All records there are.
pub(crate) struct Records {
    // Only grows, by as many records as there are threads at once.
    first: AtomicPtr<Record>,
    #[cfg(msgtrans_loom)]
    kernel_helps: bool,
}

impl Records {
    #[cfg(not(msgtrans_loom))]
    pub(crate) const fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Without the kernel's help, looks have their own fences alone.
    #[cfg(msgtrans_loom)]
    pub(crate) fn new(kernel_helps: bool) -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
            kernel_helps,
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
        let record = self.free().unwrap_or_else(|| self.add());
        // Pairs with the fence in `looking`: who does not see there that the record is taken has unlinked before, and this
        // thread's first look finds what is linked then.
        fence(Ordering::SeqCst);
        record
    }

    fn free(&self) -> Option<&'static Record> {
        self.all().find(|record| {
            // Acquire: pairs with the Release in `give_back`, so that the number goes on where it stopped.
            record
                .taken
                .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        })
    }

    fn add(&self) -> &'static Record {
        let record = Box::into_raw(Box::new(Record {
            looks: CachePadded::new(Looks {
                number: AtomicU64::new(0),
                parked: AtomicU64::new(0),
            }),
            taken: AtomicUsize::new(1),
            next: ptr::null_mut(),
            index: 0,
            #[cfg(msgtrans_loom)]
            kernel_helps: self.kernel_helps,
        }));
        loop {
            // Acquire: as in `all`.
            let first = self.first.load(Ordering::Acquire);
            // SAFETY: what is in the list is a record, and records are never freed.
            let index = unsafe { first.as_ref() }.map_or(0, |first| first.index + 1);
            // SAFETY: nobody else knows the record before the exchange below has succeeded.
            unsafe { (*record).next = first };
            // SAFETY: as above.
            unsafe { (*record).index = index };
            // Release: publishes the record. Relaxed on failure: `first` is loaded again.
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

    /// Who may look at this moment: what was unlinked before the call may be freed when all of them have moved on.
    pub(crate) fn looking(&self) -> Looking {
        // Pairs with the fences in `take`, `enter` and `unpark`. Of two fences one comes first; when it is that of a look, the
        // odd number before it is seen below, and the next fence of that thread is waited for. So the one that is waited
        // for comes after this one, and the loads behind it find what is linked now. The same goes for who is seen to
        // have no record, or to be parked.
        fence(Ordering::SeqCst);
        let looking = self
            .all()
            // Acquire: pairs with the Release in `give_back`; the loads of all looks come before the freeing.
            .filter(|record| record.taken.load(Ordering::Acquire) == 1 && !record.is_parked())
            .map(|record| {
                let looks = record.looks.number.load(Ordering::Relaxed);
                let fences = (looks + 1) / NUMBERS_PER_FENCE;
                (record, (fences + 1) * NUMBERS_PER_FENCE)
            });
        Looking(looking.collect())
    }
}

impl Record {
    /// Begins a look: what it will be when the look ends, or `None` when the thread looks already.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Option<u64> {
        // Relaxed: nobody else writes it.
        let looks = self.looks.number.load(Ordering::Relaxed);
        if looks % 2 == 1 {
            return None;
        }
        let after = looks + 2;
        // A barrier orders the store before the loads of the look: that of the kernel for most. Release: who sees this
        // number and waits for the one before it must see the end of that look.
        self.looks.number.store(looks + 1, Ordering::Release);
        self.barrier(after);
        Some(after)
    }

    #[inline(always)]
    fn barrier(&self, after: u64) {
        if after.is_multiple_of(NUMBERS_PER_FENCE) {
            // Pairs with the one in `looking`.
            fence(Ordering::SeqCst);
        }
        #[cfg(msgtrans_loom)]
        if !self.kernel_helps {
            return;
        }
        barrier::light();
        // Relaxed: who parks this thread has all pass a barrier between writing this and looking at the number. Either
        // this sees it, or the odd number is seen there.
        if self.looks.parked.load(Ordering::Relaxed) != 0 {
            self.unpark();
        }
    }

    /// Tells those who free that they have to wait for this thread again.
    #[cold]
    #[inline(never)]
    fn unpark(&self) {
        // AcqRel, so that it is after the writes of those who have parked it.
        self.looks.parked.swap(0, Ordering::AcqRel);
        // Pairs with the one in `looking`: who sees there that the thread is parked has unlinked before, and the look
        // that begins finds what is linked then.
        fence(Ordering::SeqCst);
    }

    /// Whether the thread passes a fence before it looks again.
    fn is_parked(&self) -> bool {
        // Acquire: pairs with the Release in `park`; the loads of its looks come before the freeing.
        let parked = self.looks.parked.load(Ordering::Acquire);
        parked != 0 && parked.is_multiple_of(2)
    }

    /// Begins to park a thread that does not look, unless somebody else does; its number, for `park`.
    fn request(&self) -> Option<u64> {
        // Relaxed: looked at again after the barrier.
        let number = self.looks.number.load(Ordering::Relaxed);
        let request = || {
            let parked = &self.looks.parked;
            parked.compare_exchange(0, number + 1, Ordering::Relaxed, Ordering::Relaxed)
        };
        (number.is_multiple_of(2) && request().is_ok()).then_some(number)
    }

    /// Parks a thread after the request with this number and [`barrier::heavy`].
    fn park(&self, number: u64) {
        // Acquire: pairs with the Release in `leave`. If it is the same, a look that is not seen here begins after the
        // barrier and sees the request, or what comes of it.
        let parked = if self.looks.number.load(Ordering::Acquire) == number {
            number + 2
        } else {
            0
        };
        // Fails when the thread has looked since, even if somebody else requests again: no number comes twice. Release:
        // passes on the end of its looks.
        let _ = self.looks.parked.compare_exchange(
            number + 1,
            parked,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    #[inline(always)]
    pub(crate) fn leave(&self, after: u64) {
        // Release: the loads of the look come before it.
        self.looks.number.store(after, Ordering::Release);
    }

    pub(crate) fn give_back(&self) {
        // Release: pairs with the Acquire in `take` and `looking`.
        self.taken.store(0, Ordering::Release);
    }
}

/// Those who may have looked at a certain moment, with the number at which each has moved on.
pub(crate) struct Looking(Vec<(&'static Record, u64)>);

impl Looking {
    /// Whether all of them have moved on.
    #[inline]
    pub(crate) fn is_over(&mut self) -> bool {
        while let Some((record, over)) = self.0.last() {
            // Acquire: pairs with the Release in `leave` and `enter`; the loads of looks that have ended come before the
            // freeing.
            if record.looks.number.load(Ordering::Acquire) < *over {
                return false;
            }
            self.0.pop();
        }
        true
    }

    /// Lets go of those who do not look, or only since: to be called after [`barrier::heavy`].
    fn narrow(&mut self) {
        self.0.retain_mut(|(record, over)| {
            // Acquire: as in `is_over`.
            let looks = record.looks.number.load(Ordering::Acquire);
            *over = (*over).min(looks + 1);
            looks < *over && looks % 2 == 1
        });
    }

    /// Has all threads pass a barrier, for moments that are to be over soon: then only looks that last are waited for. Parks
    /// those who do not look, for the next moments.
    pub(crate) fn press<'a>(moments: impl Iterator<Item = &'a mut Self>) {
        let moments: Vec<_> = moments.collect();
        // The last one has all that any of them has, but for those who are parked now.
        let Some(last) = moments.last() else { return };
        let requests: Vec<_> = last
            .0
            .iter()
            .filter_map(|(record, _)| record.request().map(|number| (record, number)))
            .collect();
        // Pairs with the light barrier in `enter`: each thread whose odd number is not seen below passes this one before
        // its first load, and so loads what is linked now. When the kernel does not answer, they wait.
        if !barrier::heavy() {
            return;
        }
        for (record, number) in requests {
            record.park(number);
        }
        moments.into_iter().for_each(Self::narrow);
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
    use crate::primitive::thread_index;
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
        /// A small number that no other thread has while this one has it.
        #[inline(always)]
        pub(crate) fn thread(&self) -> usize {
            // SAFETY: what is not null is a record, and records are never freed.
            unsafe { self.record.as_ref() }.map_or_else(thread_index, |record| record.index)
        }

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
    }

    impl Since {
        /// The present: what was unlinked before it may be freed when it is over.
        pub(crate) fn now() -> Self {
            if kernel_helps() {
                return Self::Looks(RECORDS.looking());
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
            }
        }

        /// Moves time on, where it does not by itself.
        pub(crate) fn hurry<'a>(moments: impl Iterator<Item = &'a mut Self>) {
            if kernel_helps() {
                Looking::press(moments.filter_map(|since| match since {
                    Self::Looks(looking) => Some(looking),
                    Self::Epoch(_) => None,
                }));
            } else {
                moments.for_each(|_| ());
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
