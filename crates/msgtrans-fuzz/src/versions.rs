//! The two versions of the wire against each other: one packet, encoded and decoded as both.

use bytes::{Buf, Bytes};
use msgtrans_core::{
    Code, EncodeError, Flags, HEADER_LEN, Limits, Meta, OutBuffer, Packet, WireVersion, codec,
    encode, encoded_len,
};

use crate::frames;
use crate::input::Input;

/// What one version encodes it decodes to the same packet; what both encode differs in the version's own bits alone.
pub(crate) fn versions(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut packet = frames::packet(&mut input);
    let choices = input.byte();
    if choices & 1 != 0 {
        packet = packet.with_meta(meta(&mut input));
    }
    let mut payload = input.rest().to_vec();
    if choices & 2 != 0 {
        // Large enough to be referred to instead of copied.
        payload.resize(payload.len() + 5000, 7);
    }
    packet.payload = payload.into();

    let v1 = round_trip(&packet, WireVersion::V1);
    let v2 = round_trip(&packet, WireVersion::V2);
    if let Ok(v1) = &v1 {
        assert!(packet.packet_type.is_v1());
        assert_eq!(
            v1.len(),
            HEADER_LEN + packet.ext_header.len() + packet.payload.len()
        );
    }
    let v2_alone = packet.meta.is_some() || packet.flags.bits() > 0b111;
    if let (Ok(v1), Ok(v2), false) = (v1, v2, v2_alone) {
        assert_eq!((v1[0], v2[0]), (1, 2));
        assert_eq!(v1[1..], v2[1..]);
    }
}

fn round_trip(packet: &Packet, version: WireVersion) -> Result<Vec<u8>, EncodeError> {
    let mut out = OutBuffer::new();
    let encoded = encode(packet, version, &mut out);
    let len = encoded_len(packet, version);
    if let Err(error) = encoded {
        assert!(out.is_empty(), "half a frame was written");
        assert!(len.is_err());
        return Err(error);
    }
    let frame = out.copy_to_bytes(out.len());
    assert_eq!(len.ok(), Some(frame.len()));
    let decoded = codec::decode_exact(frame.clone(), Some(version), &Limits::default());
    let mut expected = packet.clone();
    expected.flags = flags_of(packet.flags, version);
    expected.meta = expected
        .meta
        .filter(|meta| version == WireVersion::V2 && **meta != Meta::default());
    match decoded {
        Ok((decoded, _)) => assert_eq!(decoded, expected),
        // An Ack's length is a fact of its type that the encoder leaves to who makes one.
        Err(error) => assert_eq!(
            packet.packet_type,
            msgtrans_core::PacketType::Ack,
            "{error:?}"
        ),
    }
    Ok(frame.to_vec())
}

fn flags_of(flags: Flags, version: WireVersion) -> Flags {
    match version {
        WireVersion::V1 => flags.without(Flags::UNRELIABLE).without(Flags::ACK_NOW),
        WireVersion::V2 => flags,
    }
}

fn meta(input: &mut Input<'_>) -> Meta {
    let choices = input.byte();
    let mut meta = Meta::new();
    if choices & 1 != 0 {
        meta = meta.with_deadline(std::time::Duration::from_millis(u64::from(input.u32())));
    }
    if choices & 2 != 0 {
        let text: String = input
            .take(55)
            .iter()
            .map(|byte| char::from(byte & 127))
            .collect();
        meta = meta.with_traceparent(text);
    }
    if choices & 4 != 0 {
        meta.key = Some(Bytes::copy_from_slice(input.take(32)));
    }
    if choices & 8 != 0 {
        meta.code = Some(Code(input.u16()));
    }
    meta
}
