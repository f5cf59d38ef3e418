//! The pass that a worker thread is in: what the session, its handler and its handle share while they run.
//!
//! While user code runs, the outbound batch and the inbound packets lie in a thread-local stack, so that a handler's `send`
//! to its own session encodes straight into the batch that ends the pass: no queue, no lock, no wake, no unsafe. Nothing
//! here is borrowed while user code runs.
//!
//! A [`Pass`] is handed from session to session of one thread; a session keeps it only while it has something at hand.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, Waker};

use msgtrans_core::{EncodeError, Packet, PacketBatch, WireVersion};
use msgtrans_transport::{Framing, OutboundBatch};

use crate::session::{Outgoing, Shared};
use crate::stats::PassCounts;

/// Encoded bytes that a pass gathers before sends go through the queue, which makes them wait when it is full.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;
/// Encoded bytes that an idle pass keeps memory for.
const KEPT_BYTES: usize = 1024 * 1024;

/// So many messages are a few, for which a look at the clock counts.
const FEW: u64 = 2;
/// Of passes that hand on a few messages, one in so many is timed.
const TIMED_ONE_IN: u8 = 8;

/// One session's pass.
#[derive(Default)]
pub(crate) struct Pass {
    key: u64,
    /// What leaves at the end; of use once `wired`.
    out: Option<OutboundBatch>,
    /// Whether the wire version is known.
    wired: bool,
    /// Whether applications may still send.
    pub(crate) open: bool,
    /// Whether the last read brought a lone packet, and nothing was sent past the pass since. It says what is worth it, not
    /// what may be done.
    pub(crate) lone: bool,
    /// Packets as they were read, not yet sorted.
    pub(crate) batch: PacketBatch,
    /// Up to how many bytes of plain messages the message lane may take from the batch itself.
    pub(crate) direct: usize,
    /// One-way messages for the handler.
    pub(crate) messages: VecDeque<Packet>,
    /// Requests for the handler, in cells as in a [`PacketBatch`].
    pub(crate) requests: VecDeque<Cell<Packet>>,
    /// What the queue gave.
    items: VecDeque<Outgoing>,
    /// Ids of requests that the peer cancelled.
    pub(crate) cancelled: Vec<u32>,
    /// Who is to be woken for a run of responses; empty between runs.
    pub(crate) wakers: Vec<Waker>,
    /// Whether the message lane is inside the handler.
    pub(crate) message_waits: bool,
    /// Requests inside the handler.
    pub(crate) requests_running: usize,
    /// Bytes in `messages` and `requests`, and in the run behind its first message.
    pub(crate) inbound_bytes: usize,
    /// What of them is the run's.
    run_bytes: usize,
    /// Whether the peer's version has a word for a refused request.
    pub(crate) can_fail: bool,
    /// Bytes of frames that the session wrote by itself, most of them answers, since everything had gone.
    pub(crate) answered_bytes: usize,
    /// Whether reading stopped for want of room.
    pub(crate) reading_stopped: bool,
    /// Whether refusing requests stopped for want of room.
    pub(crate) refusing_stopped: bool,
    /// Messages and requests handed on.
    pub(crate) handled: u64,
    /// Passes, of whichever session, until the next that is timed though it handed on a few alone.
    untimed: u8,
    pub(crate) counts: PassCounts,
    /// The pass in which this one runs, while it is lent: only if a handler blocks on a runtime of its own.
    outer: Option<Box<Pass>>,
}

thread_local! {
    /// The innermost pass that is lent.
    static LENT: RefCell<Option<Box<Pass>>> = const { RefCell::new(None) };
    /// Idle passes: one, and one more for the moment between two sessions.
    static IDLE: [Cell<Option<Box<Pass>>>; 2] = const { [Cell::new(None), Cell::new(None)] };
    static BATCH: Cell<PacketBatch> = const { Cell::new(PacketBatch::new()) };
}

/// An idle pass of this thread.
pub(crate) fn fresh() -> Box<Pass> {
    let idle = IDLE.with(|[first, second]| first.take().or_else(|| second.take()));
    idle.unwrap_or_default()
}

/// Gives an idle pass back to the thread.
pub(crate) fn put_back(mut pass: Box<Pass>) {
    debug_assert!(pass.is_idle());
    if pass
        .out
        .as_ref()
        .is_some_and(|out| out.capacity() > KEPT_BYTES)
    {
        pass.out = None;
    }
    IDLE.with(|[first, second]| {
        if let Some(other) = first.replace(Some(pass)) {
            second.set(Some(other));
        }
    });
}

/// Lends an empty packet batch of this thread.
pub(crate) fn with_batch<R>(f: impl FnOnce(&mut PacketBatch) -> R) -> R {
    let mut batch = BATCH.take();
    let result = f(&mut batch);
    batch.clear();
    BATCH.set(batch);
    result
}

impl Pass {
    /// Makes the pass that of the session with this key.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        key: u64,
        wire: impl FnOnce() -> Option<(Framing, WireVersion)>,
        open: bool,
    ) {
        if self.key != key {
            debug_assert!(
                self.is_idle(),
                "a pass with something in it is its session's"
            );
            self.key = key;
            self.wired = false;
            self.answered_bytes = 0;
        }
        self.open = open;
        if !self.wired {
            self.wire(wire());
        }
    }

    /// From here on packets can be pushed.
    pub(crate) fn wire(&mut self, wire: Option<(Framing, WireVersion)>) {
        self.can_fail = matches!(wire, Some((_, WireVersion::V2)));
        self.wired = wire.is_some();
        if let Some((framing, version)) = wire {
            match &mut self.out {
                Some(out) if out.is_empty() && !out.has_confirmations() => {
                    out.reset(framing, version)
                }
                Some(_) => {}
                None => self.out = Some(OutboundBatch::new(framing, version)),
            }
        }
    }

    /// Whether the session needs nothing of what is in it.
    pub(crate) fn is_idle(&self) -> bool {
        !self.is_working() && !self.has_out() && self.batch.is_empty() && self.cancelled.is_empty()
    }

    /// Whether the pass that has handed on `handled` messages is to be timed: each one with more than a few, and one in
    /// [`TIMED_ONE_IN`] of the others, as a look at the clock costs as much as handing on a message.
    pub(crate) fn is_timed(&mut self, handled: u64) -> bool {
        if handled > FEW {
            return true;
        }
        let timed = self.untimed == 0;
        self.untimed = if timed { TIMED_ONE_IN } else { self.untimed } - 1;
        timed
    }

    /// Whether the handler has something to do or is at it.
    pub(crate) fn is_working(&self) -> bool {
        self.message_waits || self.requests_running > 0 || self.inbound_bytes > 0
    }

    /// Whether the message lane is at a message or has one before it.
    pub(crate) fn has_messages(&self) -> bool {
        self.message_waits || !self.messages.is_empty() || !self.batch.is_empty()
    }

    /// Whether something is to be written, or written and not yet confirmed.
    pub(crate) fn has_out(&self) -> bool {
        self.out
            .as_ref()
            .is_some_and(|out| !out.is_empty() || out.has_confirmations())
    }

    /// Bytes that wait for the handler or to be written.
    pub(crate) fn held(&self) -> usize {
        self.inbound_bytes
            .saturating_add(self.out_len())
            .saturating_add(self.batch.bytes())
    }

    /// Bytes not yet written.
    pub(crate) fn out_len(&self) -> usize {
        self.out.as_ref().map_or(0, OutboundBatch::len)
    }

    /// The batch, to be written.
    pub(crate) fn out_mut(&mut self) -> &mut Option<OutboundBatch> {
        &mut self.out
    }

    /// Forgets what nobody will handle or write any more.
    pub(crate) fn abandon_work(&mut self) {
        self.open = false;
        self.direct = 0;
        self.batch.clear();
        self.messages.clear();
        self.requests.clear();
        self.cancelled.clear();
        self.message_waits = false;
        self.requests_running = 0;
        self.inbound_bytes = 0;
        self.run_bytes = 0;
    }

    /// Adds a packet to what leaves.
    #[inline]
    pub(crate) fn push(&mut self, packet: &Packet) -> Result<(), EncodeError> {
        debug_assert!(self.wired, "a packet before the wire version is known");
        if let Some(out) = &mut self.out {
            out.push(packet)?;
            self.counts.packets_out += u64::from(packet.packet_type.is_data());
        }
        Ok(())
    }

    /// A packet of `bytes` went to the peer past what gathers here.
    pub(crate) fn sent_past(&mut self, bytes: usize) {
        self.counts.packets_out += 1;
        self.counts.bytes_out += bytes as u64;
    }

    /// Adds a frame of the session's own to what leaves.
    pub(crate) fn push_own(&mut self, packet: &Packet) -> Result<(), EncodeError> {
        let before = self.out_len();
        self.push(packet)?;
        self.answered_bytes += self.out_len() - before;
        Ok(())
    }

    /// Adds something that was queued; whether it could be encoded was checked before.
    pub(crate) fn push_item(&mut self, item: Outgoing) {
        match item {
            Outgoing::Packet(packet, confirmation) => match self.push(&packet) {
                Ok(()) => {
                    if let (Some(confirmation), Some(out)) = (confirmation, &mut self.out) {
                        out.confirm(confirmation);
                    }
                }
                // The confirmation's drop tells who waits.
                Err(error) => {
                    tracing::warn!(%error, ?packet, "a queued packet could not be encoded")
                }
            },
            Outgoing::Encoded(bytes) => {
                if let Some(out) = &mut self.out {
                    out.push_encoded(&bytes);
                    self.counts.packets_out += 1;
                }
            }
        }
    }

    /// Takes what is queued while there is room; whether nothing is left in the queue.
    pub(crate) fn drain(&mut self, shared: &Shared) -> bool {
        let room = BATCH_BYTES.saturating_sub(self.out_len());
        if room == 0 {
            return false;
        }
        if let Some(item) = shared.mailbox.take_lone() {
            self.push_item(item);
            return true;
        }
        let mut items = std::mem::take(&mut self.items);
        let left = shared.mailbox.take(room, &mut items, Outgoing::bytes);
        for item in items.drain(..) {
            self.push_item(item);
        }
        // The queue takes the larger of the two memories in turn; a burst's is not kept.
        if items.capacity() <= 4096 {
            self.items = items;
        }
        !left
    }
}

#[inline]
fn enter(mut pass: Box<Pass>) {
    LENT.with_borrow_mut(|lent| {
        std::mem::swap(&mut pass.outer, lent);
        *lent = Some(pass);
    });
}

/// Takes back the pass that was lent last.
#[inline]
pub(crate) fn leave() -> Option<Box<Pass>> {
    LENT.with_borrow_mut(|lent| {
        let mut pass = lent.take()?;
        std::mem::swap(&mut pass.outer, lent);
        Some(pass)
    })
}

/// The pass that was lent last, for the lanes.
#[inline]
pub(crate) fn current<R>(f: impl FnOnce(&mut Pass) -> R) -> R {
    LENT.with_borrow_mut(|lent| match lent {
        Some(pass) => f(pass),
        None => no_pass(f),
    })
}

/// Lends the pass to this thread while user code runs in `f`. After a panic there it is still the thread's:
/// [`leave`] gives it back.
#[inline]
pub(crate) fn lend<R>(pass: &mut Option<Box<Pass>>, f: impl FnOnce() -> R) -> R {
    enter(pass.take().unwrap_or_else(fresh));
    let result = f();
    *pass = leave();
    result
}

#[cold]
fn no_pass<R>(f: impl FnOnce(&mut Pass) -> R) -> R {
    debug_assert!(false, "lanes run inside a pass");
    f(&mut Pass::default())
}

/// Whether the caller runs inside a session's task: what waits for that session to end must not wait there.
pub fn in_handler() -> bool {
    LENT.with_borrow(Option::is_some)
}

/// What became of a packet that was offered to the pass.
pub(crate) enum Offered {
    Taken,
    /// This thread is not in that session's pass, or the pass is full.
    NotHere,
    Invalid(Box<EncodeError>),
}

/// Apart, so that the common case saves no registers for it.
#[cold]
fn drain_first(pass: &mut Pass, shared: &Shared) -> bool {
    pass.drain(shared)
}

/// Puts a packet into the batch of `shared`'s pass, if this thread is in it and there is room.
#[inline]
pub(crate) fn offer(shared: &Shared, packet: &Packet) -> Offered {
    LENT.with_borrow_mut(|lent| {
        let pass = match lent {
            Some(pass) if pass.key == shared.key && pass.open && pass.out_len() < BATCH_BYTES => {
                pass
            }
            _ => return Offered::NotHere,
        };
        // What was queued before goes first, so that nothing overtakes.
        if shared.mailbox.is_signalled() && !drain_first(pass, shared) {
            return Offered::NotHere;
        }
        match pass.push(packet) {
            Ok(()) => Offered::Taken,
            Err(error) => Offered::Invalid(Box::new(error)),
        }
    })
}

/// Whether this thread is in the pass with this key, a lone packet was read in it, and nothing waits to be written. Says
/// so once a pass, so that whatever else the handler sends gathers and leaves together.
#[inline]
pub(crate) fn answers_first(key: u64) -> bool {
    LENT.with_borrow_mut(|lent| {
        lent.as_deref_mut().is_some_and(|pass| {
            pass.key == key && std::mem::take(&mut pass.lone) && pass.open && !pass.has_out()
        })
    })
}

/// Puts a message to which nothing is to be done but to encode it into the batch of `shared`'s pass; false where
/// anything is in the way, and [`offer`] tells what.
///
/// The way of nearly all that a handler sends, so it is inlined and looks at each thing once.
#[inline(always)]
pub(crate) fn offer_plain(shared: &Shared, packet: &Packet) -> bool {
    LENT.with_borrow_mut(|lent| {
        let Some(pass) = lent.as_deref_mut() else {
            return false;
        };
        if pass.key != shared.key || !pass.open || shared.mailbox.is_signalled() {
            return false;
        }
        let Some(out) = &mut pass.out else {
            return false;
        };
        if out.bytes_mut().len() >= BATCH_BYTES || !out.push_message(packet) {
            return false;
        }
        pass.counts.packets_out += 1;
        true
    })
}

/// Fills `run`, which is empty, with the next one-way messages, for the message lane.
pub(crate) fn next_run(run: &mut PacketBatch) -> impl Future<Output = ()> {
    // No waker: the actor polls the lane whenever a message has come.
    poll_fn(|_| current(|pass| pass.next_run(run)))
}

impl Pass {
    /// The run of plain messages at the front of the batch, the whole batch by its pointer where it holds nothing else;
    /// one message where the batch is too large to be handed on.
    #[inline]
    fn next_run(&mut self, run: &mut PacketBatch) -> Poll<()> {
        self.message_waits = false;
        self.inbound_bytes -= std::mem::take(&mut self.run_bytes);
        if !self.messages.is_empty() {
            return self.next_sorted(run);
        }
        if self.batch.is_empty() {
            // The memory is the thread's.
            std::mem::swap(&mut self.batch, run);
            return Poll::Pending;
        }
        if !self.batch.is_plain() || self.batch.bytes() > self.direct {
            return self.next_mixed(run);
        }
        std::mem::swap(&mut self.batch, run);
        self.take_direct(run)
    }

    /// A message that was sorted.
    #[inline(never)]
    fn next_sorted(&mut self, run: &mut PacketBatch) -> Poll<()> {
        if let Some(packet) = self.messages.pop_front() {
            self.inbound_bytes -= packet.queued_bytes();
            run.push(packet, WireVersion::V2);
        }
        self.take_run(run)
    }

    /// From a batch that cannot be handed on as it is.
    #[inline(never)]
    fn next_mixed(&mut self, run: &mut PacketBatch) -> Poll<()> {
        let first = self.batch.front().is_some_and(Packet::is_plain_message);
        if self.direct == 0 || !first {
            return Poll::Pending;
        }
        if self.batch.bytes() <= self.direct {
            self.batch.take_plain_run(run);
        } else if let Some(packet) = self.batch.pop() {
            run.push(packet, WireVersion::V2);
        }
        self.take_direct(run)
    }

    #[inline]
    fn take_direct(&mut self, run: &mut PacketBatch) -> Poll<()> {
        let count = run.len() as u64;
        self.counts.packets_in += count;
        self.handled += count;
        self.take_run(run)
    }

    #[inline]
    fn take_run(&mut self, run: &mut PacketBatch) -> Poll<()> {
        // The first one is not counted: while its handler waits for the peer, there is room to read the answer.
        if run.len() > 1 {
            self.run_bytes = run.bytes() - run.front().map_or(0, Packet::queued_bytes);
            self.inbound_bytes += self.run_bytes;
        }
        self.message_waits = true;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_read_for_many_messages_and_for_one_pass_in_eight_with_few() {
        let mut pass = Pass::default();
        assert!(pass.is_timed(32) && pass.is_timed(32));
        let timed: Vec<usize> = (0..24).filter(|_| pass.is_timed(1)).collect();
        assert_eq!(timed, [0, 8, 16]);
    }
}
