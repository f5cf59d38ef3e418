//! [`PacketBatch`]: the packets of one pass.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;

use crate::header::WireVersion;
use crate::packet::Packet;

/// Packets in the order of the wire, and how many bytes they hold.
#[derive(Default)]
pub struct PacketBatch {
    /// In cells, which hide a packet's unused bit patterns: an `Option<Packet>` would else put its tag into a packet's
    /// first word, and each move would take that word apart from the rest, a stalled load every time.
    packets: VecDeque<Cell<Packet>>,
    bytes: usize,
    /// How many are not plain messages.
    others: usize,
    version: Option<WireVersion>,
}

impl PacketBatch {
    /// An empty batch that holds no memory.
    pub const fn new() -> Self {
        Self {
            packets: VecDeque::new(),
            bytes: 0,
            others: 0,
            version: None,
        }
    }

    /// Adds a packet at the end.
    #[inline(always)]
    pub fn push(&mut self, packet: Packet, version: WireVersion) {
        self.bytes += packet.queued_bytes();
        self.others += usize::from(!packet.is_plain_message());
        self.version = Some(version);
        self.packets.push_back(Cell::new(packet));
    }

    /// Takes the first packet.
    #[inline]
    pub fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?.into_inner();
        self.bytes -= packet.queued_bytes();
        self.others -= usize::from(!packet.is_plain_message());
        Some(packet)
    }

    /// Takes the first packet of a batch that is being emptied, in the cell where it lay.
    ///
    /// Cheaper than [`pop`](Self::pop) because nothing is counted: [`bytes`](Self::bytes) and
    /// [`is_plain`](Self::is_plain) are right again after it has given `None`.
    #[inline]
    pub fn drain_next(&mut self) -> Option<Cell<Packet>> {
        let packet = self.packets.pop_front();
        if packet.is_none() {
            (self.bytes, self.others) = (0, 0);
        }
        packet
    }

    /// The packets as a list, to add a run to that is counted as a whole; [`put_plain`](Self::put_plain) takes it back,
    /// and [`count_plain`](Self::count_plain) counts, before anybody looks.
    #[inline]
    pub(crate) fn lend_list(&mut self) -> Vec<Cell<Packet>> {
        Vec::from(std::mem::take(&mut self.packets))
    }

    /// Takes the list back.
    #[inline]
    pub(crate) fn put_plain(&mut self, list: Vec<Cell<Packet>>) {
        self.packets = VecDeque::from(list);
    }

    /// Counts what was added to the list.
    #[inline]
    pub(crate) fn count_plain(&mut self, bytes: usize, others: usize, version: WireVersion) {
        self.bytes += bytes;
        self.others += others;
        self.version = Some(version);
    }

    /// Moves the run of [plain messages](Packet::is_plain_message) at the front into `run`, which is empty.
    ///
    /// Costs nothing where there is nothing else; otherwise the shorter part is moved, so that a run of thousands is
    /// hardly dearer for the one request behind it.
    pub fn take_plain_run(&mut self, run: &mut PacketBatch) {
        debug_assert!(run.is_empty(), "a run is worked off before the next one");
        if self.is_plain() {
            std::mem::swap(self, run);
            return;
        }
        let len = (self.packets.iter_mut())
            .position(|packet| !packet.get_mut().is_plain_message())
            .unwrap_or(self.packets.len());
        if len > self.packets.len() / 2 {
            std::mem::swap(self, run);
            self.version = run.version;
            (self.others, run.others) = (run.others, 0);
            self.packets.extend(run.packets.drain(len..));
            self.bytes = self
                .packets
                .iter_mut()
                .map(|packet| packet.get_mut().queued_bytes())
                .sum();
            run.bytes -= self.bytes;
        } else {
            run.version = self.version;
            run.packets.extend(self.packets.drain(..len));
            run.bytes = run
                .packets
                .iter_mut()
                .map(|packet| packet.get_mut().queued_bytes())
                .sum();
            self.bytes -= run.bytes;
        }
    }

    /// Looks at the first packet.
    pub fn front(&mut self) -> Option<&Packet> {
        self.packets.front_mut().map(|packet| &*packet.get_mut())
    }

    /// Packets held.
    #[inline]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether every packet is a [plain message](Packet::is_plain_message).
    #[inline]
    pub fn is_plain(&self) -> bool {
        self.others == 0
    }

    /// Bytes held, each packet counted by [`Packet::queued_bytes`].
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The version of the frames that came last.
    pub fn version(&self) -> Option<WireVersion> {
        self.version
    }

    /// Forgets the packets and keeps the memory.
    pub fn clear(&mut self) {
        self.packets.clear();
        self.bytes = 0;
        self.others = 0;
        self.version = None;
    }
}

impl fmt::Debug for PacketBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketBatch")
            .field("packets", &self.packets.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
