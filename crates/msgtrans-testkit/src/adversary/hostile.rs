//! Frames drawn from a seed: those that a server must take in its stride, and those that must end the connection.
//!
//! Both are for a session of version 2 that is open already.

use super::frame::{Frame, kind, tlv};
use super::seed::Seed;
use super::websocket::{ClientFrame, Length, opcode};

/// A frame that is strange and legal: the session goes on.
pub fn legal(seed: &mut Seed) -> Frame {
    let id = u32::try_from(seed.next_u64() >> 32).unwrap_or(1);
    let some = |seed: &mut Seed, max: usize| {
        let len = seed.below(max + 1);
        seed.bytes(len)
    };
    match seed.below(12) {
        // Nobody asked for it.
        0 => Frame::v2(kind::RESPONSE).id(id).payload(some(seed, 32)),
        1 => Frame::v2(kind::FAILURE)
            .id(id)
            .payload("nobody asked".as_bytes()),
        2 => Frame::v2(kind::CANCEL).id(id),
        3 => Frame::v2(kind::PONG).id(id).payload(some(seed, 64)),
        4 => Frame::v2(kind::PING).id(id).payload(some(seed, 64)),
        5 => Frame::v2(kind::ACK).payload(vec![0; 8]),
        // Flags that do not exist, and FRAGMENTED and HIGH_PRIORITY, which nobody acts on.
        6 => Frame::v2(kind::ONE_WAY)
            .id(id)
            .flags(0xFFC3)
            .payload(some(seed, 64)),
        // A message of nothing, of which there may be very many.
        7 => Frame::v2(kind::ONE_WAY),
        // The same identifier as another.
        8 => Frame::v2(kind::REQUEST).id(7).payload(some(seed, 16)),
        9 => Frame::v2(kind::GO_AWAY).payload(tlv(16, &[0, 1])),
        // TLVs of tomorrow.
        10 => {
            let body = tlv(200, &some(seed, 20));
            let mut ext = u16::try_from(body.len())
                .unwrap_or(0)
                .to_be_bytes()
                .to_vec();
            ext.extend_from_slice(&body);
            ext.extend_from_slice(&some(seed, 30));
            Frame::v2(kind::ONE_WAY).flags(16).ext(ext)
        }
        _ => Frame::v2(kind::ONE_WAY)
            .id(id)
            .ext(some(seed, 40))
            .payload(some(seed, 200)),
    }
}

/// Bytes that must end the session, and why.
pub fn fatal(seed: &mut Seed) -> (Vec<u8>, &'static str) {
    let no_type = |seed: &mut Seed| seed.pick(&[5, 6, 7, 16, 24, 31, 32, 39, 40, 127, 255]);
    let (frame, why) = match seed.below(20) {
        0 => {
            let version = seed.pick(&[0, 3, 4, 127, 128, 255]);
            let frame = Frame::v2(kind::ONE_WAY);
            (Frame { version, ..frame }, "a version that does not exist")
        }
        1 => (
            Frame::v1(kind::ONE_WAY),
            "version 1 in a session of version 2",
        ),
        2 => (Frame::v2(no_type(seed)), "a type that does not exist"),
        3 => (
            Frame::v2(kind::ONE_WAY).compression(seed.pick(&[4, 5, 128, 255])),
            "a compression that does not exist",
        ),
        4 => (
            Frame::v2(kind::ONE_WAY).claiming(seed.pick(&[16_777_217, 1 << 31, u32::MAX])),
            "a payload above the limit",
        ),
        5 => (
            Frame::v2(kind::PING).claiming(seed.pick(&[4_097, 65_536, u32::MAX])),
            "a control frame above its limit",
        ),
        6 => (
            Frame::v2(seed.pick(&[kind::PING, kind::PONG, kind::GO_AWAY])).ext(seed.bytes(4)),
            "a control frame with an extended header",
        ),
        7 => (
            Frame::v2(kind::PING).compression(1).payload(seed.bytes(8)),
            "a compressed control frame",
        ),
        8 => (Frame::hello(), "a second Hello"),
        9 => (
            Frame::v2(kind::WELCOME).payload(tlv(7, &[0; 8])),
            "a Welcome from a client",
        ),
        10 => (
            Frame::v2(kind::ACK).payload(vec![0; seed.pick(&[0, 7, 9])]),
            "an Ack of a wrong length",
        ),
        11 => (
            Frame::v2(kind::REQUEST).id(1).flags(8),
            "a request that is unreliable",
        ),
        12 => (
            Frame::v2(kind::ONE_WAY).flags(16).ext([0xFF, 0xFF, 1]),
            "TLVs longer than their extended header",
        ),
        13 => (
            Frame::v2(kind::ONE_WAY).flags(16).ext([0]),
            "an extended header too short for the length of its TLVs",
        ),
        14 => (
            Frame::v2(kind::ONE_WAY).flags(16).ext([0, 4, 21, 0, 9, 0]),
            "a TLV that overruns",
        ),
        15 => (
            Frame::v2(kind::ONE_WAY)
                .compression(1)
                .payload([b"junk".as_slice(), &seed.bytes(30)].concat()),
            "junk instead of zstd",
        ),
        16 => (
            Frame::v2(kind::ONE_WAY)
                .compression(2)
                .payload([b"junk".as_slice(), &seed.bytes(30)].concat()),
            "junk instead of zlib",
        ),
        17 => (
            Frame::v2(kind::GOODBYE).payload([16, 0, 9, 1]),
            "a Goodbye that overruns",
        ),
        18 => (
            Frame::v2(kind::GO_AWAY).payload([tlv(16, &[0, 1]), tlv(16, &[0, 1])].concat()),
            "a tag twice",
        ),
        _ => (
            Frame::v2(kind::ONE_WAY)
                .claiming(u32::MAX)
                .claiming_ext(u16::MAX),
            "lengths whose sum overflows",
        ),
    };
    (frame.bytes(), why)
}

/// Frames of WebSocket that must end the connection, and why; none is a whole packet.
pub fn fatal_websocket(seed: &mut Seed) -> (Vec<u8>, &'static str) {
    let packet = Frame::v2(kind::ONE_WAY).payload(seed.bytes(20)).bytes();
    let binary = || ClientFrame::new(opcode::BINARY, packet.clone());
    let (frame, why) = match seed.below(13) {
        0 => (binary().unmasked(), "a client that does not mask"),
        1 => (
            binary().reserved(seed.pick(&[0x10, 0x20, 0x40, 0x70])),
            "reserved bits",
        ),
        2 => (
            ClientFrame::new(seed.pick(&[3, 4, 7, 11, 15]), packet),
            "an opcode that does not exist",
        ),
        3 => (ClientFrame::new(opcode::TEXT, "hello"), "text"),
        4 => (
            ClientFrame::new(opcode::PING, "x").unfinished(),
            "a fragment of a ping",
        ),
        5 => (
            ClientFrame::new(opcode::PING, vec![0; 126]),
            "a ping of 126 bytes",
        ),
        6 => (
            ClientFrame::new(opcode::CONTINUATION, packet),
            "a continuation of nothing",
        ),
        7 => (binary().length(Length::Wide), "a short length in 16 bits"),
        8 => (binary().length(Length::Widest), "a short length in 64 bits"),
        9 => (
            binary().length(Length::Claimed(1 << 63)),
            "a length with the top bit",
        ),
        10 => (
            binary().length(Length::Claimed(1 << 40)),
            "a length above every limit",
        ),
        11 => (
            ClientFrame::new(opcode::BINARY, [packet.as_slice(), &packet].concat()),
            "two packets in one message",
        ),
        _ => (
            ClientFrame::new(opcode::BINARY, packet[..seed.below(packet.len())].to_vec()),
            "less than a packet in a message",
        ),
    };
    (frame.bytes(), why)
}
