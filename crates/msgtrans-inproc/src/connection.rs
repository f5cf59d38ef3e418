//! [`InprocConnection`]: one end of a pair of bounded queues.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_core::{
    CloseReason, ConnectionInfo, DecodeError, Flags, Header, Initiator, Limits, Packet,
    PacketBatch, PacketType, PeerAddress, PlainHeader, WireVersion, encoded_len,
};
use msgtrans_lockfree::SoleCounter;
use msgtrans_transport::{
    Connection, ConnectionError, Framing, Inlet, OutboundBatch, Progress, Received, Shortcut,
};

use crate::SCHEME;

/// What a direction holds at most, as [`Packet::queued_bytes`] counts; a larger packet is taken when the queue is
/// empty. The reader holds one such batch more: worst case 2 MiB a direction, or two packets.
const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// The same in packets, so that empty ones are bounded more tightly than by the 64 bytes each counts for.
const QUEUE_PACKETS_MAX: usize = 4096;
/// A deque that grew beyond this many packets is given back when it has run empty: an idle connection holds little.
const KEPT_PACKETS_MAX: usize = 32;

/// One end of an in-process connection.
///
/// The seam calls it once per batch, from the one task of its session. Each direction is a deque behind a lock that is
/// held for the length of one append or one swap: sending appends the batch, receiving swaps the whole deque with an
/// empty one of its own and works through that without a lock.
///
/// A round trip between two idle sessions needs neither deque nor the asker's task: what any task sends goes into the
/// peer's queue at once ([`Shortcut`]), and a plain packet for a session that has taken everything before it goes to who
/// waits for it ([`Inlet`]).
pub(crate) struct InprocConnection {
    /// Where this end writes.
    outgoing: Arc<Queue>,
    /// Where the peer writes.
    incoming: Arc<Queue>,
    /// What was taken from `incoming` and not yet handed over.
    taken: VecDeque<Cell<Packet>>,
    limits: Limits,
    /// Whether `set_wire` has been called: until then one packet a call.
    opened: bool,
    /// What the peer got wrong; everything behind it is lost.
    failed: Option<DecodeError>,
    progress: Progress,
    info: ConnectionInfo,
    /// Whom a batch woke; empty between two calls.
    wakers: Vec<Waker>,
}

/// One direction. Fields are only ever touched under the lock; wakers are called after it.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// What went past the writer's task. Written under the lock, read without it.
    past_packets: SoleCounter,
    past_bytes: SoleCounter,
}

#[derive(Default)]
struct State {
    /// In cells, as in a [`PacketBatch`]: a move is a plain copy.
    packets: VecDeque<Cell<Packet>>,
    bytes: usize,
    writer: Writer,
    reader_gone: bool,
    /// Waits for packets or for the end. While it is here, everything that was queued has been handed over.
    reader_waker: Option<Waker>,
    /// Waits for room.
    writer_waker: Option<Waker>,
    /// Whether the connection alone writes from here on.
    sealed: bool,
    /// Where packets go for which the reader waits.
    inlet: Option<Inward>,
}

struct Inward {
    inlet: Arc<dyn Inlet>,
    takes_messages: bool,
    /// Of the reader's limits.
    max_payload: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writer {
    #[default]
    Open,
    /// Said that nothing more will come.
    Closed,
    /// Went away without a word.
    Gone,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called under the lock: one writer at a time.
    #[inline]
    fn sent_past(&self, counted: bool, bytes: usize) {
        if counted {
            self.past_packets.add(1);
            self.past_bytes.add(bytes as u64);
        }
    }

    /// Ends the direction from the writing side; the first word counts.
    fn end(&self, how: Writer) {
        let mut state = self.lock();
        let waker = if state.writer == Writer::Open {
            state.writer = how;
            state.reader_waker.take()
        } else {
            None
        };
        drop(state);
        wake(waker);
    }

    /// Ends the direction from the reading side: what is queued is lost, and the writer learns of it.
    fn abandon(&self) {
        let mut state = self.lock();
        state.reader_gone = true;
        state.bytes = 0;
        let lost = std::mem::take(&mut state.packets);
        let waker = state.writer_waker.take();
        let inlet = state.inlet.take();
        drop(state);
        drop((lost, inlet));
        wake(waker);
    }
}

impl State {
    fn has_room(&self, bytes: usize) -> bool {
        self.packets.is_empty()
            || (self.bytes.saturating_add(bytes) <= QUEUE_BYTES_MAX
                && self.packets.len() < QUEUE_PACKETS_MAX)
    }

    /// Whether there is one packet, which is plain, and neither an end nor a burst's memory is to be looked at behind it.
    #[inline]
    fn is_lone(&mut self, limits: &Limits) -> bool {
        let few = self.packets.len() == 1 && self.packets.capacity() <= KEPT_PACKETS_MAX;
        few && self.writer == Writer::Open
            && self
                .packets
                .front_mut()
                .is_some_and(|front| is_plain(front.get_mut(), limits.max_payload()))
    }

    /// With whom to leave a plain packet, where nothing is in front of it. Asked by reference, because a packet that is
    /// moved into a call and out again stalls on its own bytes.
    #[inline]
    fn inlet_for(&self, packet: &Packet) -> Option<&dyn Inlet> {
        let Inward {
            inlet,
            takes_messages,
            max_payload,
        } = self.inlet.as_ref()?;
        let takes = match packet.packet_type {
            PacketType::Response => true,
            PacketType::OneWay => *takes_messages,
            _ => false,
        };
        let first = takes && self.reader_waker.is_some() && self.packets.is_empty();
        // Checked as for a reader: nothing but its length can be wrong with a plain one.
        (first && is_plain(packet, *max_payload)).then_some(&**inlet)
    }

    #[inline]
    fn queue(&mut self, packet: Packet, bytes: usize) {
        self.packets.push_back(Cell::new(packet));
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

impl Shortcut for Queue {
    fn try_send(&self, mut packet: Packet, counted: bool) -> Result<(), Packet> {
        let bytes = packet.queued_bytes();
        let mut state = self.lock();
        if state.sealed || state.reader_gone || state.writer != Writer::Open {
            return Err(packet);
        }
        if let Some(inlet) = state.inlet_for(&packet) {
            packet.flags = Flags::NONE;
            match inlet.deliver(packet) {
                Ok(waker) => {
                    self.sent_past(counted, bytes);
                    drop(state);
                    wake(waker);
                    return Ok(());
                }
                Err(back) => packet = back,
            }
        }
        if !state.has_room(bytes) {
            return Err(packet);
        }
        state.queue(packet, bytes);
        let waker = state.reader_waker.take();
        self.sent_past(counted, bytes);
        drop(state);
        wake(waker);
        Ok(())
    }

    fn seal(&self) {
        self.lock().sealed = true;
    }

    fn sent(&self) -> (u64, u64) {
        (self.past_packets.get(), self.past_bytes.get())
    }
}

impl fmt::Debug for InprocConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InprocConnection")
            .field("info", &self.info)
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

impl InprocConnection {
    /// Both ends of a connection to `name`: the one that dialled and the one that is accepted.
    pub(crate) fn pair(name: &str, dialling: Limits, listening: Limits) -> (Self, Self) {
        let (there, back) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
        // Version 2 is certain before any packet, as if negotiated.
        let info = ConnectionInfo::new(SCHEME, PeerAddress::Local(name.to_owned()))
            .negotiated(WireVersion::V2);
        let ours = Self::new(there.clone(), back.clone(), dialling, info.clone());
        (ours, Self::new(back, there, listening, info))
    }

    fn new(
        outgoing: Arc<Queue>,
        incoming: Arc<Queue>,
        limits: Limits,
        info: ConnectionInfo,
    ) -> Self {
        Self {
            outgoing,
            incoming,
            taken: VecDeque::new(),
            limits,
            opened: false,
            failed: None,
            progress: Progress::default(),
            info,
            wakers: Vec::new(),
        }
    }

    /// Takes whatever the peer has queued; what is alone and plain goes `into` the batch at once.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        let mut state = self.incoming.lock();
        if !state.packets.is_empty() {
            let few = self.opened && self.taken.capacity() <= KEPT_PACKETS_MAX;
            if few
                && state.is_lone(&self.limits)
                && let Some(mut packet) = state.packets.pop_front()
            {
                let bytes = packet.get_mut().queued_bytes() as u64;
                self.progress.read = self.progress.read.saturating_add(bytes);
                packet.get_mut().flags = Flags::NONE;
                into.push(packet.into_inner(), WireVersion::V2);
                state.bytes = 0;
                // Behind it there is nothing: the waker is left under the same lock, as by a look that finds nothing.
                register(&mut state.reader_waker, cx);
                let writer = state.writer_waker.take();
                drop(state);
                wake(writer);
                return Poll::Ready(Ok(Received::Lone));
            }
            std::mem::swap(&mut state.packets, &mut self.taken);
            state.bytes = 0;
            let writer = state.writer_waker.take();
            drop(state);
            wake(writer);
            return Poll::Ready(Ok(Received::Packets));
        }
        match state.writer {
            Writer::Closed => return Poll::Ready(Ok(Received::End)),
            Writer::Gone => {
                let lost = io::ErrorKind::ConnectionReset.into();
                return Poll::Ready(Err(ConnectionError::Io(lost)));
            }
            Writer::Open => register(&mut state.reader_waker, cx),
        }
        // What waits holds no memory: the deque that comes back from a large batch goes.
        if state.packets.capacity() > KEPT_PACKETS_MAX {
            state.packets = VecDeque::new();
        }
        drop(state);
        if self.taken.capacity() > KEPT_PACKETS_MAX {
            self.taken = VecDeque::new();
        }
        Poll::Pending
    }
}

impl Connection for InprocConnection {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone().into()));
        }
        if self.taken.is_empty() {
            match self.poll_take(cx, into) {
                Poll::Ready(Ok(Received::Packets)) => {}
                other => return other,
            }
        }
        let before = into.len();
        while let Some(packet) = self.taken.pop_front() {
            let mut packet = packet.into_inner();
            self.progress.read = self
                .progress
                .read
                .saturating_add(packet.queued_bytes() as u64);
            // Checked by the receiver, as if it had come over a wire: the sender is not asked to be right.
            match receive(&mut packet, &self.limits) {
                Ok(()) => into.push(packet, WireVersion::V2),
                Err(error) => {
                    self.taken = VecDeque::new();
                    self.failed = Some(error.clone());
                    // Packets in front of the broken one are handled first; the error comes with the next call.
                    if into.len() > before {
                        break;
                    }
                    return Poll::Ready(Err(error.into()));
                }
            }
            if !self.opened || into.bytes() >= budget_bytes {
                break;
            }
        }
        Poll::Ready(Ok(Received::Packets))
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        if from.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.outgoing.lock();
        if state.reader_gone || state.writer != Writer::Open {
            let lost = io::ErrorKind::BrokenPipe.into();
            return Poll::Ready(Err(ConnectionError::Io(lost)));
        }
        let (mut queued, mut taken) = (0usize, 0usize);
        while let Some(bytes) = from.front().map(Packet::queued_bytes) {
            if !state.has_room(bytes) {
                register(&mut state.writer_waker, cx);
                break;
            }
            let Some(mut packet) = from.pop() else { break };
            taken = taken.saturating_add(bytes);
            if let Some(inlet) = state.inlet_for(&packet) {
                packet.flags = Flags::NONE;
                match inlet.deliver(packet) {
                    Ok(waker) => {
                        self.wakers.extend(waker);
                        continue;
                    }
                    Err(back) => packet = back,
                }
            }
            state.queue(packet, bytes);
            queued = queued.saturating_add(bytes);
        }
        let reader = if queued > 0 {
            state.reader_waker.take()
        } else {
            None
        };
        drop(state);
        wake(reader);
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
        self.progress.written = self.progress.written.saturating_add(taken as u64);
        // Taken means: in the peer's queue, or with who waits for it.
        from.complete_taken();
        if from.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn poll_close(
        &mut self,
        _cx: &mut Context<'_>,
        reason: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        // The peer of a lost connection is not told of an orderly end.
        if reason.initiator != Initiator::Network {
            self.outgoing.end(Writer::Closed);
        }
        // On a socket unread input would destroy the Goodbye, and the close would have to read on; here what is
        // queued stays readable whatever this end does.
        Poll::Ready(Ok(()))
    }

    fn set_wire(&mut self, version: WireVersion, limits: Limits) {
        debug_assert_eq!(version, WireVersion::V2, "in process there is no other");
        self.limits = limits;
        self.opened = true;
    }

    fn framing(&self) -> Framing {
        Framing::Packets
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn peer_gone(&self) -> bool {
        self.incoming.lock().writer != Writer::Open
    }

    fn shortcut(&self) -> Option<Arc<dyn Shortcut>> {
        Some(self.outgoing.clone())
    }

    fn set_inlet(&mut self, inlet: Option<Arc<dyn Inlet>>) {
        let max_payload = self.limits.max_payload();
        let inward = inlet.map(|inlet| Inward {
            takes_messages: inlet.takes_messages(),
            inlet,
            max_payload,
        });
        let before = std::mem::replace(&mut self.incoming.lock().inlet, inward);
        // What it drops must not find the lock held.
        drop(before);
    }

    fn info(&self) -> &ConnectionInfo {
        &self.info
    }
}

impl Drop for InprocConnection {
    fn drop(&mut self) {
        self.outgoing.end(Writer::Gone);
        self.incoming.abandon();
    }
}

/// Makes the packet what would have arrived over a wire.
///
/// # Errors
/// Whatever a receiver refuses from a header alone.
#[inline]
fn receive(packet: &mut Packet, limits: &Limits) -> Result<(), DecodeError> {
    if is_plain(packet, limits.max_payload()) {
        packet.flags = Flags::NONE;
        return Ok(());
    }
    receive_any(packet, limits)
}

/// Nothing but its length can be wrong with a plain one.
#[inline]
fn is_plain(packet: &Packet, max_payload: u32) -> bool {
    PlainHeader::of(packet, WireVersion::V2)
        .is_some_and(|header| header.payload_len() <= max_payload)
}

fn receive_any(packet: &mut Packet, limits: &Limits) -> Result<(), DecodeError> {
    let meta_len = match &mut packet.meta {
        None => 0,
        Some(meta) => {
            if let Some(deadline) = &mut meta.deadline {
                *deadline = wire_deadline(*deadline);
            }
            // What has no encoding was refused when it was pushed.
            let frame = encoded_len(packet, WireVersion::V2).unwrap_or(usize::MAX);
            frame.saturating_sub(
                msgtrans_core::HEADER_LEN
                    .saturating_add(packet.ext_header.len())
                    .saturating_add(packet.payload.len()),
            )
        }
    };
    let header = Header {
        version: WireVersion::V2,
        compression: packet.compression,
        packet_type: packet.packet_type,
        biz_type: packet.biz_type,
        message_id: packet.message_id,
        ext_header_len: u16::try_from(packet.ext_header.len().saturating_add(meta_len))
            .unwrap_or(u16::MAX),
        payload_len: u32::try_from(packet.payload.len()).unwrap_or(u32::MAX),
        flags: packet.flags,
    };
    packet.flags = Header::parse(&header.to_bytes(), limits)?.flags;
    Ok(())
}

/// Whole milliseconds, rounded up, as the wire says them.
fn wire_deadline(deadline: Duration) -> Duration {
    let ms = deadline.as_nanos().div_ceil(1_000_000);
    Duration::from_millis(u64::from(u32::try_from(ms).unwrap_or(u32::MAX)))
}

/// Keeps the waker of `cx`, without a clone where it is there already.
fn register(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
