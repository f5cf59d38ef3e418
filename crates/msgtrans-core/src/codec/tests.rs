//! Single frames: META, flags, what is refused, what stays in memory.

use std::sync::Arc;
use std::time::Duration;

use super::*;

fn encoded(packet: &Packet, version: WireVersion) -> Bytes {
    let mut out = OutBuffer::new();
    encode(packet, version, &mut out).expect("a legal packet");
    assert_eq!(encoded_len(packet, version), Ok(out.len()));
    out.copy_to_bytes(out.len())
}

fn decoded(frame: impl Into<Bytes>) -> Result<Packet, DecodeError> {
    decode_exact(frame.into(), None, &Limits::default()).map(|(packet, _)| packet)
}

fn refused(packet: &Packet, version: WireVersion) -> EncodeError {
    let mut out = OutBuffer::new();
    let error = encode(packet, version, &mut out).expect_err("an illegal packet");
    assert!(out.is_empty(), "nothing is appended on an error");
    assert_eq!(encoded_len(packet, version), Err(error.clone()));
    error
}

fn one_way() -> Packet {
    Packet::binary(&b"data"[..])
        .with_message_id(9)
        .with_ext_header(&b"route"[..])
}

#[test]
fn meta_goes_in_front_of_the_extended_header_and_is_stripped() {
    let meta = Meta::new().with_deadline(Duration::from_millis(258));
    let packet = Packet {
        packet_type: PacketType::Request,
        ..one_way().with_meta(meta)
    };
    let frame = encoded(&packet, WireVersion::V2);
    let expected = b"\x02\x00\x01\x00\x00\x00\x00\x09\x00\x0e\x00\x00\x00\x04\x00\x10\
        \x00\x07\x15\x00\x04\x00\x00\x01\x02routedata";
    assert_eq!(&frame[..], expected);
    assert_eq!(decoded(frame), Ok(packet));
}

#[test]
fn version_1_has_no_place_for_meta() {
    let packet = one_way().with_meta(Meta::new().with_traceparent("00-x"));
    let frame = encoded(&packet, WireVersion::V1);
    assert_eq!(frame, encoded(&one_way(), WireVersion::V1));
    assert_eq!(decoded(frame), Ok(one_way()));
}

#[test]
fn meta_that_says_nothing_known_leaves_no_trace() {
    for block in [&b"\x00\x00"[..], b"\x00\x05\xc8\x00\x02hi"] {
        let mut frame = encoded(&one_way(), WireVersion::V2).to_vec();
        frame[9] += block.len() as u8;
        frame[15] |= 0x10;
        frame.splice(16..16, block.iter().copied());
        assert_eq!(decoded(frame), Ok(one_way()));
    }
}

#[test]
fn meta_longer_than_its_extended_header_is_refused() {
    for ext in [
        &b""[..],
        b"\x00",
        b"\x00\x01",
        b"\x00\x04\x10\x00\x02",
        b"\xff\xff\x10",
    ] {
        let mut frame = encoded(&one_way().with_ext_header(ext.to_vec()), WireVersion::V2).to_vec();
        frame[15] |= 0x10;
        let len = ext.len();
        assert_eq!(decoded(frame), Err(DecodeError::MetaTruncated { len }));
    }
    let mut broken = encoded(
        &one_way().with_ext_header(&b"\x00\x03\x10\x00\x02"[..]),
        WireVersion::V2,
    )
    .to_vec();
    broken[15] |= 0x10;
    let overrun = DecodeError::TlvOverrun {
        tag: 16,
        len: 2,
        left: 0,
    };
    assert_eq!(
        decoded(broken),
        Err(overrun),
        "the application's header is no field"
    );
}

#[test]
fn unknown_flag_bits_are_ignored_and_written_as_zero() {
    for (version, known, own) in [
        (WireVersion::V1, 0b111, 0),
        // META is tested above: it needs an extended header that begins with a length.
        (WireVersion::V2, 0b10_1111, 0b1_0000),
    ] {
        for bit in (0..16).map(|bit| 1u16 << bit).filter(|bit| bit & own == 0) {
            let mut frame = encoded(&one_way(), version).to_vec();
            frame[14..16].copy_from_slice(&bit.to_be_bytes());
            let packet = decoded(frame.clone()).expect("flags never break a OneWay");
            assert_eq!(packet.flags.bits(), bit & known, "{version:?} bit {bit:#x}");
            frame[14..16].copy_from_slice(&(bit & known).to_be_bytes());
            assert_eq!(encoded(&packet, version), frame);
        }
    }
}

#[test]
fn our_own_flags_never_reach_the_wire() {
    let numbered_by_session = Packet::binary(&b"x"[..]);
    for version in [WireVersion::V1, WireVersion::V2] {
        assert_eq!(encoded(&numbered_by_session, version)[14..16], [0, 0]);
    }
    let without_meta = one_way().with_flags(Flags::META);
    assert_eq!(encoded(&without_meta, WireVersion::V2)[14..16], [0, 0]);
    let all = Packet::binary(&b"x"[..]).with_flags(Flags::UNRELIABLE | Flags::ACK_NOW);
    assert_eq!(encoded(&all, WireVersion::V1)[14..16], [0, 0]);
}

#[test]
fn what_version_1_does_not_have_is_refused() {
    for packet in [
        Packet::failure(1, crate::Code::INTERNAL, "no"),
        Packet::numbered(PacketType::Cancel, 1, Bytes::new()),
        Packet::numbered(PacketType::Ping, 0, Bytes::new()),
        one_way().with_compression(Compression::Lz4),
    ] {
        assert!(matches!(
            refused(&packet, WireVersion::V1),
            EncodeError::NotInVersion {
                version: WireVersion::V1,
                ..
            }
        ));
    }
}

#[test]
fn lengths_are_refused_exactly_above_what_the_header_can_say() {
    let ext = |len: usize| one_way().with_ext_header(vec![0; len]);
    assert_eq!(
        encoded(&ext(65_535), WireVersion::V2).len(),
        16 + 65_535 + 4
    );
    let too_large = |len| EncodeError::ExtHeaderTooLarge { len, max: 65_535 };
    assert_eq!(refused(&ext(65_536), WireVersion::V1), too_large(65_536));
    let meta = Meta::new().with_deadline(Duration::from_secs(1));
    assert_eq!(
        encoded(&ext(65_526).with_meta(meta.clone()), WireVersion::V2)[8..10],
        [0xff, 0xff]
    );
    let over = ext(65_527).with_meta(meta);
    assert_eq!(refused(&over, WireVersion::V2), too_large(65_536));
}

#[test]
fn what_the_peer_would_close_for_is_refused_before_it_is_sent() {
    let unreliable = Packet::request(&b"x"[..]).with_flags(Flags::UNRELIABLE);
    assert_eq!(
        refused(&unreliable, WireVersion::V2),
        EncodeError::UnreliableNotOneWay {
            packet_type: PacketType::Request
        }
    );
    for (packet_type, max) in [
        (PacketType::Hello, 16_384),
        (PacketType::Welcome, 4096),
        (PacketType::Goodbye, 4096),
        (PacketType::GoAway, 4096),
        (PacketType::Ping, 64),
        (PacketType::Pong, 64),
    ] {
        let control = |len: u32| Packet::numbered(packet_type, 0, vec![0; len as usize]);
        let frame = encoded(&control(max), WireVersion::V2);
        assert_eq!(decoded(frame), Ok(control(max)));
        assert_eq!(
            refused(&control(max + 1), WireVersion::V2),
            EncodeError::ControlTooLarge {
                packet_type,
                len: max as usize + 1,
                max
            }
        );
        assert!(matches!(
            refused(&control(1).with_ext_header(&b"x"[..]), WireVersion::V2),
            EncodeError::ControlWithExtHeader { len: 1, .. }
        ));
        let compressed = control(1).with_compression(Compression::Zlib);
        assert!(matches!(
            refused(&compressed, WireVersion::V2),
            EncodeError::CompressionUnavailable { .. }
        ));
    }
}

#[test]
fn a_message_holds_exactly_one_frame() {
    let frame = encoded(&one_way(), WireVersion::V2);
    for len in 0..frame.len() {
        let expected = if len < HEADER_LEN {
            HEADER_LEN
        } else {
            frame.len()
        };
        assert_eq!(
            decoded(frame.slice(..len)),
            Err(DecodeError::NotOneFrame {
                len,
                frame: expected
            })
        );
    }
    let mut longer = frame.to_vec();
    longer.push(0);
    assert!(matches!(
        decoded(longer),
        Err(DecodeError::NotOneFrame { .. })
    ));
    assert!(matches!(
        decode_exact(frame, Some(WireVersion::V1), &Limits::default()),
        Err(DecodeError::VersionMismatch { .. })
    ));
}

#[test]
fn empty_parts_do_not_keep_the_buffer_they_came_in() {
    struct Buffer {
        bytes: Bytes,
        _holder: Arc<()>,
    }
    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    let meta = Meta {
        key: Some(Bytes::from_static(b"key")),
        ..Meta::new().with_traceparent("00-x")
    };
    for (packet, holds) in [
        (Packet::binary(Bytes::new()), false),
        (Packet::binary(Bytes::new()).with_meta(meta.clone()), false),
        (Packet::binary(&b"x"[..]).with_meta(meta), true),
        (
            Packet::binary(Bytes::new()).with_ext_header(&b"x"[..]),
            true,
        ),
    ] {
        let holders = Arc::new(());
        let frame = encoded(&packet, WireVersion::V2);
        let kept = decoded(Bytes::from_owner(Buffer {
            bytes: frame,
            _holder: holders.clone(),
        }))
        .expect("legal");
        assert_eq!(Arc::strong_count(&holders) == 2, holds, "{packet:?}");
        let mut detached = kept;
        detached.detach(1024);
        assert_eq!(Arc::strong_count(&holders), 1, "{packet:?} detached");
        assert_eq!(detached.payload, packet.payload);
    }
}
