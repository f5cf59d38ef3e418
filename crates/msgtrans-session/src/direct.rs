//! [`Direct`]: packets that pass a session's task by, where both ends are in one process.
//!
//! What any task sends goes straight into the peer's queue while the session's own task has nothing to write; a response,
//! or a message for the event stream, goes straight to who waits for it. The task is not woken; it learns of the traffic
//! in its next pass, and statistics count it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::Waker;

use msgtrans_core::{Packet, PacketType};
use msgtrans_lockfree::SoleCounter;
use msgtrans_transport::{Inlet, Shortcut};
use tokio::time::Instant;

use crate::events::EventSink;
use crate::pass;
use crate::session::Shared;

/// Of the responses that come past the task one in so many is timed: a look at the clock and at the histogram costs a
/// tenth of a round trip.
const TIMED_ONE_IN: u32 = 8;

/// The task is in no pass: what it has read it has handed on.
const RESTS: u8 = 1;
/// It has nothing to write.
const WRITTEN: u8 = 2;
/// Its message lane has nothing at hand. A lane that waits in the middle of a run is behind everything that was read, and
/// in front of what comes.
const CLEAR: u8 = 4;

/// The ways past one session's task, and what went there.
pub(crate) struct Direct {
    way: Arc<dyn Shortcut>,
    /// [`RESTS`], [`WRITTEN`], [`CLEAR`]. Written by the task alone, 0 from the beginning of a pass to its end: whoever was
    /// told by something of that pass finds it 0, or what the pass wrote in front.
    at_rest: AtomicU8,
    packets_in: SoleCounter,
    bytes_in: SoleCounter,
    /// Packets in either direction that the task knows of.
    known_in: AtomicU64,
    known_out: AtomicU64,
}

/// What went past a session's task.
#[derive(Clone, Copy, Default)]
pub(crate) struct Past {
    pub(crate) packets_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) bytes_out: u64,
}

impl Direct {
    pub(crate) fn new(way: Arc<dyn Shortcut>) -> Box<Self> {
        Box::new(Self {
            way,
            at_rest: AtomicU8::new(0),
            packets_in: SoleCounter::new(),
            bytes_in: SoleCounter::new(),
            known_in: AtomicU64::new(0),
            known_out: AtomicU64::new(0),
        })
    }

    /// A pass begins. Whether something has come, and gone, since the last one.
    pub(crate) fn begin_pass(&self) -> (bool, bool) {
        self.at_rest.store(0, Ordering::Relaxed);
        let Past {
            packets_in,
            packets_out,
            ..
        } = self.past();
        let known = |known: &AtomicU64, now| {
            let new = known.load(Ordering::Relaxed) != now;
            known.store(now, Ordering::Relaxed);
            new
        };
        (
            known(&self.known_in, packets_in),
            known(&self.known_out, packets_out),
        )
    }

    /// A pass has ended; `written`: everything; `clear`: every message was handled.
    pub(crate) fn end_pass(&self, written: bool, clear: bool) {
        let at_rest = RESTS | if written { WRITTEN } else { 0 } | if clear { CLEAR } else { 0 };
        self.at_rest.store(at_rest, Ordering::Release);
    }

    fn is(&self, sign: u8) -> bool {
        self.at_rest.load(Ordering::Acquire) & sign != 0
    }

    /// The session ends: nothing goes past its task any more.
    pub(crate) fn seal(&self) {
        self.at_rest.store(0, Ordering::Relaxed);
        self.way.seal();
    }

    pub(crate) fn past(&self) -> Past {
        let (packets_out, bytes_out) = self.way.sent();
        Past {
            packets_in: self.packets_in.get(),
            bytes_in: self.bytes_in.get(),
            packets_out,
            bytes_out,
        }
    }
}

impl Shared {
    /// The way past the task, while it overtakes nothing.
    #[inline]
    pub(crate) fn direct(&self) -> Option<&Direct> {
        let direct = self.direct.as_deref()?;
        // In this order: what left the queue left it in a pass, which is over only when it was written.
        (!self.mailbox.is_signalled() && direct.is(WRITTEN)).then_some(direct)
    }

    /// Sends a packet to which nothing is to be done but to number it past the task, where it overtakes nothing and there is
    /// room; or inside a pass, past what gathers there, where it is the first answer to a lone packet and mostly the only one.
    ///
    /// # Errors
    /// The packet comes back, for the long way.
    #[inline]
    pub(crate) fn send_past(&self, mut packet: Packet) -> Result<(), Packet> {
        let Some(direct) = self.direct.as_deref() else {
            return Err(packet);
        };
        if !self.needs_number_alone(&packet) || self.mailbox.is_signalled() {
            return Err(packet);
        }
        // Looked at in this order for the same reason as in `direct`.
        if direct.is(WRITTEN) {
            self.assign_id(&mut packet);
            return self.send_direct(direct, packet);
        }
        // Inside the pass nobody else writes, and what others leave in the queue from here on is behind this packet.
        if !pass::answers_first(self.key) {
            return Err(packet);
        }
        self.assign_id(&mut packet);
        let bytes = packet.queued_bytes();
        direct.way.try_send(packet, false)?;
        // Counted with the pass: nobody sees an answer counted whose question is not.
        pass::current(|pass| pass.sent_past(bytes));
        // No count is this one: the next pass sees that something has gone.
        direct.known_out.store(u64::MAX, Ordering::Relaxed);
        Ok(())
    }

    /// Sends a prepared packet past the task, if there is room now.
    ///
    /// # Errors
    /// The packet comes back.
    #[inline]
    pub(crate) fn send_direct(&self, direct: &Direct, packet: Packet) -> Result<(), Packet> {
        let bytes = packet.queued_bytes();
        direct.way.try_send(packet, true)?;
        self.runtime.stats.sent_past(bytes);
        Ok(())
    }
}

/// What a session gives its connection.
pub(crate) struct DirectInlet {
    shared: Arc<Shared>,
    /// Where messages go, if no handler takes them.
    events: Option<EventSink>,
}

impl DirectInlet {
    /// `None` where each packet is for the task: it passes middleware, or is counted against a rate.
    pub(crate) fn of(shared: &Arc<Shared>) -> Option<Arc<dyn Inlet>> {
        let runtime = &shared.runtime;
        let plain = runtime.middleware.is_empty() && runtime.config.rate_limit.is_none();
        if !plain || shared.direct.is_none() {
            return None;
        }
        let to_events = runtime.service.events_take_messages();
        Some(Arc::new(Self {
            shared: shared.clone(),
            events: to_events.then(|| runtime.events.clone()),
        }))
    }
}

impl Inlet for DirectInlet {
    fn deliver(&self, packet: Packet) -> Result<Option<Waker>, Packet> {
        let shared = &*self.shared;
        let Some(direct) = &shared.direct else {
            return Err(packet);
        };
        // The lock of the connection orders this behind every pass that has read from it. What such a pass has at hand goes
        // first.
        let at_rest = direct.at_rest.load(Ordering::Acquire);
        if at_rest & RESTS == 0 {
            return Err(packet);
        }
        let stats = &shared.runtime.stats;
        let bytes = packet.queued_bytes();
        let waker = match (packet.packet_type, &self.events) {
            (PacketType::Response, _) => {
                // Ids are consecutive.
                let timed = packet.message_id % TIMED_ONE_IN == 1;
                let answered = match &mut *shared.requests() {
                    Some(table) => table.respond_timed(packet)?,
                    None => return Err(packet),
                };
                if timed && let Some(since) = answered.since {
                    stats.round_trips(Instant::now().saturating_duration_since(since), 1);
                }
                answered.waker
            }
            (PacketType::OneWay, Some(events)) if at_rest & CLEAR != 0 => {
                events.try_deliver(shared.id(), packet)?
            }
            _ => return Err(packet),
        };
        direct.packets_in.add(1);
        direct.bytes_in.add(bytes as u64);
        stats.received_past(bytes);
        Ok(waker)
    }

    fn takes_messages(&self) -> bool {
        self.events.is_some()
    }
}

#[cfg(test)]
mod tests;
