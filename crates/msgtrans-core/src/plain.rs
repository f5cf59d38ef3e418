//! [`PlainHeader`]: the header of most frames, as two numbers instead of nine fields.

use bytes::Bytes;

use crate::header::{HEADER_LEN, WireVersion};
use crate::out_buffer::SHARED_PAYLOAD_MIN;
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
        let (head, tail) = ((both >> 64) as u64, both as u64);
        let plain = head >> 48 == u64::from(version as u8) << 8
            && (head >> 40) & 0xFF <= u64::from(PacketType::Response.as_u8())
            && tail >> 48 == 0
            && tail & 0xFFFF == 0;
        plain.then_some(Self {
            head,
            payload_len: (tail >> 16) as u32,
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

    /// The packet of this header and its payload.
    #[inline(always)]
    pub fn packet(self, payload: Bytes) -> Packet {
        Packet::plain(self.head, payload)
    }
}
