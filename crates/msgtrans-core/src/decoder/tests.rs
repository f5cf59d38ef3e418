//! Streams that are cut, broken, slow or hostile.

use std::sync::Arc;

use super::*;
use crate::codec::encode;
use crate::packet::{Packet, PacketType};
use crate::{Meta, OutBuffer};

fn wire(packets: &[Packet], version: WireVersion) -> Vec<u8> {
    let mut out = OutBuffer::new();
    for packet in packets {
        encode(packet, version, &mut out).expect("legal");
    }
    out.copy_to_bytes(out.len()).to_vec()
}

fn opened(version: WireVersion) -> Decoder {
    let mut decoder = Decoder::new(WireVersions::Any, Limits::default());
    decoder.set_wire(version, Limits::default());
    decoder
}

fn drain(batch: &mut PacketBatch) -> Vec<Packet> {
    std::iter::from_fn(|| batch.pop()).collect()
}

fn packet(id: u32, len: usize) -> Packet {
    Packet::binary(vec![id as u8; len]).with_message_id(id)
}

/// A header that claims `len` bytes of payload.
fn claim(len: u32) -> Vec<u8> {
    let mut bytes = wire(&[packet(1, 0)], WireVersion::V2);
    bytes[10..14].copy_from_slice(&len.to_be_bytes());
    bytes
}

#[test]
fn one_byte_at_a_time_decodes_alike_and_in_place() {
    let packets: Vec<_> = (1..40).map(|id| packet(id, id as usize * 7 % 50)).collect();
    let mut decoder = opened(WireVersion::V2);
    let mut batch = PacketBatch::new();
    for byte in wire(&packets, WireVersion::V2) {
        decoder.push(Bytes::copy_from_slice(&[byte]));
        let state = decoder.decode(usize::MAX, &mut batch);
        assert_eq!(state, Ok(Decoded::Starved));
        assert!(
            decoder.chunk.is_empty(),
            "a chunk is never held between reads"
        );
    }
    assert_eq!(drain(&mut batch), packets);
    assert!(decoder.is_at_boundary());
}

#[test]
fn a_frame_pushed_by_itself_decodes_at_once_and_any_other_bytes_as_ever() {
    let packets: Vec<_> = (1..30).map(|id| packet(id, id as usize % 5 * 20)).collect();
    let frames: Vec<_> = packets
        .iter()
        .map(|packet| wire(std::slice::from_ref(packet), WireVersion::V2))
        .collect();
    let bytes = frames.concat();
    // Frame by frame, and in steps that cut them anywhere.
    let steps = (1..200).map(|len| bytes.chunks(len).map(<[u8]>::to_vec).collect());
    for cut in std::iter::once(frames).chain(steps) {
        let mut decoder = opened(WireVersion::V2);
        let mut batch = PacketBatch::new();
        for bytes in cut {
            decoder.push_lone(bytes.into(), &mut batch);
            let state = decoder.decode(usize::MAX, &mut batch);
            assert_eq!(state, Ok(Decoded::Starved));
        }
        assert_eq!(drain(&mut batch), packets);
    }
    let mut decoder = opened(WireVersion::V2);
    let mut batch = PacketBatch::new();
    decoder.push_lone(wire(&[packet(1, 64)], WireVersion::V2).into(), &mut batch);
    assert_eq!(drain(&mut batch), [packet(1, 64)], "without a decode");
    // What may not be is an error of `decode`, and nothing behind it is looked at.
    let limits = Limits::new(100_000, 1).expect("legal");
    decoder.set_wire(WireVersion::V2, limits);
    for len in [100_001, 8] {
        decoder.push_lone(wire(&[packet(1, len)], WireVersion::V2).into(), &mut batch);
        assert!(decoder.decode(usize::MAX, &mut batch).is_err());
    }
    assert!(batch.is_empty());
}

#[test]
fn many_pushes_before_a_decode_copy_each_byte_a_bounded_number_of_times() {
    let bytes = wire(&[packet(1, 300_000)], WireVersion::V2);
    let mut decoder = opened(WireVersion::V2);
    let mut moves = 0;
    let mut at = std::ptr::null();
    for byte in bytes {
        decoder.push(Bytes::from(vec![byte]));
        let now = decoder.chunk.as_ptr();
        moves += usize::from(now != at);
        at = now;
    }
    let mut batch = PacketBatch::new();
    decoder.decode(usize::MAX, &mut batch).expect("legal");
    assert_eq!(drain(&mut batch), [packet(1, 300_000)]);
    assert!(moves < 1000, "moved {moves} times");
}

#[test]
fn before_set_wire_each_call_decodes_exactly_one_packet() {
    let packets = [packet(1, 3), packet(2, 0), packet(3, 9)];
    let mut decoder = Decoder::new(WireVersions::Any, Limits::default());
    decoder.push(wire(&packets, WireVersion::V2).into());
    let mut batch = PacketBatch::new();
    for (left, expected) in packets.iter().enumerate().map(|(at, it)| (2 - at, it)) {
        let state = decoder.decode(usize::MAX, &mut batch).expect("legal");
        assert_eq!(state == Decoded::More, left > 0);
        assert_eq!(drain(&mut batch), std::slice::from_ref(expected));
    }

    decoder.push(wire(&packets, WireVersion::V2).into());
    decoder.decode(usize::MAX, &mut batch).expect("legal");
    decoder.set_wire(WireVersion::V2, Limits::default());
    decoder.decode(usize::MAX, &mut batch).expect("legal");
    assert_eq!(drain(&mut batch), packets, "from then on all at once");
}

#[test]
fn a_budget_ends_a_call_but_never_its_first_packet() {
    let packets: Vec<_> = (1..=9).map(|id| packet(id, 100)).collect();
    let mut decoder = opened(WireVersion::V2);
    decoder.push(wire(&packets, WireVersion::V2).into());
    let mut batch = PacketBatch::new();
    let mut sizes = Vec::new();
    loop {
        // Each packet counts 164 bytes.
        let state = decoder.decode(328, &mut batch).expect("legal");
        sizes.push(drain(&mut batch).len());
        if state == Decoded::Starved {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 2, 2, 1]);
    decoder.push(wire(&packets[..2], WireVersion::V2).into());
    assert_eq!(decoder.decode(0, &mut batch), Ok(Decoded::More));
    assert_eq!(drain(&mut batch).len(), 1);
}

#[test]
fn packets_in_front_of_a_broken_frame_come_first_and_nothing_behind_it() {
    let good = wire(&[packet(1, 5), packet(2, 6)], WireVersion::V2);
    let meta = Packet::binary(&b"x"[..]).with_meta(Meta::new().with_traceparent("00-x"));
    let mut broken_meta = wire(&[meta], WireVersion::V2);
    broken_meta[17] = 0xee;
    let mut broken_type = wire(&[packet(3, 4)], WireVersion::V2);
    broken_type[2] = 77;
    let other_version = wire(&[packet(3, 4)], WireVersion::V1);
    for (broken, error) in [
        (broken_meta, DecodeError::MetaTruncated { len: 9 }),
        (
            broken_type,
            DecodeError::UnknownPacketType {
                packet_type: 77,
                version: WireVersion::V2,
            },
        ),
        (
            other_version,
            DecodeError::VersionMismatch {
                expected: WireVersion::V2,
                got: WireVersion::V1,
            },
        ),
        (
            claim(16 * 1024 * 1024 + 1),
            DecodeError::PayloadTooLarge {
                len: 16 * 1024 * 1024 + 1,
                max: 16 * 1024 * 1024,
            },
        ),
    ] {
        let stream = [&good[..], &broken, &good].concat();
        for chunk_len in [1, 7, 21, 22, 43, 50, stream.len()] {
            let mut decoder = opened(WireVersion::V2);
            let mut batch = PacketBatch::new();
            let mut got = None;
            for chunk in stream.chunks(chunk_len) {
                decoder.push(Bytes::copy_from_slice(chunk));
                while got.is_none() {
                    match decoder.decode(usize::MAX, &mut batch) {
                        Ok(Decoded::More) => {}
                        Ok(Decoded::Starved) => break,
                        Err(error) => got = Some(error),
                    }
                }
            }
            assert_eq!(got.as_ref(), Some(&error), "chunks of {chunk_len}");
            assert_eq!(drain(&mut batch), [packet(1, 5), packet(2, 6)]);
            for _ in 0..2 {
                decoder.push(good.clone().into());
                let again = decoder.decode(usize::MAX, &mut batch);
                assert_eq!(again, Err(error.clone()), "an error is final");
                assert!(batch.is_empty());
            }
            assert!(!decoder.is_at_boundary());
        }
    }
}

#[test]
fn a_length_above_the_limit_is_refused_from_the_header_alone() {
    let limits = Limits::new(100_000, 1000).expect("legal limits");
    for (payload, ext, legal) in [
        (100_000, 1000, true),
        (100_001, 1000, false),
        (100_000, 1001, false),
        (u32::MAX, 0, false),
        (0, u16::MAX, false),
        (u32::MAX, u16::MAX, false),
    ] {
        let mut header = claim(payload);
        header[8..10].copy_from_slice(&u16::to_be_bytes(ext));
        for split in 0..16 {
            let mut decoder = Decoder::new(WireVersions::Any, limits);
            let mut batch = PacketBatch::new();
            decoder.push(Bytes::copy_from_slice(&header[..split]));
            assert_eq!(decoder.decode(9, &mut batch), Ok(Decoded::Starved));
            decoder.push(Bytes::copy_from_slice(&header[split..]));
            let result = decoder.decode(9, &mut batch);
            assert_eq!(result.is_ok(), legal, "{payload} {ext}");
            assert_eq!(decoder.held_bytes(), if legal { 16 } else { 0 });
            assert!(
                decoder.partial.capacity() <= 64,
                "nothing is allocated for a claim"
            );
        }
    }
}

#[test]
fn a_claimed_length_never_costs_more_than_what_has_arrived() {
    for step in [1_000, 9_999, 70_000, 1_000_000] {
        let total = 3_000_000;
        let mut bytes = Bytes::from([claim(total), vec![5; total as usize]].concat());
        let mut decoder = opened(WireVersion::V2);
        let mut batch = PacketBatch::new();
        let mut received = 0;
        let mut direct = 0;
        loop {
            match decoder.read_target() {
                ReadTarget::Shared => {
                    let part = bytes.split_to(step.min(bytes.len()));
                    received += part.len();
                    decoder.push(part);
                }
                ReadTarget::Direct(max) => {
                    assert!(received >= DIRECT_READ_AFTER, "a header costs no buffer");
                    let buffer = decoder.direct_buffer();
                    let room = buffer.capacity() - buffer.len();
                    assert!(room >= max.min(GROWTH_MIN / 2), "worth a system call");
                    assert!(buffer.capacity() <= 2 * received + 64 * 1024);
                    let part = bytes.split_to(step.min(max).min(room).min(bytes.len()));
                    received += part.len();
                    direct += part.len();
                    buffer.extend_from_slice(&part);
                }
            }
            let state = decoder.decode(usize::MAX, &mut batch).expect("legal");
            assert_eq!(state, Decoded::Starved);
            if !batch.is_empty() {
                break;
            }
            assert_eq!(decoder.held_bytes(), received);
            assert!(decoder.partial.capacity() <= 2 * received + 64 * 1024);
        }
        assert!(bytes.is_empty() && decoder.is_at_boundary());
        assert!(direct > total as usize / 2, "{direct} bytes read in place");
        assert_eq!(drain(&mut batch)[0].payload.len(), total as usize);
    }
}

#[test]
fn bytes_of_the_next_frame_in_the_direct_buffer_are_not_lost() {
    let packets = [packet(1, 100_000), packet(2, 10), packet(3, 0)];
    let bytes = wire(&packets, WireVersion::V2);
    let mut decoder = opened(WireVersion::V2);
    let mut batch = PacketBatch::new();
    decoder.push(Bytes::copy_from_slice(&bytes[..20_000]));
    decoder.decode(usize::MAX, &mut batch).expect("legal");
    assert!(matches!(decoder.read_target(), ReadTarget::Direct(_)));
    decoder.direct_buffer().extend_from_slice(&bytes[20_000..]);
    decoder.decode(usize::MAX, &mut batch).expect("legal");
    assert_eq!(drain(&mut batch), packets);
}

#[test]
fn the_short_rest_of_a_frame_is_read_with_what_follows_it() {
    let bytes = wire(&[packet(1, 100_000)], WireVersion::V2);
    for missing in [1, DIRECT_READ_MIN - 1, DIRECT_READ_MIN] {
        let mut decoder = opened(WireVersion::V2);
        decoder.push(Bytes::copy_from_slice(&bytes[..bytes.len() - missing]));
        let state = decoder.decode(usize::MAX, &mut PacketBatch::new());
        assert_eq!(state, Ok(Decoded::Starved));
        let direct = decoder.read_target() == ReadTarget::Direct(missing);
        assert_eq!(direct, missing == DIRECT_READ_MIN);
    }
}

#[test]
fn an_incomplete_frame_never_keeps_the_read_buffer() {
    struct Buffer {
        bytes: Vec<u8>,
        _holder: Arc<()>,
    }
    impl AsRef<[u8]> for Buffer {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    // The last frame has no payload: nothing of it may hold the buffer either.
    let stream = wire(&[packet(1, 30), packet(2, 0)], WireVersion::V2);
    for cut in 0..=stream.len() {
        let mut decoder = opened(WireVersion::V2);
        let mut batch = PacketBatch::new();
        let holders = Arc::new(());
        for part in [&stream[..cut], &stream[cut..]] {
            decoder.push(Bytes::from_owner(Buffer {
                bytes: part.to_vec(),
                _holder: holders.clone(),
            }));
            decoder.decode(usize::MAX, &mut batch).expect("legal");
            let holding = batch.front().is_some_and(|first| first.payload.len() == 30);
            let expected = usize::from(holding && (cut == 0 || cut >= 46));
            assert_eq!(Arc::strong_count(&holders) - 1, expected, "cut at {cut}");
        }
        drain(&mut batch);
        assert_eq!(Arc::strong_count(&holders), 1, "cut at {cut}");
    }
}

#[test]
fn a_first_frame_without_a_payload_releases_the_read_buffer() {
    let buffer = Bytes::from(wire(&[packet(1, 0)], WireVersion::V2));
    let mut decoder = Decoder::new(WireVersions::Any, Limits::default());
    let mut batch = PacketBatch::new();
    decoder.push(buffer.clone());
    let state = decoder.decode(usize::MAX, &mut batch);
    assert_eq!(state, Ok(Decoded::Starved));
    assert_eq!(batch.len(), 1);
    assert!(buffer.is_unique(), "neither packet nor decoder holds it");
}

#[test]
fn set_wire_checks_the_frame_that_has_begun() {
    let small = Limits::new(Limits::MIN_FRAME, 100).expect("legal limits");
    for (version, limits, legal) in [
        (WireVersion::V2, Limits::default(), true),
        (WireVersion::V2, small, false),
        (WireVersion::V1, Limits::default(), false),
    ] {
        let mut decoder = Decoder::new(WireVersions::Any, Limits::default());
        let mut batch = PacketBatch::new();
        decoder.push(claim(1_000_000).into());
        assert_eq!(decoder.decode(9, &mut batch), Ok(Decoded::Starved));
        decoder.set_wire(version, limits);
        assert_eq!(decoder.decode(9, &mut batch).is_ok(), legal);
        assert_eq!(decoder.read_target(), ReadTarget::Shared);
    }
}

#[test]
fn the_first_frame_must_be_of_an_accepted_version() {
    for (accept, version, legal) in [
        (WireVersions::V1, WireVersion::V1, true),
        (WireVersions::V1, WireVersion::V2, false),
        (WireVersions::V2, WireVersion::V1, false),
        (WireVersions::V2, WireVersion::V2, true),
        (WireVersions::Any, WireVersion::V1, true),
        (WireVersions::Any, WireVersion::V2, true),
    ] {
        let mut decoder = Decoder::new(accept, Limits::default());
        let mut batch = PacketBatch::new();
        decoder.push(wire(&[packet(1, 2)], version).into());
        let result = decoder.decode(usize::MAX, &mut batch);
        if legal {
            assert_eq!(result, Ok(Decoded::Starved));
            assert_eq!(batch.version(), Some(version));
        } else {
            assert_eq!(result, Err(DecodeError::VersionRefused { version }));
        }
    }
}

#[test]
fn a_stream_may_end_between_frames_and_nowhere_else() {
    let stream = wire(&[packet(1, 3), packet(2, 0)], WireVersion::V2);
    for cut in 0..=stream.len() {
        let mut decoder = opened(WireVersion::V2);
        let mut batch = PacketBatch::new();
        decoder.push(Bytes::copy_from_slice(&stream[..cut]));
        let state = decoder.decode(usize::MAX, &mut batch);
        assert_eq!(state, Ok(Decoded::Starved));
        let boundary = [0, 19, 35].contains(&cut);
        assert_eq!(decoder.is_at_boundary(), boundary, "cut at {cut}");
        assert_eq!(decoder.held_bytes() == 0, boundary);
        assert_eq!(batch.len(), usize::from(cut >= 19) + usize::from(cut >= 35));
    }
}

#[test]
fn a_control_frame_is_bounded_by_its_own_limit_not_the_sessions() {
    for (packet_type, max) in [
        (PacketType::Hello, Limits::MAX_HELLO),
        (PacketType::Ping, Limits::MAX_PING),
        (PacketType::Goodbye, Limits::MAX_CONTROL),
    ] {
        for (len, legal) in [(max, true), (max + 1, false)] {
            let mut bytes = claim(len);
            bytes[2] = packet_type.as_u8();
            let mut decoder = opened(WireVersion::V2);
            decoder.push(bytes.into());
            let result = decoder.decode(9, &mut PacketBatch::new());
            let too_large = DecodeError::ControlTooLarge {
                packet_type,
                len,
                max,
            };
            assert_eq!(result.err(), (!legal).then_some(too_large));
        }
    }
}

#[test]
fn the_limit_holds_for_every_frame_of_a_run() {
    const MAX: usize = 100_000;
    let limits = Limits::new(MAX as u32, 1_000).expect("legal limits");
    let decoded = |packets: &[Packet]| {
        let mut decoder = Decoder::new(WireVersions::Any, Limits::default());
        decoder.set_wire(WireVersion::V2, limits);
        decoder.push(wire(packets, WireVersion::V2).into());
        let mut batch = PacketBatch::new();
        let first = decoder.decode(usize::MAX, &mut batch);
        (
            first.and_then(|_| decoder.decode(usize::MAX, &mut batch)),
            drain(&mut batch),
        )
    };
    let legal = [
        packet(1, 3),
        packet(2, MAX),
        packet(3, 0),
        packet(4, MAX - 1),
    ];
    assert_eq!(decoded(&legal), (Ok(Decoded::Starved), legal.to_vec()));
    for at in 0..legal.len() {
        let mut packets = legal.to_vec();
        packets.insert(at, packet(9, MAX + 1));
        let (error, before) = decoded(&packets);
        assert!(
            matches!(error, Err(DecodeError::PayloadTooLarge { .. })),
            "{at}: {error:?}"
        );
        assert_eq!(before, legal[..at]);
    }
}

#[test]
fn what_has_come_of_a_frame_is_told_until_its_rest_has() {
    let bytes = wire(&[packet(1, 30)], WireVersion::V2);
    let mut decoder = opened(WireVersion::V2);
    let mut batch = PacketBatch::new();
    assert_eq!(decoder.incomplete(), None);
    for come in 1..bytes.len() {
        decoder.push(Bytes::copy_from_slice(&bytes[come - 1..come]));
        decoder.decode(usize::MAX, &mut batch).expect("legal");
        assert_eq!(decoder.incomplete(), Some(come));
    }
    decoder.push(Bytes::copy_from_slice(&bytes[bytes.len() - 1..]));
    decoder.decode(usize::MAX, &mut batch).expect("legal");
    assert_eq!((decoder.incomplete(), drain(&mut batch).len()), (None, 1));
}
