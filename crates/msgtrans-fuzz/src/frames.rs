//! Headers against the wire format, and the incremental decoder against one frame at a time.

use bytes::{Buf, Bytes, BytesMut};
use msgtrans_core::{
    Compression, Decoded, Decoder, Flags, HEADER_LEN, Header, Limits, Packet, PacketBatch,
    PacketType, ReadTarget, WireVersion, WireVersions, codec,
};

use crate::input::{Cuts, Input};

/// A header is taken exactly when the specification allows it, says what its bytes say, and becomes them again.
pub(crate) fn header(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let limits = limits(&mut input);
    let Some(bytes) = input.rest().first_chunk::<HEADER_LEN>() else {
        return;
    };
    let parsed = Header::parse(bytes, &limits);
    assert_eq!(
        parsed.is_ok(),
        is_legal(bytes, &limits),
        "{bytes:?} {parsed:?}"
    );
    let Ok(header) = parsed else { return };
    let known = if bytes[0] == 1 { 0b111 } else { 0b11_1111 };
    let flags = u16::from_be_bytes([bytes[14], bytes[15]]) & known;
    let mut canonical = *bytes;
    canonical[14..].copy_from_slice(&flags.to_be_bytes());
    assert_eq!(header.to_bytes(), canonical);
    assert_eq!(
        header.frame_len(),
        HEADER_LEN + usize::from(header.ext_header_len) + header.payload_len as usize
    );
    assert_eq!(Header::parse(&canonical, &limits).ok(), Some(header));
}

/// Sections 1, 2 and 9 of the wire format, read a second time.
fn is_legal(bytes: &[u8; HEADER_LEN], limits: &Limits) -> bool {
    let [version, compression, packet_type, ..] = *bytes;
    let ext_header = u32::from(u16::from_be_bytes([bytes[8], bytes[9]]));
    let payload = u32::from_be_bytes([bytes[10], bytes[11], bytes[12], bytes[13]]);
    let unreliable = version == 2 && bytes[15] & 8 != 0;
    let known = match version {
        1 => packet_type <= 2 && compression <= 2,
        2 => matches!(packet_type, 0..=4 | 8..=15) && compression <= 3,
        _ => false,
    };
    let body = match packet_type {
        0..=4 | 15 => payload <= limits.max_payload() && ext_header <= limits.max_ext_header(),
        _ => {
            let max = match packet_type {
                8 => 16 * 1024,
                11 | 12 => 64,
                _ => 4 * 1024,
            };
            let fits = if packet_type == 13 {
                payload == 8
            } else {
                payload <= max
            };
            fits && ext_header == 0 && compression == 0
        }
    };
    known && body && !(unreliable && packet_type != 0)
}

/// However a stream is cut, the decoder finds the packets, and the error, that one frame at a time shows.
pub(crate) fn decode(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choices = input.byte();
    let start = Start {
        accept: match choices & 3 {
            0 => WireVersions::V1,
            1 => WireVersions::V2,
            _ => WireVersions::Any,
        },
        wire: (choices & 4 != 0).then_some(match choices & 8 {
            0 => WireVersion::V1,
            _ => WireVersion::V2,
        }),
        limits: limits(&mut input),
    };
    let budget_bytes = usize::from(input.u16());
    let mut cuts = input.cuts();
    // Long enough for the buffer of a large frame's own, without a fuzzer that carries such inputs around.
    let filler = if choices & 16 == 0 {
        0
    } else {
        usize::from(input.byte()) * 320
    };
    let mut stream = input.rest().to_vec();
    stream.resize(stream.len() + filler, 0);

    let expected = start.one_by_one(&stream);
    let mut split = start.incrementally(&stream, budget_bytes, &mut cuts);
    expected.assert_same(&mut split);
    let mut at_once = start.incrementally(&stream, usize::MAX, &mut Input::new(&[255; 4]).cuts());
    expected.assert_same(&mut at_once);
}

/// How a stream begins to be read.
struct Start {
    accept: WireVersions,
    wire: Option<WireVersion>,
    limits: Limits,
}

/// What a stream held.
pub(crate) struct Content {
    pub(crate) packets: Vec<Packet>,
    /// The error, or whether the end was that of a frame.
    pub(crate) end: Result<bool, String>,
}

impl Content {
    pub(crate) fn assert_same(&self, other: &mut Self) {
        assert_eq!(self.packets, other.packets);
        assert_eq!(self.end, other.end);
    }
}

impl Start {
    /// The slow reading.
    fn one_by_one(&self, mut stream: &[u8]) -> Content {
        let mut packets = Vec::new();
        let end = loop {
            let Some(head) = stream.first_chunk::<HEADER_LEN>() else {
                break Ok(stream.is_empty());
            };
            let header = match Header::parse(head, &self.limits) {
                Ok(header) => header,
                Err(error) => break Err(format!("{error:?}")),
            };
            match self.wire {
                Some(expected) if expected != header.version => {
                    let got = header.version;
                    break Err(format!(
                        "VersionMismatch {{ expected: {expected:?}, got: {got:?} }}"
                    ));
                }
                None if !self.accept.contains(header.version) => {
                    let version = header.version;
                    break Err(format!("VersionRefused {{ version: {version:?} }}"));
                }
                _ => {}
            }
            let Some((frame, rest)) = stream.split_at_checked(header.frame_len()) else {
                break Ok(false);
            };
            match codec::decode_exact(Bytes::copy_from_slice(frame), self.wire, &self.limits) {
                Ok((packet, version)) => {
                    assert_eq!(version, header.version);
                    packets.push(packet);
                }
                Err(error) => break Err(format!("{error:?}")),
            }
            stream = rest;
        };
        Content { packets, end }
    }

    fn incrementally(&self, stream: &[u8], budget_bytes: usize, cuts: &mut Cuts) -> Content {
        let mut decoder = Decoder::new(self.accept, self.limits);
        if let Some(wire) = self.wire {
            decoder.set_wire(wire, self.limits);
        }
        let mut left = stream;
        let mut batch = PacketBatch::new();
        let mut packets = Vec::new();
        loop {
            loop {
                match decoder.decode(budget_bytes, &mut batch) {
                    Ok(decoded) => {
                        assert!(self.wire.is_some() || batch.len() <= 1);
                        let progress = !batch.is_empty();
                        packets.extend(std::iter::from_fn(|| batch.pop()));
                        if decoded == Decoded::Starved {
                            break;
                        }
                        assert!(progress, "more to decode, and nothing decoded");
                    }
                    Err(error) => {
                        let again = decoder.decode(budget_bytes, &mut batch);
                        assert!(again.is_err() && batch.is_empty(), "read on after an error");
                        assert_eq!(decoder.held_bytes(), 0);
                        return Content {
                            packets,
                            end: Err(format!("{error:?}")),
                        };
                    }
                }
            }
            if left.is_empty() {
                break;
            }
            let len = cuts.next_len().min(left.len());
            let len = match decoder.read_target() {
                ReadTarget::Shared => {
                    decoder.push(Bytes::copy_from_slice(&left[..len]));
                    len
                }
                ReadTarget::Direct(max) => {
                    let len = len.min(max);
                    read_direct(decoder.direct_buffer(), &left[..len])
                }
            };
            left.advance(len);
            assert!(decoder.held_bytes() <= stream.len() - left.len());
        }
        Content {
            packets,
            end: Ok(decoder.is_at_boundary()),
        }
    }
}

/// A read into a frame's own buffer, as large as its room: the buffer must not have grown to what the frame claims.
pub(crate) fn read_direct(buffer: &mut BytesMut, bytes: &[u8]) -> usize {
    let held = buffer.len();
    assert!(
        buffer.capacity() <= 4 * held + 192 * 1024,
        "{} bytes reserved for {held} received",
        buffer.capacity()
    );
    let len = bytes.len().min(buffer.capacity() - held);
    assert!(len > 0, "no room to read into");
    buffer.extend_from_slice(&bytes[..len]);
    len
}

/// Limits above what an input can reach, or just below.
pub(crate) fn limits(input: &mut Input<'_>) -> Limits {
    match input.byte() {
        0..=127 => Limits::default(),
        choice => Limits::new(
            Limits::MIN_FRAME + u32::from(choice),
            1 + u32::from(choice & 15),
        )
        .expect("limits in range"),
    }
}

/// A packet of any fields. What the wire has no place for is found by the encoder.
pub(crate) fn packet(input: &mut Input<'_>) -> Packet {
    const TYPES: [PacketType; 13] = [
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
        PacketType::Ack,
        PacketType::GoAway,
        PacketType::Gap,
    ];
    const FLAGS: [Flags; 5] = [
        Flags::FRAGMENTED,
        Flags::HIGH_PRIORITY,
        Flags::HAS_ROUTE_TAG,
        Flags::UNRELIABLE,
        Flags::ACK_NOW,
    ];
    let packet_type = TYPES[usize::from(input.byte()) % TYPES.len()];
    let compression = match input.byte() % 4 {
        0 => Compression::None,
        1 => Compression::Zstd,
        2 => Compression::Zlib,
        _ => Compression::Lz4,
    };
    let chosen = input.byte();
    let flags = (0..).zip(FLAGS).fold(Flags::NONE, |flags, (bit, flag)| {
        if chosen & (1 << bit) == 0 {
            flags
        } else {
            flags.with(flag)
        }
    });
    let ext_header_len = usize::from(input.byte());
    Packet::new(packet_type, Bytes::new())
        .with_compression(compression)
        .with_flags(flags)
        .with_biz_type(input.byte())
        .with_message_id(input.u32())
        .with_ext_header(input.take(ext_header_len).to_vec())
}
