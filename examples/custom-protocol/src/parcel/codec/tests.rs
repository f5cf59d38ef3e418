//! Every packet there is comes back as it was; no bytes at all do harm.

use std::time::Duration;

use msgtrans_core::{Code, Compression, Flags, PacketType};

use super::*;

fn head_of(packet: &Packet) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_head(packet, &mut bytes).expect("a packet that has an encoding");
    bytes
}

fn there_and_back(packet: &Packet) -> Packet {
    let frame = [&head_of(packet)[..], &packet.ext_header, &packet.payload].concat();
    let mut frame = Bytes::from(frame);
    let head = take_head(&mut frame, &Limits::default()).expect("a head");
    assert_eq!(
        head.body_len(),
        packet.ext_header.len() + packet.payload.len()
    );
    let back = head.take_body(&mut frame).expect("a body");
    assert!(frame.is_empty(), "{} bytes are left", frame.len());
    back
}

#[track_caller]
fn refused(head: &[u8], limits: &Limits) -> Code {
    take_head(&mut Bytes::copy_from_slice(head), limits)
        .expect_err("should be refused")
        .code()
}

#[test]
fn every_field_comes_back() {
    let all = Flags::FRAGMENTED | Flags::HIGH_PRIORITY | Flags::HAS_ROUTE_TAG | Flags::ACK_NOW;
    let mut meta = Meta::new()
        .with_deadline(Duration::from_millis(1500))
        .with_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    meta.key = Some(Bytes::from_static(b"key"));
    let full = Packet::numbered(PacketType::Request, u32::MAX, "payload")
        .with_biz_type(255)
        .with_flags(all)
        .with_compression(Compression::Lz4)
        .with_ext_header("header")
        .with_meta(meta);
    assert_eq!(there_and_back(&full), full);
    let unreliable = Packet::numbered(PacketType::OneWay, 1, "lost").with_flags(Flags::UNRELIABLE);
    assert_eq!(there_and_back(&unreliable), unreliable);
    let failure = Packet::failure(9, Code::OVERLOADED, "no");
    assert_eq!(there_and_back(&failure), failure);
}

#[test]
fn every_packet_type_comes_back() {
    let types = [0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 14, 15];
    for packet_type in types {
        let name = |known: &PacketType| known.as_u8() == packet_type;
        let packet_type = [
            PacketType::OneWay,
            PacketType::Request,
            PacketType::Response,
            PacketType::Failure,
            PacketType::Cancel,
            PacketType::Hello,
            PacketType::Welcome,
            PacketType::Goodbye,
            PacketType::Ping,
            PacketType::Pong,
            PacketType::GoAway,
            PacketType::Gap,
        ]
        .into_iter()
        .find(name)
        .expect("a type");
        let packet = Packet::numbered(packet_type, 300, "body");
        assert_eq!(there_and_back(&packet), packet);
    }
    let ack = Packet::numbered(PacketType::Ack, 0, vec![0; 8]);
    assert_eq!(there_and_back(&ack), ack);
}

#[test]
fn a_plain_head_is_four_bytes_and_a_rich_one_is_not_much_more() {
    assert_eq!(
        head_of(&Packet::numbered(PacketType::OneWay, 1, "hello")).len(),
        4
    );
    let request = Packet::numbered(PacketType::Request, 100_000, vec![0; 1000]).with_biz_type(7);
    assert_eq!(head_of(&request).len(), 8);
}

#[test]
fn numbers_come_back_and_endless_ones_are_refused() {
    for value in [
        0,
        1,
        127,
        128,
        16_383,
        16_384,
        u64::from(u32::MAX),
        u64::MAX,
    ] {
        let mut bytes = Vec::new();
        put_varint(value, &mut bytes);
        let mut bytes = Bytes::from(bytes);
        assert_eq!(take_varint(&mut bytes), Ok(value));
        assert!(bytes.is_empty());
    }
    for endless in [&[0x80; 20][..], &[0xff; 10], &[0x80], &[]] {
        assert!(take_varint(&mut Bytes::copy_from_slice(endless)).is_err());
    }
}

#[test]
fn lengths_are_refused_from_the_head_alone() {
    let limits = Limits::new(100_000, 1000).expect("limits");
    let large = head_of(&Packet::binary(vec![0; 100_001]));
    assert_eq!(refused(&large, &limits), Code::TOO_LARGE);
    let header = head_of(&Packet::text("").with_ext_header(vec![0; 1001]));
    assert_eq!(refused(&header, &limits), Code::TOO_LARGE);
    let ping = head_of(&Packet::numbered(PacketType::Ping, 1, vec![0; 65]));
    assert_eq!(refused(&ping, &limits), Code::TOO_LARGE);
    // 2^64 - 1 bytes of payload, of extended header, of META.
    let endless = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    for start in [&[0, 0, 1][..], &[8, 0, 1, 0], &[16, 0, 1, 0]] {
        let head = [start, &endless].concat();
        assert_eq!(refused(&head, &limits), Code::TOO_LARGE, "{start:?}");
    }
}

#[test]
fn what_is_no_head_is_refused() {
    let limits = Limits::default();
    for head in [
        &[][..],
        &[0],
        // An unknown shape, an unknown type, a flag beyond 16 bits, a compression beyond 8.
        &[0x20, 0, 1, 0],
        &[0, 99, 1, 0],
        &[4, 0, 1, 0, 0xff, 0xff, 0xff, 1],
        &[1, 0, 1, 0, 0x80, 2],
        // META that is not there, and META that is none.
        &[16, 0, 1, 0, 5],
        &[16, 0, 1, 0, 5, 0, 3, 22, 0xff, 0xff],
    ] {
        assert_eq!(refused(head, &limits), Code::PROTOCOL_ERROR, "{head:?}");
    }
}

#[test]
fn the_flag_of_meta_cannot_be_smuggled_in() {
    let mut head = Bytes::from_static(&[4, 0, 1, 0, META_FLAG as u8]);
    let head = take_head(&mut head, &Limits::default()).expect("a head");
    assert_eq!(head.header.flags, Flags::NONE);
}
