//! [`Mailbox`]: how other tasks reach an actor, bounded in items and in bytes.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};

#[cfg(msgtrans_shuttle)]
use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, Ordering},
};
#[cfg(not(msgtrans_shuttle))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU8, Ordering},
};

use crate::byte_account::{ByteAccount, LOT};

/// How much a mailbox holds. An item larger than `bytes` is taken when the mailbox is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Items.
    pub items: usize,
    /// Bytes, as the senders count them.
    pub bytes: usize,
}

/// Why an item was not taken; it comes back.
#[derive(Debug, PartialEq, Eq)]
pub enum PushError<T> {
    /// No room now.
    Full(T),
    /// The actor has ended.
    Closed(T),
}

/// Many senders, one actor. Commands are never bounded and never behind items.
///
/// A short `std` lock around a deque that the actor swaps out whole: a prototype measured it ahead of `SegQueue` and
/// flume for senders outside the actor's own pass, and the pass itself takes no lock at all. One flag says whether the
/// actor has been told: a sender that finds it set neither wakes nor writes it again.
#[repr(C)]
pub struct Mailbox<C, T> {
    /// [`SIGNALLED`], [`COMMANDS`], [`GATHERING`]: set by senders and cleared by the actor, both under the lock; read by
    /// the actor without it. Acquire there pairs with Release here, though the lock that follows orders the content
    /// anyway.
    signs: AtomicU8,
    inner: Mutex<Inner<C, T>>,
}

/// The actor has been told that there is something.
const SIGNALLED: u8 = 1;
/// There are commands.
const COMMANDS: u8 = 2;
/// More may be about to come.
const GATHERING: u8 = 4;

/// In this order in memory: what a push to an empty mailbox looks at lies together, so that it touches few cache lines.
#[repr(C)]
struct Inner<C, T> {
    closed: bool,
    receiver: Option<Waker>,
    /// Who waits for room; hardly any mailbox has ever had somebody.
    line: Option<Box<Line>>,
    items: VecDeque<T>,
    bytes: usize,
    noted: usize,
    /// Where the bytes are written down as well, and how many are.
    account: Option<&'static ByteAccount>,
    bounds: Bounds,
    commands: Vec<C>,
}

#[derive(Default)]
struct Line {
    waiters: VecDeque<Waiter>,
    next_ticket: u64,
}

struct Waiter {
    ticket: u64,
    bytes: usize,
    waker: Waker,
}

impl<C, T> Inner<C, T> {
    #[inline]
    fn set_bytes(&mut self, bytes: usize) {
        self.bytes = bytes;
        if bytes >= LOT || self.noted != 0 {
            self.note();
        }
    }

    #[cold]
    fn note(&mut self) {
        if let Some(account) = self.account {
            self.noted = account.note(self.noted, self.bytes);
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.items.is_empty()
            || (self.items.len() < self.bounds.items && self.bytes + bytes <= self.bounds.bytes)
    }

    /// Notes whom to wake; returns who was to be woken before.
    #[inline]
    fn register(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.receiver {
            Some(known) if known.will_wake(waker) => None,
            _ => self.receiver.replace(waker.clone()),
        }
    }

    fn first_waiter(&self) -> Option<&Waiter> {
        self.line.as_ref()?.waiters.front()
    }

    /// The waker of whoever is next in line and has room.
    fn next_in_line(&self) -> Option<Waker> {
        self.first_waiter()
            .filter(|waiter| self.closed || self.has_room(waiter.bytes))
            .map(|waiter| waiter.waker.clone())
    }
}

impl<C, T> Mailbox<C, T> {
    /// An empty mailbox that holds no memory for items yet.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            inner: Mutex::new(Inner {
                commands: Vec::new(),
                items: VecDeque::new(),
                bytes: 0,
                bounds,
                account: None,
                noted: 0,
                receiver: None,
                line: None,
                closed: false,
            }),
            signs: AtomicU8::new(0),
        }
    }

    /// The same, and what it holds is written down in `account` as well.
    #[must_use]
    pub fn counted_in(self, account: &'static ByteAccount) -> Self {
        self.lock().account = Some(account);
        self
    }

    /// Bytes written down in the account; less than a lot never is.
    pub fn noted(&self) -> usize {
        self.lock().noted
    }

    fn lock(&self) -> MutexGuard<'_, Inner<C, T>> {
        // Nothing panics while the lock is held; if it ever did, the deques would still be whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the actor, unless it has been told and has not looked since. Returns whom to wake once the lock is free.
    fn signal(&self, inner: &Inner<C, T>, more: u8) -> Option<Waker> {
        let before = self.signs.load(Ordering::Relaxed);
        let signs = before | SIGNALLED | more;
        if signs != before {
            self.signs.store(signs, Ordering::Release);
        }
        if before & SIGNALLED == 0 {
            inner.receiver.clone()
        } else {
            None
        }
    }

    /// Leaves a command. `false`: the actor has ended.
    ///
    /// The first since the actor last took its commands wakes it, whether or not it has been told of items: it may
    /// take the one and leave the other, or be between the two.
    pub fn command(&self, command: C) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        let first = inner.commands.is_empty();
        inner.commands.push(command);
        let signs = self.signs.load(Ordering::Relaxed) | SIGNALLED | COMMANDS | GATHERING;
        self.signs.store(signs, Ordering::Release);
        let waker = if first { inner.receiver.clone() } else { None };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Leaves an item of `bytes` if there is room and nobody waits for it already.
    ///
    /// # Errors
    /// The item comes back.
    pub fn try_push(&self, item: T, bytes: usize) -> Result<(), PushError<T>> {
        self.try_push_told(item, bytes, GATHERING)
    }

    /// As [`try_push`](Self::try_push), for an item behind which nothing is about to come: unless somebody else leaves
    /// more, the actor does not wait for it.
    ///
    /// # Errors
    /// The item comes back.
    pub fn try_push_lone(&self, item: T, bytes: usize) -> Result<(), PushError<T>> {
        self.try_push_told(item, bytes, 0)
    }

    #[inline]
    fn try_push_told(&self, item: T, bytes: usize, more: u8) -> Result<(), PushError<T>> {
        if let Some(waker) = self.leave(item, bytes, more)? {
            waker.wake();
        }
        Ok(())
    }

    #[inline]
    fn leave(&self, item: T, bytes: usize, more: u8) -> Result<Option<Waker>, PushError<T>> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(PushError::Closed(item));
        }
        if inner.first_waiter().is_some() || !inner.has_room(bytes) {
            return Err(PushError::Full(item));
        }
        inner.items.push_back(item);
        let held = inner.bytes + bytes;
        inner.set_bytes(held);
        Ok(self.signal(&inner, more))
    }

    /// As [`try_push`](Self::try_push), for who holds a lock: returns whom to wake once it is free.
    ///
    /// # Errors
    /// The item comes back.
    pub fn try_leave(&self, item: T, bytes: usize) -> Result<Option<Waker>, PushError<T>> {
        self.leave(item, bytes, GATHERING)
    }

    /// Leaves an item of `bytes` whatever the bounds say. For what must never wait or be lost and is bounded
    /// elsewhere, such as the end of a session. `false`: the receiver has ended.
    pub fn push_unbounded(&self, item: T, bytes: usize) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.items.push_back(item);
        let held = inner.bytes + bytes;
        inner.set_bytes(held);
        let waker = self.signal(&inner, GATHERING);
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Leaves an item of `bytes` in front of everything, whatever the bounds say, and wakes nobody: the caller has kept
    /// the actor from its work, and wakes it when it may begin. `false`: the actor has ended.
    pub fn push_first(&self, item: T, bytes: usize) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.items.push_front(item);
        let held = inner.bytes + bytes;
        inner.set_bytes(held);
        self.signal(&inner, 0);
        true
    }

    /// Wakes the actor, whatever it has been told.
    pub fn wake(&self) {
        let receiver = self.lock().receiver.clone();
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Takes the oldest item that `may_go` out of the way; `size` must count as the senders did. The room is for
    /// whoever waits already.
    pub fn drop_oldest(
        &self,
        may_go: impl Fn(&T) -> bool,
        size: impl Fn(&T) -> usize,
    ) -> Option<T> {
        let mut inner = self.lock();
        let index = inner.items.iter().position(may_go)?;
        let item = inner.items.remove(index)?;
        let held = inner.bytes - size(&item);
        inner.set_bytes(held);
        let waker = inner.next_in_line();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        Some(item)
    }

    /// Leaves an item of `bytes`, waiting for room behind whoever waits already.
    ///
    /// # Cancel safety
    /// Dropping the future takes the item back: it is either queued or gone with the future.
    pub fn push(&self, item: T, bytes: usize) -> Push<'_, C, T> {
        Push {
            mailbox: self,
            item: Some(item),
            bytes,
            ticket: None,
        }
    }

    /// Items and bytes queued now.
    pub fn len(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.items.len(), inner.bytes)
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len().0 == 0
    }

    /// What the mailbox holds at most.
    pub fn bounds(&self) -> Bounds {
        self.lock().bounds
    }

    /// Whether work waits, or waited when the actor last took less than everything. For the actor.
    #[inline]
    pub fn is_signalled(&self) -> bool {
        self.signs.load(Ordering::Acquire) != 0
    }

    /// Whether work waits behind which more may be about to come. For the actor.
    #[inline]
    pub fn is_gathering(&self) -> bool {
        self.signs.load(Ordering::Acquire) & GATHERING != 0
    }

    /// Whether commands wait. For the actor, which need not take the lock where there are none.
    #[inline]
    pub fn has_commands(&self) -> bool {
        self.signs.load(Ordering::Acquire) & COMMANDS != 0
    }

    /// Whom to wake. For the actor, before it first looks and whenever its waker changes.
    pub fn register(&self, waker: &Waker) {
        let mut inner = self.lock();
        let old = inner.register(waker);
        // A waker may be the last of its task: what it drops must not find the lock held.
        drop(inner);
        drop(old);
    }

    /// Takes every command. For the actor; the signal stays until [`take`](Self::take) has taken everything.
    pub fn take_commands(&self, into: &mut Vec<C>) {
        let mut inner = self.lock();
        if into.is_empty() {
            std::mem::swap(&mut inner.commands, into);
        } else {
            into.append(&mut inner.commands);
        }
        let signs = self.signs.load(Ordering::Relaxed) & !COMMANDS;
        self.signs.store(signs, Ordering::Release);
    }

    /// Takes the one item that is all there is; `None` where there are more, or commands. For the actor, which is woken
    /// for a lone item more often than for many.
    pub fn take_lone(&self) -> Option<T> {
        let mut inner = self.lock();
        // Not the commands themselves, which lie in another cache line.
        if inner.items.len() != 1 || self.has_commands() {
            return None;
        }
        let item = inner.items.pop_front();
        inner.set_bytes(0);
        self.signs.store(0, Ordering::Release);
        let waker = inner.next_in_line();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        item
    }

    /// Takes items until `budget_bytes` are taken, at least one if there is any; `size` must count as the senders
    /// did. Returns whether anything is left: then the signal stays set, no sender wakes the actor, and it has to come
    /// back by itself.
    pub fn take(
        &self,
        budget_bytes: usize,
        into: &mut VecDeque<T>,
        size: impl Fn(&T) -> usize,
    ) -> bool {
        let mut inner = self.lock();
        let (left, waker) = self.take_from(&mut inner, budget_bytes, into, size);
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        left
    }

    /// A turn of a receiver for whom commands are nothing but a reason to look, under one lock: notes whom to wake, as
    /// [`register`](Self::register) does, forgets commands, and [takes](Self::take) items.
    pub fn poll_take(
        &self,
        waker: &Waker,
        budget_bytes: usize,
        into: &mut VecDeque<T>,
        size: impl Fn(&T) -> usize,
    ) -> bool {
        let mut inner = self.lock();
        let old = inner.register(waker);
        let commands = std::mem::take(&mut inner.commands);
        let (left, next) = self.take_from(&mut inner, budget_bytes, into, size);
        drop(inner);
        drop((old, commands));
        if let Some(next) = next {
            next.wake();
        }
        left
    }

    /// Takes items; returns whether anything is left, and whom to wake once the lock is free.
    #[inline]
    fn take_from(
        &self,
        inner: &mut Inner<C, T>,
        budget_bytes: usize,
        into: &mut VecDeque<T>,
        size: impl Fn(&T) -> usize,
    ) -> (bool, Option<Waker>) {
        if inner.bytes <= budget_bytes && into.is_empty() {
            std::mem::swap(&mut inner.items, into);
            inner.set_bytes(0);
        } else {
            let (mut taken, mut held) = (0, inner.bytes);
            while let Some(item) = inner.items.pop_front() {
                let bytes = size(&item);
                taken += bytes;
                held -= bytes;
                into.push_back(item);
                if taken >= budget_bytes {
                    break;
                }
            }
            inner.set_bytes(held);
        }
        let left = !inner.items.is_empty();
        if !left && inner.commands.is_empty() {
            self.signs.store(0, Ordering::Release);
        }
        (left, inner.next_in_line())
    }

    /// Refuses everything from now on and returns what was queued. Whoever waits gets its item back.
    pub fn close(&self) -> VecDeque<T> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.set_bytes(0);
        // Dropped once the lock is free: a command or a waker may reach back here.
        let commands = std::mem::take(&mut inner.commands);
        let receiver = inner.receiver.take();
        let items = std::mem::take(&mut inner.items);
        let line = inner.line.take();
        drop(inner);
        drop((commands, receiver));
        for waiter in line.into_iter().flat_map(|line| line.waiters) {
            waiter.waker.wake();
        }
        items
    }
}

impl<C, T> Drop for Inner<C, T> {
    /// What is dropped with its mailbox is held no longer.
    fn drop(&mut self) {
        self.set_bytes(0);
    }
}

impl<C, T> fmt::Debug for Mailbox<C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Mailbox")
            .field("items", &inner.items.len())
            .field("bytes", &inner.bytes)
            .field("bounds", &inner.bounds)
            .field("waiting", &inner.first_waiter().is_some())
            .field("closed", &inner.closed)
            .finish_non_exhaustive()
    }
}

/// The future of [`Mailbox::push`].
#[must_use = "futures do nothing unless polled"]
pub struct Push<'a, C, T> {
    mailbox: &'a Mailbox<C, T>,
    item: Option<T>,
    bytes: usize,
    ticket: Option<u64>,
}

// The item is moved, never pinned.
impl<C, T> Unpin for Push<'_, C, T> {}

impl<C, T> Push<'_, C, T> {
    /// Gives the waiting up and the item back; `None` if it has been queued.
    pub fn into_item(mut self) -> Option<T> {
        self.leave_line();
        self.item.take()
    }

    fn leave_line(&mut self) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let mut inner = self.mailbox.lock();
        let first = inner
            .first_waiter()
            .is_some_and(|waiter| waiter.ticket == ticket);
        if let Some(line) = &mut inner.line {
            line.waiters.retain(|waiter| waiter.ticket != ticket);
        }
        // Whoever was woken and left hands the room on.
        let waker = if first { inner.next_in_line() } else { None };
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<C, T> Future for Push<'_, C, T> {
    type Output = Result<(), PushError<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(item) = this.item.take() else {
            return Poll::Pending;
        };
        let mut inner = this.mailbox.lock();
        if inner.closed {
            drop(inner);
            this.ticket = None;
            return Poll::Ready(Err(PushError::Closed(item)));
        }
        let first = match this.ticket {
            None => inner.first_waiter().is_none(),
            Some(ticket) => inner
                .first_waiter()
                .is_some_and(|waiter| waiter.ticket == ticket),
        };
        if first && inner.has_room(this.bytes) {
            inner.items.push_back(item);
            let held = inner.bytes + this.bytes;
            inner.set_bytes(held);
            if this.ticket.take().is_some()
                && let Some(line) = &mut inner.line
            {
                line.waiters.pop_front();
            }
            let waker = this.mailbox.signal(&inner, GATHERING);
            let next = inner.next_in_line();
            drop(inner);
            for waker in [waker, next].into_iter().flatten() {
                waker.wake();
            }
            return Poll::Ready(Ok(()));
        }
        let line = inner.line.get_or_insert_default();
        match this.ticket {
            None => {
                let ticket = line.next_ticket;
                line.next_ticket += 1;
                line.waiters.push_back(Waiter {
                    ticket,
                    bytes: this.bytes,
                    waker: cx.waker().clone(),
                });
                this.ticket = Some(ticket);
            }
            Some(ticket) => {
                let waiting = &mut line.waiters;
                if let Some(waiter) = waiting.iter_mut().find(|waiter| waiter.ticket == ticket) {
                    waiter.waker.clone_from(cx.waker());
                }
            }
        }
        drop(inner);
        this.item = Some(item);
        Poll::Pending
    }
}

impl<C, T> Drop for Push<'_, C, T> {
    fn drop(&mut self) {
        self.leave_line();
    }
}

impl<C, T> fmt::Debug for Push<'_, C, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Push")
            .field("bytes", &self.bytes)
            .field("waiting", &self.ticket.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests;
