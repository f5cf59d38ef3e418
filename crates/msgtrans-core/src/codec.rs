//! One frame ⇄ one [`Packet`]: encoding, and decoding of whole frames. [`Decoder`](crate::Decoder) is the incremental form.

use bytes::{Buf, Bytes};

use crate::error::{DecodeError, EncodeError};
use crate::header::{HEADER_LEN, Header, WireVersion};
use crate::limits::Limits;
use crate::meta::Meta;
use crate::out_buffer::OutBuffer;
use crate::packet::{Compression, Flags, Packet};

/// Appends `packet` to `out` as one frame of `version`.
///
/// Nothing is appended on an error. Cost: one copy of header and payload below 4 KiB, a reference above; no allocation
/// unless `out` grows or the packet has [`Meta`].
///
/// # Errors
/// A type or compression that `version` does not have, an extended header above 65 535 bytes, a payload above 4 GiB.
#[inline]
pub fn encode(
    packet: &Packet,
    version: WireVersion,
    out: &mut OutBuffer,
) -> Result<(), EncodeError> {
    let meta = encode_meta(packet, version)?;
    let header = header_of(packet, version, &meta)?;
    out.put_slice(&header.to_bytes());
    if let Some(meta) = &meta {
        out.put_slice(meta);
    }
    if !packet.ext_header.is_empty() {
        out.put_bytes(&packet.ext_header);
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
    let meta = encode_meta(packet, version)?;
    header_of(packet, version, &meta).map(|header| header.frame_len())
}

/// The META block with its length in front; `None` where there is nothing to say or no place to say it.
#[inline]
fn encode_meta(packet: &Packet, version: WireVersion) -> Result<Option<Vec<u8>>, EncodeError> {
    match &packet.meta {
        Some(meta) if version == WireVersion::V2 => {
            let fields = meta.encode()?;
            let mut block = Vec::with_capacity(2 + fields.len());
            // Bounded by the checks in `Meta::encode`, far below 65 535.
            block.extend_from_slice(&(fields.len() as u16).to_be_bytes());
            block.extend_from_slice(&fields);
            Ok(Some(block))
        }
        _ => Ok(None),
    }
}

#[inline]
fn header_of(
    packet: &Packet,
    version: WireVersion,
    meta: &Option<Vec<u8>>,
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
    let ext_len = ext_header.len() + meta.as_ref().map_or(0, Vec::len);
    let ext_header_len = u16::try_from(ext_len).map_err(|_| EncodeError::ExtHeaderTooLarge {
        len: ext_len,
        max: Limits::MAX_EXT_HEADER,
    })?;
    let payload_len = u32::try_from(payload.len()).map_err(|_| EncodeError::PayloadTooLarge {
        len: payload.len(),
        max: u32::MAX,
    })?;
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
    packet_of(&header, frame).map(|packet| (packet, header.version))
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
#[inline]
pub(crate) fn packet_of(header: &Header, mut frame: Bytes) -> Result<Packet, DecodeError> {
    frame.advance(HEADER_LEN);
    let ext_len = usize::from(header.ext_header_len);
    let mut ext_header = if ext_len == 0 {
        Bytes::new()
    } else {
        frame.split_to(ext_len)
    };
    let mut flags = header.flags;
    let mut meta = None;
    if flags.contains(Flags::META) {
        flags = flags.without(Flags::META);
        if ext_header.len() < 2 {
            return Err(DecodeError::MetaTruncated {
                len: ext_header.len(),
            });
        }
        let len = usize::from(ext_header.get_u16());
        if ext_header.len() < len {
            return Err(DecodeError::MetaTruncated {
                len: ext_header.len(),
            });
        }
        meta = Some(Box::new(Meta::decode(ext_header.split_to(len))?));
    }
    Ok(Packet {
        packet_type: header.packet_type,
        compression: header.compression,
        biz_type: header.biz_type,
        message_id: header.message_id,
        flags,
        ext_header,
        payload: frame,
        meta,
    })
}
