//! The codec: a packet's head in a few bytes, its body as it is.
//!
//! A head is the shape (which of the five optional fields it has), the packet type, and then varints: message id,
//! payload length, and the fields of the shape in the order of its bits. A META block follows, as long as its field
//! says; extended header and payload are the body. What is zero or empty costs nothing.

use bytes::{Buf, Bytes};
use msgtrans_core::codec::decode_exact;
use msgtrans_core::{
    DecodeError, EncodeError, ExtHeader, HEADER_LEN, Header, Limits, Meta, OutBuffer, Packet,
    WireVersion, encode,
};

/// The bits of the shape: compression, biz_type, flags, length of the extended header, length of META.
const FIELDS: usize = 5;
/// The flag of the wire format (section 1) that says META. Here the shape says it.
const META_FLAG: u16 = 1 << 4;
/// The most bytes of a varint of 64 bits.
const VARINT_LEN_MAX: usize = 10;

/// A packet without its body.
#[derive(Debug)]
pub(super) struct Head {
    header: Header,
    meta: Option<Box<Meta>>,
    pub(super) ext_header_len: usize,
    pub(super) payload_len: usize,
}

/// Appends the head of `packet`.
pub(super) fn put_head(packet: &Packet, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let meta = meta_block(packet)?;
    let fields: [u64; FIELDS] = [
        packet.compression.as_u8().into(),
        packet.biz_type.into(),
        packet.flags.bits().into(),
        packet.ext_header.len() as u64,
        meta.len() as u64,
    ];
    let present = |(index, value): (usize, &u64)| u8::from(*value != 0) << index;
    out.push(fields.iter().enumerate().map(present).sum());
    out.push(packet.packet_type.as_u8());
    put_varint(packet.message_id.into(), out);
    put_varint(packet.payload.len() as u64, out);
    for value in fields.into_iter().filter(|value| *value != 0) {
        put_varint(value, out);
    }
    out.extend_from_slice(&meta);
    Ok(())
}

/// META with its length in front, as core writes it: fields that it gains later pass here without a change.
fn meta_block(packet: &Packet) -> Result<Bytes, EncodeError> {
    if packet.meta.is_none() {
        return Ok(Bytes::new());
    }
    let bodiless = Packet {
        ext_header: ExtHeader::new(),
        payload: Bytes::new(),
        ..packet.clone()
    };
    let mut out = OutBuffer::new();
    encode(&bodiless, WireVersion::V2, &mut out)?;
    out.advance(HEADER_LEN);
    Ok(out.copy_to_bytes(out.len()))
}

/// Takes a head off the front of `bytes`. Whatever it claims is checked against `limits` here, before anybody gives
/// memory for a body.
pub(super) fn take_head(bytes: &mut Bytes, limits: &Limits) -> Result<Head, DecodeError> {
    let prefix = take(bytes, 2)?;
    let (shape, packet_type) = (prefix[0], prefix[1]);
    if shape >> FIELDS != 0 {
        return Err(broken(format!("a head of the unknown shape {shape:#x}")));
    }
    let message_id: u32 = narrow(take_varint(bytes)?, "message id")?;
    let payload_len = take_varint(bytes)?;
    let mut fields = [0; FIELDS];
    for (index, field) in fields.iter_mut().enumerate() {
        if shape >> index & 1 == 1 {
            *field = take_varint(bytes)?;
        }
    }
    let [compression, biz_type, flags, ext_header_len, meta_len] = fields;

    // Core knows what a receiver refuses: unknown types, control frames with a body too long, everything above the
    // limits. Its header is built from ours, and asked.
    let mut raw = [0; HEADER_LEN];
    raw[0] = WireVersion::V2 as u8;
    raw[1] = narrow(compression, "compression")?;
    raw[2] = packet_type;
    raw[3] = narrow(biz_type, "biz_type")?;
    raw[4..8].copy_from_slice(&message_id.to_be_bytes());
    let flags = narrow::<u16>(flags, "flags")? & !META_FLAG;
    raw[14..16].copy_from_slice(&flags.to_be_bytes());
    // On the built-in wire META stands inside the extended header, and counts.
    let header_len = u128::from(meta_len) + u128::from(ext_header_len);
    let header_len = length::<u16>(header_len, "extended header")?;
    raw[8..10].copy_from_slice(&header_len.to_be_bytes());
    let body_len = length::<u32>(payload_len.into(), "payload")?;
    raw[10..14].copy_from_slice(&body_len.to_be_bytes());
    let header = Header::parse(&raw, limits)?;

    let meta = match take(bytes, meta_len as usize)? {
        block if block.is_empty() => None,
        block => {
            raw[8..10].copy_from_slice(&(block.len() as u16).to_be_bytes());
            raw[10..14].fill(0);
            raw[14..16].copy_from_slice(&META_FLAG.to_be_bytes());
            let frame = [&raw[..], &block].concat();
            decode_exact(frame.into(), Some(WireVersion::V2), limits)?
                .0
                .meta
        }
    };
    Ok(Head {
        header,
        meta,
        ext_header_len: ext_header_len as usize,
        payload_len: body_len as usize,
    })
}

impl Head {
    /// Bytes of extended header and payload.
    pub(super) fn body_len(&self) -> usize {
        self.ext_header_len + self.payload_len
    }

    /// The packet, its parts taken off the front of `body`.
    pub(super) fn take_body(self, body: &mut Bytes) -> Result<Packet, DecodeError> {
        let ext_header = take(body, self.ext_header_len)?;
        let payload = take(body, self.payload_len)?;
        let mut packet = Packet::numbered(self.header.packet_type, self.header.message_id, payload)
            .with_biz_type(self.header.biz_type)
            .with_flags(self.header.flags)
            .with_compression(self.header.compression)
            .with_ext_header(ext_header);
        packet.meta = self.meta;
        Ok(packet)
    }
}

/// Takes `len` bytes off the front. None at all are static: they would keep a message alive without holding any of it.
fn take(bytes: &mut Bytes, len: usize) -> Result<Bytes, DecodeError> {
    if len > bytes.len() {
        let held = bytes.len();
        return Err(broken(format!("{len} bytes of a frame in {held}")));
    }
    Ok(if len == 0 {
        Bytes::new()
    } else {
        bytes.split_to(len)
    })
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
pub(super) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint off the front.
pub(super) fn take_varint(bytes: &mut Bytes) -> Result<u64, DecodeError> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(VARINT_LEN_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let placed = bits << (7 * index);
        // The tenth byte has room for one bit.
        if placed >> (7 * index) != bits {
            break;
        }
        value |= placed;
        if byte & 0x80 == 0 {
            bytes.advance(index + 1);
            return Ok(value);
        }
    }
    Err(broken("a number that does not end".to_owned()))
}

fn narrow<T: TryFrom<u64>>(value: u64, field: &str) -> Result<T, DecodeError> {
    T::try_from(value).map_err(|_| broken(format!("{field} of {value}")))
}

fn length<T: TryFrom<u128>>(value: u128, field: &str) -> Result<T, DecodeError> {
    T::try_from(value).map_err(|_| too_large(format!("{field} of {value} bytes")))
}

/// What the peer sent is none of ours.
pub(super) fn broken(what: String) -> DecodeError {
    DecodeError::Framing {
        what,
        too_large: false,
    }
}

/// What the peer sent is more than anybody takes.
pub(super) fn too_large(what: String) -> DecodeError {
    DecodeError::Framing {
        what,
        too_large: true,
    }
}

#[cfg(test)]
mod tests;
