//! The pass that a worker thread is in: what the session, its handler and its handle share while they run.
//!
//! During a pass the outbound batch and the inbound queues lie in a thread-local stack, so that a handler's `send` to
//! its own session pushes straight into the batch that ends the pass: no queue, no lock, no wake, no unsafe. Nothing
//! here is borrowed while user code runs.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use msgtrans_core::{EncodeError, Packet, PacketBatch};
use msgtrans_transport::OutboundBatch;

use crate::session::{Outgoing, Shared};
use crate::stats::PassCounts;

/// Encoded bytes that a pass gathers before sends go through the queue, which makes them wait when it is full.
pub(crate) const BATCH_BYTES: usize = 256 * 1024;

/// One session's pass.
pub(crate) struct Pass {
    key: u64,
    /// What leaves at the end; `None` until the wire version is known.
    pub(crate) out: Option<OutboundBatch>,
    /// Whether applications may still send.
    pub(crate) open: bool,
    /// One-way messages for the handler.
    pub(crate) messages: VecDeque<Packet>,
    /// Requests for the handler.
    pub(crate) requests: VecDeque<Packet>,
    /// Ids of requests that the peer cancelled.
    pub(crate) cancelled: Vec<u32>,
    /// Whether the message lane waits for a message, not inside the handler.
    pub(crate) messages_idle: bool,
    /// Requests inside the handler.
    pub(crate) requests_running: usize,
    /// Bytes in `messages` and `requests`.
    pub(crate) inbound_bytes: usize,
    /// Whether the peer's version has a word for a refused request.
    pub(crate) can_fail: bool,
    pub(crate) counts: PassCounts,
}

thread_local! {
    /// The innermost pass is last. More than one only if a handler blocks on a runtime of its own.
    static STACK: RefCell<Vec<Pass>> = const { RefCell::new(Vec::new()) };
    static SCRATCH: RefCell<Vec<Scratch>> = const { RefCell::new(Vec::new()) };
}

/// Memory that passes of one thread hand on to each other.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) batch: PacketBatch,
    pub(crate) items: VecDeque<Outgoing>,
    pub(crate) messages: VecDeque<Packet>,
    pub(crate) requests: VecDeque<Packet>,
}

impl Scratch {
    pub(crate) fn take() -> Self {
        SCRATCH.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Everything in it must be empty.
    pub(crate) fn put_back(self) {
        SCRATCH.with_borrow_mut(|stack| {
            if stack.is_empty() {
                stack.push(self);
            }
        });
    }
}

impl Pass {
    pub(crate) fn new(key: u64) -> Self {
        Self {
            key,
            out: None,
            open: false,
            messages: VecDeque::new(),
            requests: VecDeque::new(),
            cancelled: Vec::new(),
            messages_idle: true,
            requests_running: 0,
            inbound_bytes: 0,
            can_fail: false,
            counts: PassCounts::default(),
        }
    }

    /// Bytes not yet written.
    pub(crate) fn out_len(&self) -> usize {
        self.out.as_ref().map_or(0, OutboundBatch::len)
    }

    /// Appends a packet; the wire must be known.
    pub(crate) fn push(&mut self, packet: Packet) -> Result<(), Box<(EncodeError, Packet)>> {
        let is_data = packet.packet_type.is_data();
        match &mut self.out {
            Some(out) => out.push(packet)?,
            None => {
                debug_assert!(false, "a packet before the wire version is known");
                return Ok(());
            }
        }
        self.counts.packets_out += u64::from(is_data);
        Ok(())
    }
}

/// Begins a pass on this thread.
pub(crate) fn enter(pass: Pass) {
    STACK.with_borrow_mut(|stack| stack.push(pass));
}

/// Ends the pass that began last.
pub(crate) fn leave() -> Option<Pass> {
    STACK.with_borrow_mut(Vec::pop)
}

/// The pass that began last, for the actor in it.
pub(crate) fn current<R>(f: impl FnOnce(&mut Pass) -> R) -> R {
    STACK.with_borrow_mut(|stack| {
        let pass = stack.last_mut();
        debug_assert!(pass.is_some(), "lanes run inside a pass");
        match pass {
            Some(pass) => f(pass),
            None => f(&mut Pass::new(0)),
        }
    })
}

/// Whether the caller runs inside a session's task: what waits for that session to end must not wait there.
pub fn in_handler() -> bool {
    STACK.with_borrow(|stack| !stack.is_empty())
}

/// What became of a packet that was offered to the pass.
pub(crate) enum Offered {
    Taken,
    /// This thread is not in that session's pass, or the pass is full.
    NotHere(Outgoing),
    Invalid(Box<(EncodeError, Packet)>),
}

/// Puts `item` into the batch of `shared`'s pass, if this thread is in it and there is room.
#[inline]
pub(crate) fn offer(shared: &Shared, item: Outgoing) -> Offered {
    STACK.with_borrow_mut(|stack| {
        let pass = match stack.last_mut() {
            Some(pass) if pass.key == shared.key && pass.open && pass.out_len() < BATCH_BYTES => {
                pass
            }
            _ => return Offered::NotHere(item),
        };
        // What was queued before goes first, so that nothing overtakes.
        if shared.mailbox.is_signalled() && !shared.drain_into(pass) {
            return Offered::NotHere(item);
        }
        match item {
            Outgoing::Packet(packet, confirmation) => match pass.push(packet) {
                Ok(()) => {
                    if let (Some(confirmation), Some(out)) = (confirmation, &mut pass.out) {
                        out.confirm(confirmation);
                    }
                    Offered::Taken
                }
                Err(invalid) => Offered::Invalid(invalid),
            },
            Outgoing::Encoded(bytes) => {
                if let Some(out) = &mut pass.out {
                    out.push_encoded(&bytes);
                    pass.counts.packets_out += 1;
                }
                Offered::Taken
            }
        }
    })
}

/// The next one-way message, for the message lane.
pub(crate) async fn next_message() -> Packet {
    poll_fn(|_| {
        // No waker: the actor polls the lane whenever a message has come.
        current(|pass| match pass.messages.pop_front() {
            Some(packet) => {
                pass.inbound_bytes -= packet.queued_bytes();
                pass.messages_idle = false;
                Poll::Ready(packet)
            }
            None => {
                pass.messages_idle = true;
                Poll::Pending
            }
        })
    })
    .await
}
