//! A queue for many producers with an asynchronous wake for its one consumer.
//!
//! The items lie in crossbeam's queues. Around them stands one word, `2 × reserved + closed`: a push
//! reserves before it stores and a pop gives back after it took, so "closed and nothing reserved"
//! is the exact end of the queue, even while a push that won against `close` is still storing.

use crate::primitive::{ArrayQueue, AtomicUsize, CachePadded, Ordering, SegQueue};
use crate::wake_cell::WakeCell;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

const CLOSED: usize = 1;
const ONE: usize = 2;

/// A bounded or unbounded queue; producers never wait, one consumer may await.
///
/// ```
/// use msgtrans_lockfree::{LockFreeQueue, PushError};
///
/// let queue = LockFreeQueue::bounded(1);
/// queue.try_push("first")?;
/// assert_eq!(queue.try_push("second"), Err(PushError::Full("second")));
/// queue.close();
/// assert_eq!(queue.try_push("third"), Err(PushError::Closed("third")));
/// assert_eq!(queue.pop(), Some("first")); // what was queued is still delivered
/// # Ok::<(), PushError<&str>>(())
/// ```
///
/// # Limits
/// Order holds per producer. Any thread may `pop`, but only one task at a time may wait (`poll_pop`,
/// `recv`). An unbounded queue is bounded by memory alone: bound what you put into it. A bounded
/// queue allocates its slots at once and padding costs it some 500 bytes, so it is not something to
/// embed in each idle connection.
///
/// # Cost
/// Push and pop are two and one uncontended atomic operations more than crossbeam's own.
pub struct LockFreeQueue<T> {
    items: Items<T>,
    // Written by producers, the consumer and `close`. See the top of the file.
    state: CachePadded<AtomicUsize>,
    wake: WakeCell,
}

enum Items<T> {
    Bounded {
        queue: ArrayQueue<T>,
        capacity: usize,
    },
    Unbounded(SegQueue<T>),
}

impl<T> LockFreeQueue<T> {
    /// Creates a queue that holds at most `capacity` items.
    ///
    /// # Panics
    /// When `capacity` is 0.
    pub fn bounded(capacity: usize) -> Self {
        assert!(
            capacity > 0,
            "capacity of 0 items is below the minimum of 1"
        );
        Self::with(Items::Bounded {
            queue: ArrayQueue::new(capacity),
            capacity,
        })
    }

    /// Creates a queue that grows in blocks of 31 items as needed.
    pub fn unbounded() -> Self {
        Self::with(Items::Unbounded(SegQueue::new()))
    }

    fn with(items: Items<T>) -> Self {
        Self {
            items,
            state: CachePadded::new(AtomicUsize::new(0)),
            wake: WakeCell::new(),
        }
    }

    /// Queues `value` and wakes the consumer if it sleeps.
    ///
    /// # Errors
    /// `Full` or `Closed`, each with the value.
    pub fn try_push(&self, value: T) -> Result<(), PushError<T>> {
        match &self.items {
            Items::Bounded { queue, capacity } => {
                // Relaxed: a stale value only costs another round.
                let mut state = self.state.load(Ordering::Relaxed);
                loop {
                    if state & CLOSED != 0 {
                        return Err(PushError::Closed(value));
                    }
                    if state / ONE >= *capacity {
                        return Err(PushError::Full(value));
                    }
                    // AcqRel: the Acquire pairs with the Release in `pop`, so that the slot which
                    // that pop gave back is seen to be free.
                    match self.state.compare_exchange_weak(
                        state,
                        state + ONE,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    ) {
                        Ok(_) => break,
                        Err(now) => state = now,
                    }
                }
                // At most `capacity` are reserved and each pop gives back after it took, so there is
                // a slot; another producer may only be about to finish its turn on it.
                let mut value = value;
                while let Err(back) = queue.push(value) {
                    value = back;
                    std::hint::spin_loop();
                }
            }
            Items::Unbounded(queue) => {
                // AcqRel: ordered with `close`, whose consumer reads the reservation.
                if self.state.fetch_add(ONE, Ordering::AcqRel) & CLOSED != 0 {
                    self.give_back();
                    return Err(PushError::Closed(value));
                }
                queue.push(value);
            }
        }
        self.wake.wake();
        Ok(())
    }

    /// Takes the oldest item, if there is one now. Any thread may call it.
    pub fn pop(&self) -> Option<T> {
        let value = match &self.items {
            Items::Bounded { queue, .. } => queue.pop(),
            Items::Unbounded(queue) => queue.pop(),
        }?;
        // Release: the slot is free before the reservation is; pairs with `try_push`.
        self.state.fetch_sub(ONE, Ordering::AcqRel);
        Some(value)
    }

    /// Takes the oldest item; `Ready(None)` once the queue is closed and everything was taken.
    ///
    /// # Cancel safety
    /// Nothing is taken unless `Ready` is returned.
    pub fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(value) = self.pop() {
            return Poll::Ready(Some(value));
        }
        self.wake.register(cx.waker());
        // From here on a push wakes; what was pushed before is found by the look below.
        self.wake.clear();
        if let Some(value) = self.pop() {
            return Poll::Ready(Some(value));
        }
        // Acquire: pairs with `close` and with the reservations before it.
        if self.state.load(Ordering::Acquire) == CLOSED {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    /// Waits for the oldest item; `None` once the queue is closed and everything was taken.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub fn recv(&self) -> Recv<'_, T> {
        Recv { queue: self }
    }

    /// Refuses every later push and lets the consumer run to the end. Says whether it was open.
    pub fn close(&self) -> bool {
        // AcqRel: pairs with the reservation in `try_push` and the last look in `poll_pop`.
        let was_open = self.state.fetch_or(CLOSED, Ordering::AcqRel) & CLOSED == 0;
        self.wake.wake();
        was_open
    }

    /// Whether `close` was called.
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// How many items are queued, counting those that a push is just storing.
    pub fn len(&self) -> usize {
        self.state.load(Ordering::Acquire) / ONE
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bound in items, `None` when there is none.
    pub fn capacity(&self) -> Option<usize> {
        match &self.items {
            Items::Bounded { capacity, .. } => Some(*capacity),
            Items::Unbounded(_) => None,
        }
    }

    /// Undoes a reservation that met a closed queue; the consumer may be waiting for just that.
    #[cold]
    fn give_back(&self) {
        // Release: pairs with the last look in `poll_pop`.
        if self.state.fetch_sub(ONE, Ordering::AcqRel) == CLOSED + ONE {
            self.wake.wake();
        }
    }
}

impl<T> fmt::Debug for LockFreeQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockFreeQueue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// The future of [`LockFreeQueue::recv`].
#[must_use = "futures do nothing unless polled"]
pub struct Recv<'a, T> {
    queue: &'a LockFreeQueue<T>,
}

impl<T> Future for Recv<'_, T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.queue.poll_pop(cx)
    }
}

impl<T> fmt::Debug for Recv<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recv").finish_non_exhaustive()
    }
}

/// Why a push was refused; the value comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushError<T> {
    /// The queue holds as many items as it may. Try again when the consumer has taken some.
    Full(T),
    /// The queue was closed. It never opens again.
    Closed(T),
}

impl<T> PushError<T> {
    /// The value that was not queued.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) => value,
        }
    }

    /// Whether the queue was full, so that trying later may help.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "queue is full",
            Self::Closed(_) => "queue is closed",
        })
    }
}

impl<T: fmt::Debug> Error for PushError<T> {}
