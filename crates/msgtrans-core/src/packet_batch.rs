//! [`PacketBatch`]: the packets of one pass.

use std::collections::VecDeque;

use crate::header::WireVersion;
use crate::packet::Packet;

/// Packets in the order of the wire, and how many bytes they hold.
#[derive(Debug, Default)]
pub struct PacketBatch {
    packets: VecDeque<Packet>,
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
        self.packets.push_back(packet);
    }

    /// Takes the first packet.
    #[inline]
    pub fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.queued_bytes();
        self.others -= usize::from(!packet.is_plain_message());
        Some(packet)
    }

    /// Looks at the first packet.
    pub fn front(&self) -> Option<&Packet> {
        self.packets.front()
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
