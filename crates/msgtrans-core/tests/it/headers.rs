//! Every value of every header byte that has a meaning, in both versions.

use msgtrans_core::{
    Compression, DecodeError, Flags, HEADER_LEN, Header, Limits, PacketType, WireVersion,
};

const V1: WireVersion = WireVersion::V1;
const V2: WireVersion = WireVersion::V2;

fn header(version: u8, compression: u8, packet_type: u8) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[0] = version;
    bytes[1] = compression;
    bytes[2] = packet_type;
    if packet_type == 13 {
        bytes[13] = 8;
    }
    bytes
}

fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Header, DecodeError> {
    Header::parse(bytes, &Limits::default())
}

#[test]
fn every_version_byte() {
    for version in 0..=255 {
        let result = parse(&header(version, 0, 0)).map(|header| header.version);
        let expected = match version {
            1 => Ok(V1),
            2 => Ok(V2),
            _ => Err(DecodeError::UnknownVersion { version }),
        };
        assert_eq!(result, expected);
    }
}

#[test]
fn every_compression_byte_in_both_versions() {
    for version in [V1, V2] {
        for compression in 0..=255 {
            let result = parse(&header(version as u8, compression, 0));
            let expected = match (compression, version) {
                (0, _) => Ok(Compression::None),
                (1, _) => Ok(Compression::Zstd),
                (2, _) => Ok(Compression::Zlib),
                (3, V2) => Ok(Compression::Lz4),
                _ => Err(DecodeError::UnknownCompression {
                    compression,
                    version,
                }),
            };
            assert_eq!(result.map(|header| header.compression), expected);
        }
    }
}

#[test]
fn every_type_byte_in_both_versions() {
    let v2 = [
        (3, PacketType::Failure),
        (4, PacketType::Cancel),
        (8, PacketType::Hello),
        (9, PacketType::Welcome),
        (10, PacketType::Goodbye),
        (11, PacketType::Ping),
        (12, PacketType::Pong),
        (13, PacketType::Ack),
        (14, PacketType::GoAway),
        (15, PacketType::Gap),
    ];
    for version in [V1, V2] {
        for byte in 0..=255 {
            let known = match byte {
                0 => Some(PacketType::OneWay),
                1 => Some(PacketType::Request),
                2 => Some(PacketType::Response),
                _ if version == V1 => None,
                _ => v2.iter().find(|(id, _)| *id == byte).map(|(_, it)| *it),
            };
            let unknown = DecodeError::UnknownPacketType {
                packet_type: byte,
                version,
            };
            let result = parse(&header(version as u8, 0, byte));
            assert_eq!(
                result.map(|header| header.packet_type),
                known.ok_or(unknown)
            );
            if let Some(packet_type) = known {
                assert_eq!(packet_type.as_u8(), byte);
                assert_eq!(packet_type.is_v1(), byte <= 2);
                assert_eq!(packet_type.is_data(), byte <= 4 || byte == 15);
            }
        }
    }
}

#[test]
fn every_flag_word_keeps_its_known_bits_alone() {
    for (version, known) in [(V1, 0b111), (V2, 0b11_1111)] {
        for flags in 0..=u16::MAX {
            let mut bytes = header(version as u8, 0, 0);
            bytes[14..].copy_from_slice(&flags.to_be_bytes());
            let header = parse(&bytes).expect("flags alone break no OneWay");
            assert_eq!(header.flags.bits(), flags & known);
            let written = header.to_bytes();
            assert_eq!(written[14..], (flags & known).to_be_bytes());
        }
    }
}

#[test]
fn every_field_is_read_from_and_written_to_its_place() {
    let bytes = [2, 1, 1, 0xab, 1, 2, 3, 4, 0x12, 0x34, 0, 5, 6, 7, 0, 0x22];
    let header = parse(&bytes).expect("legal");
    let expected = Header {
        version: V2,
        compression: Compression::Zstd,
        packet_type: PacketType::Request,
        biz_type: 0xab,
        message_id: 0x0102_0304,
        ext_header_len: 0x1234,
        payload_len: 0x0005_0607,
        flags: Flags::ACK_NOW | Flags::HIGH_PRIORITY,
    };
    assert_eq!(header, expected);
    assert_eq!(header.to_bytes(), bytes);
    assert_eq!(header.frame_len(), 16 + 0x1234 + 0x0005_0607);
}

#[test]
fn lengths_are_legal_exactly_up_to_the_limits() {
    let limits = Limits::new(1_000_000, 500).expect("legal limits");
    for (payload_len, ext_header_len) in [(1_000_000, 500), (0, 0), (1_000_000, 0)] {
        for packet_type in [0, 1, 2, 3, 4, 15] {
            let mut bytes = header(2, 0, packet_type);
            bytes[8..10].copy_from_slice(&u16::to_be_bytes(ext_header_len));
            bytes[10..14].copy_from_slice(&u32::to_be_bytes(payload_len));
            assert!(Header::parse(&bytes, &limits).is_ok());
        }
    }
    for len in [1_000_001, 16 * 1024 * 1024, u32::MAX - 1, u32::MAX] {
        let mut bytes = header(1, 0, 0);
        bytes[10..14].copy_from_slice(&len.to_be_bytes());
        let max = 1_000_000;
        assert_eq!(
            Header::parse(&bytes, &limits),
            Err(DecodeError::PayloadTooLarge { len, max })
        );
    }
    for len in [501, 65_534, 65_535] {
        let mut bytes = header(2, 0, 0);
        bytes[8..10].copy_from_slice(&u16::to_be_bytes(len));
        let max = 500;
        assert_eq!(
            Header::parse(&bytes, &limits),
            Err(DecodeError::ExtHeaderTooLarge { len, max })
        );
    }
    let mut largest = header(2, 0, 0);
    largest[8..14].copy_from_slice(&[0xff, 0xff, 1, 0, 0, 0]);
    assert_eq!(
        parse(&largest).map(|header| header.frame_len()),
        Ok(16_842_767)
    );
    assert_eq!(Limits::default().max_frame(), 16_842_767);
}

#[test]
fn control_frames_have_no_extended_header_no_compression_and_no_unreliable_flag() {
    for byte in [8, 9, 10, 11, 12, 13, 14] {
        let packet_type = parse(&header(2, 0, byte)).expect("legal").packet_type;
        let mut bytes = header(2, 0, byte);
        bytes[9] = 1;
        let len = 1;
        assert_eq!(
            parse(&bytes),
            Err(DecodeError::ControlWithExtHeader { packet_type, len })
        );
        assert_eq!(
            parse(&header(2, 1, byte)),
            Err(DecodeError::ControlCompressed { packet_type })
        );
    }
    for byte in (1..=4).chain(8..=15) {
        let mut bytes = header(2, 0, byte);
        bytes[15] = 8;
        assert!(matches!(
            parse(&bytes),
            Err(DecodeError::UnreliableNotOneWay { .. })
        ));
    }
}

#[test]
fn an_ack_has_eight_bytes() {
    for len in [0, 7, 9, 4096] {
        let mut bytes = header(2, 0, 13);
        bytes[10..14].copy_from_slice(&u32::to_be_bytes(len));
        assert_eq!(parse(&bytes), Err(DecodeError::AckLength { len }));
    }
}

#[test]
fn limits_are_checked_where_they_are_set() {
    for (payload, ext, field) in [
        (1_000_000, 0, "max_ext_header"),
        (1_000_000, 65_536, "max_ext_header"),
        ((1 << 30) + 1, 1, "max_payload"),
        (u32::MAX, 65_535, "max_payload"),
        (81_920 - 16 - 100 - 1, 100, "max_payload"),
        (0, 65_535, "max_payload"),
    ] {
        let error = Limits::new(payload, ext).expect_err("illegal limits");
        assert_eq!(error.field(), field);
    }
    let smallest = Limits::new(81_920 - 16 - 100, 100).expect("exactly the minimum");
    assert_eq!(smallest.max_frame(), 81_920);
    assert!(Limits::new(1 << 30, 65_535).is_ok());
    let text = Limits::new(7, 100).expect_err("too small").to_string();
    assert_eq!(
        text,
        "max_payload of 7: must be from 81804 to 1073741824 bytes"
    );
}
