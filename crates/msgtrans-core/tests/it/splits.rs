//! Any list of packets, cut anywhere and read either way, decodes to the same list; any damage to the same error.

use std::time::Duration;

use bytes::{Buf, Bytes};
use msgtrans_core::codec::decode_exact;
use msgtrans_core::{
    Code, Compression, DecodeError, Decoded, Decoder, Flags, Limits, Meta, OutBuffer, Packet,
    PacketBatch, PacketType, ReadTarget, WireVersion, WireVersions, encode, encoded_len,
};
use proptest::prelude::*;

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

fn meta() -> impl Strategy<Value = Meta> {
    (
        prop::option::of(any::<u32>()),
        prop::option::of("[0-9a-f-]{0,60}"),
        prop::option::of(any::<u16>()),
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40)),
    )
        .prop_map(|(deadline, traceparent, code, key)| {
            let mut meta = Meta::new();
            meta.deadline = deadline.map(|ms| Duration::from_millis(u64::from(ms)));
            meta.traceparent = traceparent;
            meta.code = code.map(Code);
            meta.key = key.map(Bytes::from);
            meta
        })
}

/// Mostly small, seldom large enough for the direct path.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => prop::collection::vec(any::<u8>(), 0..100),
        1 => (any::<u8>(), 60_000..150_000usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn packet(version: WireVersion) -> impl Strategy<Value = Packet> {
    let data = (
        (
            any::<u8>(),
            any::<u8>(),
            any::<u32>(),
            any::<u8>(),
            any::<u8>(),
        ),
        prop::collection::vec(any::<u8>(), 0..60),
        payload(),
        meta(),
    )
        .prop_map(
            move |((kind, biz_type, id, compression, flags), ext_header, payload, meta)| {
                let v2 = version == WireVersion::V2;
                let types = [
                    PacketType::OneWay,
                    PacketType::Request,
                    PacketType::Response,
                    PacketType::Failure,
                    PacketType::Cancel,
                    PacketType::Gap,
                ];
                let packet_type = types[usize::from(kind) % if v2 { 6 } else { 3 }];
                let codecs = [
                    Compression::None,
                    Compression::Zstd,
                    Compression::Zlib,
                    Compression::Lz4,
                ];
                let compression = codecs[usize::from(compression) % if v2 { 4 } else { 3 }];
                let mut packet = Packet::numbered(packet_type, id, payload)
                    .with_biz_type(biz_type)
                    .with_ext_header(ext_header)
                    .with_compression(compression);
                for (bit, flag, legal) in [
                    (1, Flags::FRAGMENTED, true),
                    (2, Flags::HIGH_PRIORITY, true),
                    (4, Flags::HAS_ROUTE_TAG, true),
                    (8, Flags::ACK_NOW, v2),
                    (
                        16,
                        Flags::UNRELIABLE,
                        v2 && packet_type == PacketType::OneWay,
                    ),
                ] {
                    if flags & bit != 0 && legal {
                        packet = packet.with_flags(flag);
                    }
                }
                if v2 { packet.with_meta(meta) } else { packet }
            },
        );
    let control =
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..64)).prop_map(|(kind, body)| {
            let types = [
                PacketType::Hello,
                PacketType::Welcome,
                PacketType::Goodbye,
                PacketType::Ping,
                PacketType::Pong,
                PacketType::GoAway,
            ];
            Packet::numbered(types[usize::from(kind) % 6], 0, body)
        });
    let controls = if version == WireVersion::V2 { 2 } else { 0 };
    prop_oneof![8 => data, controls => control]
}

fn packets() -> impl Strategy<Value = (WireVersion, Vec<Packet>)> {
    prop_oneof![Just(WireVersion::V1), Just(WireVersion::V2)].prop_flat_map(|version| {
        prop::collection::vec(packet(version), 0..20).prop_map(move |packets| (version, packets))
    })
}

fn wire(version: WireVersion, packets: &[Packet]) -> Vec<u8> {
    let mut out = OutBuffer::new();
    for packet in packets {
        let before = out.len();
        encode(packet, version, &mut out).expect("a legal packet");
        assert_eq!(encoded_len(packet, version), Ok(out.len() - before));
    }
    out.copy_to_bytes(out.len()).to_vec()
}

fn drain(batch: &mut PacketBatch) -> impl Iterator<Item = Packet> {
    std::iter::from_fn(|| batch.pop())
}

/// Frame by frame, each from its own copy.
fn one_shot(version: WireVersion, mut stream: &[u8]) -> (Vec<Packet>, Option<DecodeError>) {
    let mut packets = Vec::new();
    let limits = Limits::default();
    while let Some(header) = stream.first_chunk() {
        let frame_len = match msgtrans_core::Header::parse(header, &limits) {
            Ok(header) if header.version != version => stream.len(),
            Ok(header) if header.frame_len() > stream.len() => break,
            Ok(header) => header.frame_len(),
            Err(error) => return (packets, Some(error)),
        };
        let (frame, rest) = stream.split_at(frame_len);
        match decode_exact(Bytes::copy_from_slice(frame), Some(version), &limits) {
            Ok((packet, _)) => packets.push(packet),
            Err(error) => return (packets, Some(error)),
        }
        stream = rest;
    }
    (packets, None)
}

/// Through the decoder, in pieces of the given lengths again and again.
fn in_pieces(
    version: WireVersion,
    mut stream: &[u8],
    pieces: &[usize],
    budget: usize,
) -> (Vec<Packet>, Option<DecodeError>) {
    let mut decoder = Decoder::new(WireVersions::Any, Limits::default());
    decoder.set_wire(version, Limits::default());
    let mut batch = PacketBatch::new();
    let mut packets = Vec::new();
    let mut pieces = pieces.iter().copied().cycle();
    while !stream.is_empty() {
        let piece = pieces.next().unwrap_or(usize::MAX).min(stream.len());
        match decoder.read_target() {
            ReadTarget::Shared => {
                decoder.push(Bytes::copy_from_slice(&stream[..piece]));
                stream = &stream[piece..];
            }
            ReadTarget::Direct(max) => {
                let buffer = decoder.direct_buffer();
                let room = buffer.capacity() - buffer.len();
                let piece = piece.min(max).min(room);
                buffer.extend_from_slice(&stream[..piece]);
                stream = &stream[piece..];
            }
        }
        loop {
            let state = decoder.decode(budget, &mut batch);
            packets.extend(drain(&mut batch));
            match state {
                Ok(Decoded::More) => {}
                Ok(Decoded::Starved) => break,
                Err(error) => return (packets, Some(error)),
            }
        }
    }
    (packets, None)
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn any_split_of_any_stream_decodes_alike(
        (version, packets) in packets(),
        pieces in prop::collection::vec(prop_oneof![1..40usize, 1..70_000usize], 1..8),
        budget in prop_oneof![Just(0), 0..5_000usize, Just(usize::MAX)],
    ) {
        let stream = wire(version, &packets);
        prop_assert_eq!(&one_shot(version, &stream), &(packets.clone(), None));
        prop_assert_eq!(&in_pieces(version, &stream, &pieces, budget), &(packets, None));
    }

    #[test]
    fn any_damage_decodes_alike_and_never_panics(
        (version, packets) in packets(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        pieces in prop::collection::vec(prop_oneof![1..40usize, 1..70_000usize], 1..8),
    ) {
        let mut stream = wire(version, &packets);
        prop_assume!(!stream.is_empty());
        for (at, byte) in damage {
            let at = at.index(stream.len());
            stream[at] ^= byte;
        }
        let (expected, error) = one_shot(version, &stream);
        let (got, got_error) = in_pieces(version, &stream, &pieces, usize::MAX);
        prop_assert_eq!(got, expected);
        // A header of another version may also be refused for what it says.
        prop_assert_eq!(got_error.is_some(), error.is_some());
        if let (Some(got), Some(expected)) = (got_error, error) {
            prop_assert!(got == expected || matches!(expected, DecodeError::NotOneFrame { .. }), "{got:?} {expected:?}");
        }
    }

    #[test]
    fn noise_is_refused_or_awaited_but_never_a_panic(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        for version in [WireVersion::V1, WireVersion::V2] {
            let whole = in_pieces(version, &noise, &[usize::MAX], usize::MAX);
            let bytes = in_pieces(version, &noise, &[1], usize::MAX);
            prop_assert_eq!(whole, bytes);
            let packet = Packet::numbered(PacketType::Hello, 0, noise.clone());
            let _ = msgtrans_core::Hello::from_packet(&packet);
            let _ = msgtrans_core::Welcome::from_packet(&packet);
            let _ = msgtrans_core::Goodbye::from_packet(&packet);
        }
    }
}

#[test]
fn a_stream_cut_at_every_offset_gives_its_whole_frames_and_waits() {
    let meta = Meta::new().with_deadline(Duration::from_secs(1));
    let packets = [
        Packet::echo(1, "one"),
        Packet::numbered(PacketType::Request, 2, "two").with_meta(meta),
        Packet::echo(3, "").with_ext_header("ext"),
        Packet::echo(4, ""),
    ];
    let ends: Vec<usize> = (0..=4)
        .map(|count| wire(WireVersion::V2, &packets[..count]).len())
        .collect();
    let stream = wire(WireVersion::V2, &packets);
    for cut in 0..=stream.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
        for pieces in [&[1][..], &[3, 17], &[usize::MAX]] {
            let (got, error) = in_pieces(WireVersion::V2, &stream[..cut], pieces, usize::MAX);
            assert_eq!(got, packets[..whole], "cut at {cut}");
            assert_eq!(error, None);
        }
    }
}

#[test]
fn a_thousand_frames_in_one_read_decode_in_order() {
    let packets: Vec<_> = (0..1000)
        .map(|id| Packet::echo(id, id.to_string()))
        .collect();
    for version in [WireVersion::V1, WireVersion::V2] {
        let stream = wire(version, &packets);
        let (got, error) = in_pieces(version, &stream, &[usize::MAX], usize::MAX);
        assert_eq!((got, error), (packets.clone(), None));
    }
}
