//! The frames of `tests/fixtures/v1` match to the byte in both directions.

use std::path::Path;

use bytes::{Buf, Bytes};
use msgtrans_core::codec::decode_exact;
use msgtrans_core::{Limits, OutBuffer, Packet, WireVersion, encode};
use serde_json::Value;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits"))
        .collect()
}

fn number(fixture: &Value, field: &str) -> u64 {
    fixture[field].as_u64().expect(field)
}

fn check(fixture: &Value, frame: &[u8]) {
    let (packet, version) = decode_exact(Bytes::copy_from_slice(frame), None, &Limits::default())
        .expect("a golden frame");
    assert_eq!(version as u64, number(fixture, "version"));
    assert_eq!(
        u64::from(packet.compression.as_u8()),
        number(fixture, "compression")
    );
    assert_eq!(
        u64::from(packet.packet_type.as_u8()),
        number(fixture, "packet_type")
    );
    assert_eq!(u64::from(packet.biz_type), number(fixture, "biz_type"));
    assert_eq!(u64::from(packet.message_id), number(fixture, "message_id"));
    assert_eq!(u64::from(packet.flags.bits()), number(fixture, "reserved"));
    let ext_header = fixture["ext_header_hex"].as_str().expect("ext_header_hex");
    assert_eq!(packet.ext_header, hex(ext_header));
    let payload = fixture["payload_hex"].as_str().expect("payload_hex");
    assert_eq!(packet.payload, hex(payload));

    // From the fields alone, as an application would build it.
    let built = Packet::numbered(
        packet.packet_type,
        number(fixture, "message_id") as u32,
        hex(payload),
    )
    .with_biz_type(number(fixture, "biz_type") as u8)
    .with_ext_header(hex(ext_header))
    .with_flags(packet.flags);
    for packet in [packet, built] {
        let mut out = OutBuffer::new();
        encode(&packet, WireVersion::V1, &mut out).expect("a legal packet");
        assert_eq!(out.copy_to_bytes(out.len()), frame);
    }
}

#[test]
fn golden_frames_decode_and_encode_to_the_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    let mut checked = 0;
    for entry in std::fs::read_dir(folder).expect("the fixtures") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let text = std::fs::read_to_string(&path).expect("a description");
            let fixture = serde_json::from_str(&text).expect("JSON");
            let frame = std::fs::read(path.with_extension("bin")).expect("a frame");
            check(&fixture, &frame);
            checked += 1;
        }
    }
    assert_eq!(checked, 8);
}

#[test]
fn version_2_frames_are_what_the_wire_format_says() {
    use msgtrans_core::{Code, Goodbye, Hello, PacketType};
    let cases: [(Packet, &[u8]); 6] = [
        (
            Packet::echo(0x0102_0304, "hi"),
            b"\x02\0\0\0\x01\x02\x03\x04\0\0\0\0\0\x02\0\0hi",
        ),
        (
            Packet::failure(5, Code::OVERLOADED, "no"),
            b"\x02\0\x03\0\0\0\0\x05\0\x07\0\0\0\x02\0\x10\0\x05\x10\0\x02\0\x06no",
        ),
        (
            Packet::numbered(PacketType::Cancel, 5, ""),
            b"\x02\0\x04\0\0\0\0\x05\0\0\0\0\0\0\0\0",
        ),
        (
            Packet::numbered(PacketType::Ack, 0, 7u64.to_be_bytes().to_vec()),
            b"\x02\0\x0d\0\0\0\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\x07",
        ),
        (
            Hello::default().to_packet(),
            b"\x02\0\x08\0\0\0\0\0\0\0\0\0\0\x15\0\0\x01\0\x04\0\x01\x40\0\x02\0\x04\0\0\0\0\x03\0\x04\0\0\x3a\x98",
        ),
        (
            Goodbye::new(Code::NORMAL, "bye").to_packet(PacketType::Goodbye),
            b"\x02\0\x0a\0\0\0\0\0\0\0\0\0\0\x0b\0\0\x10\0\x02\0\0\x11\0\x03bye",
        ),
    ];
    for (packet, frame) in cases {
        let mut out = OutBuffer::new();
        encode(&packet, WireVersion::V2, &mut out).expect("a legal packet");
        assert_eq!(out.copy_to_bytes(out.len()), frame, "{packet:?}");
        let read = decode_exact(Bytes::from_static(frame), None, &Limits::default());
        assert_eq!(read, Ok((packet, WireVersion::V2)));
    }
}
