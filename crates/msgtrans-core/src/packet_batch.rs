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
