//! Type-length-value fields: bodies of control frames, and the META block in front of an extended header.

use std::collections::HashSet;

use bytes::{Buf, Bytes};
use msgtrans_core::{
    DecodeError, Goodbye, Hello, Limits, OutBuffer, Packet, PacketType, Welcome, WireVersion,
    codec, encode,
};

use crate::input::Input;

/// A body that is read comes out the same after it was written again; one whose fields do not add up is refused.
pub(crate) fn control(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choice = input.byte() % 4;
    let body = input.rest();
    match choice {
        0 => again(
            body,
            PacketType::Hello,
            Hello::from_packet,
            Hello::to_packet,
        ),
        1 => again(
            body,
            PacketType::Welcome,
            Welcome::from_packet,
            Welcome::to_packet,
        ),
        2 => again(body, PacketType::Goodbye, Goodbye::from_packet, |goodbye| {
            goodbye.to_packet(PacketType::Goodbye)
        }),
        _ => again(body, PacketType::GoAway, Goodbye::from_packet, |goodbye| {
            goodbye.to_packet(PacketType::GoAway)
        }),
    }
}

fn again<T: PartialEq + std::fmt::Debug>(
    body: &[u8],
    packet_type: PacketType,
    read: impl Fn(&Packet) -> Result<T, DecodeError>,
    write: impl Fn(&T) -> Packet,
) {
    let packet = Packet::numbered(packet_type, 0, body.to_vec());
    let fields = fields(body);
    match read(&packet) {
        Ok(value) => {
            assert!(fields.is_some(), "fields that do not add up were taken");
            let written = write(&value);
            assert_eq!(written.packet_type, packet_type);
            assert_eq!(read(&written).ok().as_ref(), Some(&value));
        }
        // The known tags have lengths and ranges; tags that nobody knows must not be an error.
        Err(error) => assert!(
            fields.is_none_or(
                |tags| tags.iter().any(|tag| *tag <= 23) || packet_type == PacketType::Welcome
            ),
            "{error:?}"
        ),
    }
}

/// The tags of a body, if its fields fill it and none comes twice.
fn fields(body: &[u8]) -> Option<HashSet<u8>> {
    let mut tags = HashSet::new();
    let mut at = 0;
    while at < body.len() {
        let len = body.get(at + 1..at + 3)?;
        let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
        body.get(at + 3..at + 3 + len)?;
        if !tags.insert(body[at]) {
            return None;
        }
        at += 3 + len;
    }
    Some(tags)
}

/// A META block is taken off, the application's extended header stays, and both survive another round.
pub(crate) fn meta(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let payload = input.take(usize::from(bytes.first().copied().unwrap_or(0) & 7));
    let ext_header = input.rest();
    let Ok(ext_header_len) = u16::try_from(ext_header.len()) else {
        return;
    };
    let mut frame = vec![2, 0, 1, 9, 0, 0, 0, 1];
    frame.extend(ext_header_len.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend([0, 0b1_0000]);
    frame.extend(ext_header);
    frame.extend(payload);

    let parts = split(ext_header);
    let decoded = codec::decode_exact(frame.into(), Some(WireVersion::V2), &Limits::default());
    let packet = match decoded {
        Ok((packet, _)) => packet,
        Err(error) => {
            let unknown = parts.is_some_and(|(tags, _)| tags.iter().all(|tag| *tag > 23));
            assert!(!unknown, "unknown tags alone were refused: {error:?}");
            return;
        }
    };
    let (_, own) = parts.expect("a block that does not add up was taken");
    assert_eq!(packet.ext_header, own);
    assert_eq!(packet.payload, payload);
    let mut out = OutBuffer::new();
    encode(&packet, WireVersion::V2, &mut out).expect("what was decoded encodes");
    let frame: Bytes = out.copy_to_bytes(out.len());
    let again = codec::decode_exact(frame, Some(WireVersion::V2), &Limits::default());
    assert_eq!(again.ok().map(|(packet, _)| packet), Some(packet));
}

/// The tags of the block, and what stands behind it.
fn split(ext_header: &[u8]) -> Option<(HashSet<u8>, &[u8])> {
    let (len, rest) = ext_header.split_first_chunk::<2>()?;
    let (block, own) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((fields(block)?, own))
}
