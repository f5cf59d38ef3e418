//! One frame ⇄ one [`Packet`]: encoding, and decoding of whole frames. [`Decoder`](crate::Decoder) is the incremental form.
// A peer's bytes pass here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use bytes::{Buf, Bytes};

use crate::error::{DecodeError, EncodeError};
use crate::header::{HEADER_LEN, Header, WireVersion};
use crate::limits::Limits;
use crate::meta::Meta;
use crate::out_buffer::OutBuffer;
use crate::packet::{Compression, Flags, Packet, PacketType};
use crate::plain::PlainHeader;

/// Bytes of the length in front of a META block.
const META_LENGTH_LEN: usize = 2;

/// Appends `packet` to `out` as one frame of `version`.
///
/// Nothing is appended on an error. Cost: one copy of header and payload up to 4 KiB, a reference above; no allocation
/// unless `out` grows.
///
/// # Errors
/// What the peer would close the session for: a type or compression that `version` does not have, an extended header
/// above 65 535 bytes with [`Meta`] included, a payload above 4 GiB, a control frame above its limit or with an extended
/// header, the unreliable flag on anything but a OneWay of v2.
#[inline]
pub fn encode(
    packet: &Packet,
    version: WireVersion,
    out: &mut OutBuffer,
) -> Result<(), EncodeError> {
    if let Some(header) = PlainHeader::of(packet, version) {
        out.put_frame(&header.to_bytes(), &packet.payload);
        return Ok(());
    }
    encode_any(packet, version, out)
}

/// Apart, so that the common case saves no registers for it.
#[inline(never)]
fn encode_any(
    packet: &Packet,
    version: WireVersion,
    out: &mut OutBuffer,
) -> Result<(), EncodeError> {
    let meta = meta_of(packet, version)?;
    let header = header_of(packet, version, &meta)?;
    out.put_slice(&header.to_bytes());
    if let Some((meta, len)) = meta {
        out.put_slice(&len.to_be_bytes());
        meta.put(out.copied_mut());
    }
    if !packet.ext_header.is_empty() {
        out.put_bytes(&packet.ext_header.to_bytes());
    }
    out.put_bytes(&packet.payload);
    Ok(())
}

/// Bytes of the frame that [`encode`] makes of `packet`.
///
/// # Errors
/// As [`encode`].
#[inline]
pub fn encoded_len(packet: &Packet, version: WireVersion) -> Result<usize, EncodeError> {
    if PlainHeader::of(packet, version).is_some() {
        return Ok(HEADER_LEN.saturating_add(packet.payload.len()));
    }
    let meta = meta_of(packet, version)?;
    header_of(packet, version, &meta).map(|header| header.frame_len())
}

/// What goes into the META block and its length; `None` where there is nothing to say or no place to say it.
#[inline]
fn meta_of(packet: &Packet, version: WireVersion) -> Result<Option<(&Meta, u16)>, EncodeError> {
    match packet.meta.as_deref() {
        Some(meta) if version == WireVersion::V2 => {
            let len = meta.encoded_len()?;
            let len = u16::try_from(len).map_err(|_| ext_header_too_large(len))?;
            Ok(Some((meta, len)))
        }
        _ => Ok(None),
    }
}

#[inline]
fn header_of(
    packet: &Packet,
    version: WireVersion,
    meta: &Option<(&Meta, u16)>,
) -> Result<Header, EncodeError> {
    let Packet {
        packet_type,
        compression,
        biz_type,
        message_id,
        flags,
        ext_header,
        payload,
        ..
    } = packet;
    if version == WireVersion::V1 && (!packet_type.is_v1() || *compression == Compression::Lz4) {
        return Err(EncodeError::NotInVersion {
            packet_type: *packet_type,
            compression: *compression,
            version,
        });
    }
    let meta_len = meta.map_or(0, |(_, len)| {
        usize::from(len).saturating_add(META_LENGTH_LEN)
    });
    let ext_len = ext_header.len().saturating_add(meta_len);
    let ext_header_len = u16::try_from(ext_len).map_err(|_| ext_header_too_large(ext_len))?;
    let payload_len = u32::try_from(payload.len()).map_err(|_| EncodeError::PayloadTooLarge {
        len: payload.len(),
        max: u32::MAX,
    })?;
    if *packet_type != PacketType::OneWay && version == WireVersion::V2 {
        check_type(packet, ext_len)?;
    }
    let flags = match meta {
        Some(_) => flags.with(Flags::META),
        None => flags.without(Flags::META),
    };
    Ok(Header {
        version,
        compression: *compression,
        packet_type: *packet_type,
        biz_type: *biz_type,
        message_id: *message_id,
        ext_header_len,
        payload_len,
        flags,
    })
}

/// What v2 forbids to types other than OneWay; the peer's [`Header::parse`] would refuse it.
#[inline]
fn check_type(packet: &Packet, ext_len: usize) -> Result<(), EncodeError> {
    let packet_type = packet.packet_type;
    if packet.flags.contains(Flags::UNRELIABLE) {
        return Err(EncodeError::UnreliableNotOneWay { packet_type });
    }
    if packet_type.is_data() {
        return Ok(());
    }
    if ext_len != 0 {
        return Err(EncodeError::ControlWithExtHeader {
            packet_type,
            len: ext_len,
        });
    }
    if packet.compression != Compression::None {
        return Err(EncodeError::CompressionUnavailable {
            compression: packet.compression,
        });
    }
    let max = Limits::max_control(packet_type);
    if packet.payload.len() > max as usize {
        return Err(EncodeError::ControlTooLarge {
            packet_type,
            len: packet.payload.len(),
            max,
        });
    }
    Ok(())
}

#[cold]
fn ext_header_too_large(len: usize) -> EncodeError {
    EncodeError::ExtHeaderTooLarge {
        len,
        max: Limits::MAX_EXT_HEADER,
    }
}

/// Decodes exactly one frame that fills `frame`, as a WebSocket message or a datagram holds it.
///
/// # Errors
/// Whatever [`Header::parse`] refuses, a version other than `expect`, fewer or more bytes than one frame, malformed
/// META.
pub fn decode_exact(
    frame: Bytes,
    expect: Option<WireVersion>,
    limits: &Limits,
) -> Result<(Packet, WireVersion), DecodeError> {
    let Some(bytes) = frame.first_chunk::<HEADER_LEN>() else {
        return Err(DecodeError::NotOneFrame {
            len: frame.len(),
            frame: HEADER_LEN,
        });
    };
    let header = Header::parse(bytes, limits)?;
    expect_version(header.version, expect)?;
    if frame.len() != header.frame_len() {
        return Err(DecodeError::NotOneFrame {
            len: frame.len(),
            frame: header.frame_len(),
        });
    }
    whole_frame(&header, frame).map(|packet| (packet, header.version))
}

#[inline]
pub(crate) fn expect_version(
    got: WireVersion,
    expect: Option<WireVersion>,
) -> Result<(), DecodeError> {
    match expect {
        Some(expected) if expected != got => Err(DecodeError::VersionMismatch { expected, got }),
        _ => Ok(()),
    }
}

/// Makes the packet of a whole frame, its parts sharing `frame`.
pub(crate) fn whole_frame(header: &Header, mut frame: Bytes) -> Result<Packet, DecodeError> {
    frame.advance(HEADER_LEN);
    let ext_header = frame.split_to(usize::from(header.ext_header_len));
    let packet = packet_of(header, ext_header, frame);
    if header.flags.contains(Flags::META) {
        return strip_meta(packet);
    }
    Ok(packet)
}

/// Makes the packet of a frame's parts, META still in front of the extended header. Empty parts are static: one that
/// shared the read buffer would keep it alive without holding a byte of it.
#[inline(always)]
pub(crate) fn packet_of(header: &Header, ext_header: Bytes, payload: Bytes) -> Packet {
    Packet {
        packet_type: header.packet_type,
        compression: header.compression,
        biz_type: header.biz_type,
        message_id: header.message_id,
        flags: header.flags,
        ext_header: ext_header.into(),
        payload: unless_empty(payload),
        meta: None,
    }
}

#[inline(always)]
fn unless_empty(part: Bytes) -> Bytes {
    if part.is_empty() { Bytes::new() } else { part }
}

/// Reads META and takes it off the extended header.
#[inline(never)]
pub(crate) fn strip_meta(mut packet: Packet) -> Result<Packet, DecodeError> {
    packet.flags = packet.flags.without(Flags::META);
    let truncated = DecodeError::MetaTruncated {
        len: packet.ext_header.len(),
    };
    let Some((len, rest)) = packet.ext_header.split_first_chunk::<META_LENGTH_LEN>() else {
        return Err(truncated);
    };
    let Some((fields, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))) else {
        return Err(truncated);
    };
    let meta = Meta::decode(fields)?;
    packet.meta = (meta != Meta::default()).then(|| Box::new(meta));
    packet.ext_header = packet.ext_header.to_bytes().slice_ref(rest).into();
    Ok(packet)
}

#[cfg(test)]
mod tests;
