//! Retired nodes wait on the thread that retired them, and are freed there.
//!
//! Freed by whichever thread comes next, every other line of node and value would move to another core, and come back
//! to be used again. `grace` says when a batch may go. What a thread leaves behind, and what is more than it keeps,
//! is freed by whoever finds it.

use super::grace::{Guard, Since};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Nodes that are closed together, because each batch looks at all threads.
const BATCH: usize = 128;

/// Closed batches that wait until threads that seldom look have moved on by themselves; one more, and the kernel is asked,
/// for all of them at once.
const PATIENCE: usize = 2;

/// Closed batches that wait on a thread at most; with more, readers are slow to leave, and all threads share the work.
const WAITING_MAX: usize = 8;

/// So often is the oldest batch looked at: what tells its time is written by others with each look.
const RETIRED_PER_GLANCE: usize = 16;

/// With more nodes than are under way without slow readers, two are freed for each that is retired.
const GATHERED: usize = (PATIENCE + 3) * BATCH;

/// So often does a reader look for what others have left behind.
const LOOKS_PER_VISIT: u64 = 1024;

/// How often `flush` looks whether the readers of the moment have left.
const FLUSH_LOOKS: usize = 64;

/// A node, and how to free it.
type Retired = (*mut (), unsafe fn(*mut ()));

/// So many nodes that were retired before a moment.
struct Closed {
    nodes: usize,
    since: Since,
    // Whether the kernel has been asked about it.
    pressed: bool,
}

impl Closed {
    fn now(nodes: usize) -> Self {
        Self {
            nodes,
            since: Since::now(),
            pressed: false,
        }
    }

    /// Asks the kernel about those that it was not asked about.
    fn press<'a>(batches: impl Iterator<Item = &'a mut Self>) {
        Since::hurry(batches.filter(|batch| !batch.pressed).map(|batch| {
            batch.pressed = true;
            &mut batch.since
        }));
    }
}

/// Those that a thread does not keep.
struct Batch {
    since: Since,
    nodes: Vec<Retired>,
}

struct Limbo {
    // The oldest first: those that are ripe, those of each closed batch, those of the open one.
    nodes: RefCell<VecDeque<Retired>>,
    // Nodes whose time has come, freed a few at a time: what an allocator keeps for a thread is soon full.
    ripe: Cell<usize>,
    // In the order in which they were closed.
    closed: RefCell<VecDeque<Closed>>,
    open: Cell<usize>,
    // A destructor may write to a map, and must not begin to free as well.
    freeing: Cell<bool>,
}

thread_local! {
    static LIMBO: Limbo = const {
        Limbo {
            nodes: RefCell::new(VecDeque::new()),
            ripe: Cell::new(0),
            closed: RefCell::new(VecDeque::new()),
            open: Cell::new(0),
            freeing: Cell::new(false),
        }
    };
}

/// Begins a look at a map.
#[inline(always)]
pub(crate) fn pin() -> Guard {
    let guard = super::grace::pin();
    if guard.is_one_in(LOOKS_PER_VISIT) {
        left::visit();
    }
    guard
}

/// Frees `node` with `free` after all guards that exist now are gone.
///
/// # Safety
/// `node` is no longer reachable for threads that pin from now on, is retired once, and `free` may
/// run on another thread at any later time.
#[inline]
pub(crate) unsafe fn retire(_: &Guard, node: *mut (), free: unsafe fn(*mut ())) {
    let retired = LIMBO.try_with(|limbo| {
        limbo.nodes.borrow_mut().push_back((node, free));
        limbo.open.set(limbo.open.get() + 1);
        if limbo.open.get() >= BATCH {
            limbo.close();
        }
        limbo.free_some();
    });
    if retired.is_err() {
        // The thread is ending, and its own list is gone.
        let mut closed = Closed::now(1);
        Closed::press(std::iter::once(&mut closed));
        left::leave(Batch {
            since: closed.since,
            nodes: vec![(node, free)],
        });
    }
}

/// Frees what this thread has retired, and leaves to all threads what somebody may still look at.
pub(crate) fn flush() {
    let _ = LIMBO.try_with(Limbo::hand_over);
    left::visit();
}

/// Frees all of them.
///
/// # Safety
/// `retire`'s caller vouched for the nodes, and their time has come.
unsafe fn free_all(nodes: impl Iterator<Item = Retired>) {
    // A destructor that panics leaks what is left here, nothing else.
    for (node, free) in nodes {
        // SAFETY: the caller vouches, and each comes once.
        unsafe { free(node) };
    }
}

impl Limbo {
    /// Closes the open batch.
    #[cold]
    fn close(&self) {
        // Not borrowed: crossbeam-epoch may run somebody's destructor here, which may retire and close as well.
        let batch = Closed::now(self.open.take());
        self.closed.borrow_mut().push_back(batch);
        let patient = self
            .closed
            .borrow()
            .iter()
            .filter(|batch| !batch.pressed)
            .count();
        if patient > PATIENCE {
            self.press();
        }
        if self.closed.borrow().len() > WAITING_MAX {
            self.leave();
        }
    }

    fn press(&self) {
        let mut pressed = self.closed.take();
        Closed::press(pressed.iter_mut());
        let mut closed = self.closed.borrow_mut();
        pressed.append(&mut closed);
        *closed = pressed;
    }

    /// Leaves the oldest closed batch to all threads.
    fn leave(&self) {
        let mut all = self.nodes.borrow_mut();
        let Some(Closed { nodes, since, .. }) = self.closed.borrow_mut().pop_front() else {
            return;
        };
        let ripe = self.ripe.get();
        let nodes = all.drain(ripe..ripe + nodes).collect();
        left::leave(Batch { since, nodes });
    }

    /// Whether there is something to free.
    #[inline]
    fn is_ripe(&self) -> bool {
        self.ripe.get() > 0 || (self.open.get().is_multiple_of(RETIRED_PER_GLANCE) && self.ripen())
    }

    #[inline(never)]
    fn ripen(&self) -> bool {
        let mut closed = self.closed.borrow_mut();
        let Some(batch) = closed.front_mut() else {
            return false;
        };
        let over = batch.since.is_over();
        if over {
            self.ripe.set(batch.nodes);
            closed.pop_front();
        }
        over
    }

    /// Frees as many as one retires; more when some have gathered while a reader was slow.
    #[inline]
    fn free_some(&self) {
        if !self.is_ripe() || self.freeing.replace(true) {
            return;
        }
        let _ended = Ended(&self.freeing);
        self.free_one();
        if self.nodes.borrow().len() > GATHERED && self.ripe.get() > 0 {
            self.free_one();
        }
    }

    #[inline]
    fn free_one(&self) {
        // Not borrowed while a destructor runs.
        let next = self.nodes.borrow_mut().pop_front();
        self.ripe.set(self.ripe.get() - 1);
        if let Some((node, free)) = next {
            // SAFETY: `retire`'s caller vouched for the node, its batch's time has come, and it is popped once.
            unsafe { free(node) };
        }
    }

    fn hand_over(&self) {
        let mut nodes = self.nodes.take();
        let ripe = self.ripe.take();
        let mut closed = self.closed.take();
        let open = self.open.take();
        if open > 0 {
            closed.push_back(Closed::now(open));
        }
        Closed::press(closed.iter_mut());
        // SAFETY: the time of these has come.
        unsafe { free_all(nodes.drain(..ripe)) };
        for mut batch in closed {
            let its = nodes.drain(..batch.nodes);
            if (0..FLUSH_LOOKS).any(|_| batch.since.is_over()) {
                // SAFETY: the time has come.
                unsafe { free_all(its) };
            } else {
                let (since, nodes) = (batch.since, its.collect());
                left::leave(Batch { since, nodes });
            }
        }
    }
}

impl Drop for Limbo {
    fn drop(&mut self) {
        self.hand_over();
    }
}

struct Ended<'a>(&'a Cell<bool>);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Batches that no thread keeps any more.
mod left {
    use super::*;

    struct Left {
        batch: Batch,
        next: *mut Left,
    }

    // A stack; taken as a whole, so that no address can come back while somebody exchanges it.
    static LEFT: AtomicPtr<Left> = AtomicPtr::new(ptr::null_mut());

    /// Leaves `batch` to whoever visits when its time has come.
    pub(super) fn leave(batch: Batch) {
        push(Box::new(Left {
            batch,
            next: ptr::null_mut(),
        }));
    }

    fn push(left: Box<Left>) {
        let left = Box::into_raw(left);
        let mut next = LEFT.load(Ordering::Relaxed);
        loop {
            // SAFETY: ours alone until the exchange below has succeeded.
            unsafe { (*left).next = next };
            // Release: publishes the batch; pairs with the Acquire in `visit`.
            match LEFT.compare_exchange_weak(next, left, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => next = now,
            }
        }
    }

    /// Frees what was left and whose time has come.
    #[cold]
    pub(super) fn visit() {
        if LEFT.load(Ordering::Relaxed).is_null() {
            return;
        }
        // Acquire: pairs with the Release in `push`.
        let mut next = LEFT.swap(ptr::null_mut(), Ordering::Acquire);
        while !next.is_null() {
            // SAFETY: it came from `into_raw` in `push`, and with the swap it became ours.
            let mut left = unsafe { Box::from_raw(next) };
            next = left.next;
            if left.batch.since.is_over() {
                // SAFETY: the time has come.
                unsafe { free_all(left.batch.nodes.into_iter()) };
            } else {
                push(left);
            }
        }
    }
}
