//! [`PlainHeader`]: the header of most frames, as two numbers instead of nine fields.

use bytes::Bytes;

use crate::header::{HEADER_LEN, WireVersion};
use crate::out_buffer::{OutBuffer, SHARED_PAYLOAD_MIN};
use crate::packet::{Packet, PacketType};

/// The header of a plain frame: OneWay, Request or Response, not compressed, without flags and extended header.
///
/// For framings and decoders on the hot path: a comparison or two tell whether a frame is plain, which takes a third of
/// the instructions that [`Header`](crate::Header) takes. What is not plain, errors included, is left to the general
/// way.
#[derive(Clone, Copy, Debug)]
pub struct PlainHeader {
    /// Version, compression, type, biz_type and message id, as they are on the wire.
    head: u64,
    payload_len: u32,
}

impl PlainHeader {
    /// Reads a header; `None` where it is of another version or not plain.
    #[inline(always)]
    pub fn parse(bytes: &[u8; HEADER_LEN], version: WireVersion) -> Option<Self> {
        let both = u128::from_be_bytes(*bytes);
        // Turned by the two bytes of the extended header's length, so that these and the flags are the lower half.
        let (head, tail) = ((both >> 64) as u64, (both as u64).rotate_left(16));
        // Of another version or compressed is above any type, or below none.
        let packet_type = (head >> 40).wrapping_sub(u64::from(version as u8) << 16);
        let plain = packet_type <= u64::from(PacketType::Response.as_u8()) && tail as u32 == 0;
        plain.then_some(Self {
            head,
            payload_len: (tail >> 32) as u32,
        })
    }

    /// The header of `packet`; `None` where it is not plain, or its payload is one that
    /// [`OutBuffer`](crate::OutBuffer) shares instead of copying it.
    #[inline(always)]
    pub fn of(packet: &Packet, version: WireVersion) -> Option<Self> {
        if packet.payload.len() >= SHARED_PAYLOAD_MIN {
            return None;
        }
        Some(Self {
            head: u64::from(version as u8) << 56 | packet.plain_head()?,
            payload_len: packet.payload.len() as u32,
        })
    }

    /// [`of`](Self::of) for a one-way message, with one look less: `None` for anything else.
    #[inline(always)]
    pub fn of_message(packet: &Packet, version: WireVersion) -> Option<Self> {
        if packet.payload.len() >= SHARED_PAYLOAD_MIN {
            return None;
        }
        Some(Self {
            head: u64::from(version as u8) << 56 | packet.plain_message_head()?,
            payload_len: packet.payload.len() as u32,
        })
    }

    /// Bytes of the payload.
    #[inline(always)]
    pub fn payload_len(self) -> u32 {
        self.payload_len
    }

    /// The bytes of the wire.
    #[inline(always)]
    pub fn to_bytes(self) -> [u8; HEADER_LEN] {
        (u128::from(self.head) << 64 | u128::from(self.payload_len) << 16).to_be_bytes()
    }

    /// Appends the frame of this header and `payload`, which is as long as the header says.
    // Apart, so that the copies are inlined here and cost no caller its registers.
    #[inline(never)]
    pub fn put_frame(self, payload: &[u8], out: &mut OutBuffer) {
        debug_assert_eq!(self.payload_len as usize, payload.len());
        out.put_frame(&self.to_bytes(), payload);
    }

    /// Whether the frame is a one-way message.
    #[inline(always)]
    pub(crate) fn is_message(self) -> bool {
        self.head & 0xFF << 40 == 0
    }

    /// [`Packet::queued_bytes`] of the packet.
    #[inline(always)]
    pub(crate) fn queued_bytes(self) -> usize {
        Packet::QUEUED_BYTES.wrapping_add(self.payload_len as usize)
    }

    /// The packet of this header and its payload.
    #[inline(always)]
    pub fn packet(self, payload: Bytes) -> Packet {
        Packet::plain(self.head, payload)
    }
}
