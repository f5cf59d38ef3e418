//! Packets in frames: the WebSocket header in front of the packet, in the same buffer.
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
use msgtrans_core::{
    EncodeError, HEADER_LEN, OutBuffer, Packet, PlainHeader, SHARED_PAYLOAD_MIN, WireVersion,
    encode, encoded_len,
};
use msgtrans_transport::Framing;

use crate::frame::{OpCode, Role, encode_frame_header};
use crate::mask::{apply_mask, next_key};

/// How a connection in this role frames its packets.
pub(crate) fn framing(role: Role) -> Framing {
    Framing::Encode(match role {
        Role::Server => encode_plain,
        Role::Client => encode_masked,
    })
}

/// One packet as one unmasked binary message.
fn encode_plain(
    packet: &Packet,
    version: WireVersion,
    out: &mut OutBuffer,
) -> Result<(), EncodeError> {
    if let Some(header) = PlainHeader::of(packet, version) {
        put_plain(&header.to_bytes(), &packet.payload, out);
        return Ok(());
    }
    encode_any(packet, version, out)
}

/// Both headers of a plain packet in one copy. The frame is far below 64 KiB.
#[inline(always)]
fn put_plain(header: &[u8; HEADER_LEN], payload: &[u8], out: &mut OutBuffer) {
    const FIN_BINARY: u8 = 0x80 | OpCode::Binary as u8;
    let len = HEADER_LEN.saturating_add(payload.len());
    if len < 126 {
        let mut both = [0; 2 + HEADER_LEN];
        both[0] = FIN_BINARY;
        both[1] = len as u8;
        both[2..].copy_from_slice(header);
        out.put_frame(&both, payload);
    } else {
        let mut both = [0; 4 + HEADER_LEN];
        both[0] = FIN_BINARY;
        both[1] = 126;
        both[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        both[4..].copy_from_slice(header);
        out.put_frame(&both, payload);
    }
}

/// Apart, so that the common case saves no registers for it.
#[inline(never)]
fn encode_any(
    packet: &Packet,
    version: WireVersion,
    out: &mut OutBuffer,
) -> Result<(), EncodeError> {
    // Whatever `encode` could refuse is refused here, before the header is in the buffer.
    let len = encoded_len(packet, version)?;
    out.put_slice(&encode_frame_header(OpCode::Binary, len, None));
    encode(packet, version, out)
}

/// One packet as one binary message under a key of its own.
fn encode_masked(
    packet: &Packet,
    version: WireVersion,
    out: &mut OutBuffer,
) -> Result<(), EncodeError> {
    let len = encoded_len(packet, version)?;
    let key = next_key();
    out.put_slice(&encode_frame_header(OpCode::Binary, len, Some(key)));
    if packet.payload.len() >= SHARED_PAYLOAD_MIN || packet.ext_header.len() >= SHARED_PAYLOAD_MIN {
        return encode_masked_shared(packet, version, key, out);
    }
    let start = out.copied_len();
    encode(packet, version, out)?;
    apply_mask(out.copied_from_mut(start), key, 0);
    Ok(())
}

/// A packet whose parts are shared with who sent it: the mask needs a copy of them.
#[cold]
fn encode_masked_shared(
    packet: &Packet,
    version: WireVersion,
    key: [u8; 4],
    out: &mut OutBuffer,
) -> Result<(), EncodeError> {
    let mut plain = OutBuffer::new();
    encode(packet, version, &mut plain)?;
    let mut phase = 0usize;
    while plain.has_remaining() {
        // Memory of its own instead of the buffer's end: a buffer that grew to megabytes would copy
        // what it holds and not be kept afterwards.
        let mut part = plain.chunk().to_vec();
        plain.advance(part.len());
        apply_mask(&mut part, key, phase);
        phase = phase.saturating_add(part.len());
        out.put_bytes(&Bytes::from(part));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use msgtrans_core::codec::decode_exact;
    use msgtrans_core::{Limits, PacketType};

    use super::*;
    use crate::message::{Event, MessageLimits, MessageReader};

    fn check(role: Role, packet: &Packet) {
        let Framing::Encode(frame) = framing(role) else {
            panic!("packets become bytes here");
        };
        let mut out = OutBuffer::new();
        frame(packet, WireVersion::V2, &mut out).expect("encodable");
        let mut bytes = BytesMut::new();
        while out.has_remaining() {
            bytes.extend_from_slice(out.chunk());
            out.advance(out.chunk().len());
        }
        let reader = match role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        let limits = MessageLimits {
            message_bytes_max: 1 << 20,
            text: false,
        };
        let event = MessageReader::new(reader, limits)
            .next_event(&mut bytes)
            .expect("legal");
        let Some(Event::Binary(message)) = event else {
            panic!("no binary message: {event:?}");
        };
        let (read, version) =
            decode_exact(message, None, &Limits::default()).expect("exactly one frame");
        assert_eq!(version, WireVersion::V2);
        assert!(read.payload == packet.payload && read.ext_header == packet.ext_header);
    }

    #[test]
    fn each_packet_becomes_one_message_of_exactly_one_frame() {
        for len in [0, 1, 64, 109, 110, 4_096, 4_097, 65_519, 65_520, 200_000] {
            let payload: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let packet = Packet::binary(payload).with_ext_header(vec![7; len.min(5_000)]);
            check(Role::Server, &packet);
            check(Role::Client, &packet);
        }
    }

    #[test]
    fn a_packet_that_cannot_be_encoded_leaves_nothing_behind() {
        let packet = Packet::new(PacketType::Hello, Bytes::new());
        for frame in [encode_plain, encode_masked] {
            let mut out = OutBuffer::new();
            assert!(frame(&packet, WireVersion::V1, &mut out).is_err());
            assert!(out.is_empty());
        }
    }
}
