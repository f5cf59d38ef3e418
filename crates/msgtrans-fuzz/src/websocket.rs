//! WebSocket: frame headers against RFC 6455, and messages the same however their bytes arrive.

use bytes::{Buf, Bytes, BytesMut};
use msgtrans_websocket::frame::{
    OpCode, Role, append_frame, encode_frame_header, parse_frame_header,
};
use msgtrans_websocket::message::{
    CloseFrame, Event, MessageError, MessageKind, MessageLimits, MessageReader,
};

use crate::frames::read_direct;
use crate::input::{Cuts, Input};

/// A header is taken exactly when RFC 6455 allows it, needs the bytes that it says, and is the shortest form of itself.
pub(crate) fn frame(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let role = role(&mut input);
    let bytes = input.rest();
    let parsed = parse_frame_header(bytes, role);
    let legal = is_legal(bytes, role);
    match parsed {
        Err(error) => {
            assert_eq!(legal, Some(false), "{error}");
            assert_eq!(error.close_code(), 1002);
        }
        Ok(None) => {
            assert!(legal.is_none());
        }
        Ok(Some(header)) => {
            assert_eq!(legal, Some(true));
            assert_eq!(header.mask.is_some(), role == Role::Server);
            assert!(header.payload_len >> 63 == 0);
            let len = usize::try_from(header.payload_len).expect("a length of 63 bits");
            let mut shortest = encode_frame_header(header.opcode, len, header.mask).to_vec();
            if !header.fin {
                shortest[0] &= 0x7f;
            }
            assert_eq!(shortest, bytes[..header.header_len]);
            let before = &bytes[..header.header_len - 1];
            assert!(matches!(parse_frame_header(before, role), Ok(None)));
        }
    }
}

/// Section 5.2 read a second time; `None` where the bytes do not say it yet.
fn is_legal(bytes: &[u8], role: Role) -> Option<bool> {
    let first = *bytes.first()?;
    let control = first & 8 != 0;
    let opcode = matches!(first & 15, 0..=2 | 8..=10);
    if first & 0x70 != 0 || !opcode || (control && first & 0x80 == 0) {
        return Some(false);
    }
    let second = *bytes.get(1)?;
    if (second & 0x80 != 0) != (role == Role::Server) || (control && second & 0x7f > 125) {
        return Some(false);
    }
    let (len, width) = match second & 0x7f {
        126 => (
            u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
            2,
        ),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?), 8),
        len => (u64::from(len), 0),
    };
    if (width == 2 && len < 126) || (width == 8 && (len <= 0xffff || len >> 63 != 0)) {
        return Some(false);
    }
    let mask = if role == Role::Server { 4 } else { 0 };
    (bytes.len() >= 2 + width + mask).then_some(true)
}

/// Three ways to read the same bytes: at once, in pieces, and by the fast path for whole messages.
pub(crate) fn message(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let role = role(&mut input);
    let choices = input.byte();
    let limits = MessageLimits {
        message_bytes_max: match choices & 3 {
            0 => 64,
            1 => 4096,
            _ => 1 << 24,
        },
        text: choices & 4 == 0,
    };
    let mut cuts = input.cuts();
    let filler = if choices & 8 == 0 {
        0
    } else {
        usize::from(input.byte()) * 320
    };
    let mut stream = BytesMut::new();
    // Honest frames first, masked as the peer would.
    for _ in 0..choices >> 6 {
        let opcode = match input.byte() % 5 {
            0 => OpCode::Text,
            1 => OpCode::Ping,
            2 => OpCode::Pong,
            _ => OpCode::Binary,
        };
        let len = usize::from(input.byte() % 126);
        let peer = match role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        append_frame(&mut stream, peer, opcode, input.take(len));
    }
    stream.extend_from_slice(input.rest());
    stream.resize(stream.len() + filler, 0);

    let at_once = read(&stream, role, limits, None, false);
    assert_eq!(at_once, read(&stream, role, limits, Some(&mut cuts), false));
    assert_eq!(at_once, read(&stream, role, limits, None, true));
    let (events, _) = &at_once;
    for event in events {
        match event {
            Event::Text(text) => {
                assert!(limits.text && text.len() <= limits.message_bytes_max);
                assert!(std::str::from_utf8(text).is_ok());
            }
            Event::Binary(data) => assert!(data.len() <= limits.message_bytes_max),
            Event::Ping(data) | Event::Pong(data) => assert!(data.len() <= 125),
            Event::Close(Some(CloseFrame { code, reason })) => {
                assert!(matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999));
                assert!(reason.len() <= 123 && std::str::from_utf8(reason).is_ok());
            }
            Event::Close(None) => {}
        }
    }
    let closes = events
        .iter()
        .position(|event| matches!(event, Event::Close(_)));
    assert!(
        closes.is_none_or(|at| at + 1 == events.len()),
        "read on after a close"
    );
}

/// The events, and the error or whether the end was that of a message.
fn read(
    mut stream: &[u8],
    role: Role,
    limits: MessageLimits,
    mut cuts: Option<&mut Cuts>,
    fast: bool,
) -> (Vec<Event>, Result<bool, MessageError>) {
    let mut reader = MessageReader::new(role, limits);
    let mut input = BytesMut::new();
    let mut events = Vec::new();
    while !stream.is_empty() {
        let len = cuts
            .as_mut()
            .map_or(stream.len(), |cuts| cuts.next_len().min(stream.len()));
        match reader.direct_len() {
            0 => {
                input.extend_from_slice(&stream[..len]);
                stream.advance(len);
            }
            direct => {
                let part = &stream[..len.min(direct)];
                let len = read_direct(reader.direct_buffer(), part);
                stream.advance(len);
                match reader.take_direct(len) {
                    Ok(None) => {}
                    Ok(Some((kind, payload))) => events.push(event(kind, payload)),
                    Err(error) => return (events, Err(error)),
                }
            }
        }
        loop {
            if fast && let Some(payload) = reader.whole_message(&mut input) {
                input.advance(payload.start);
                events.push(Event::Binary(input.split_to(payload.len()).freeze()));
                continue;
            }
            match reader.next_event(&mut input) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => {
                    assert!(reader.is_closed());
                    return (events, Err(error));
                }
            }
        }
        assert!(input.is_empty(), "bytes were left with the caller");
    }
    (events, Ok(!reader.is_partial()))
}

fn event(kind: MessageKind, payload: Bytes) -> Event {
    match kind {
        MessageKind::Text => Event::Text(payload),
        MessageKind::Binary => Event::Binary(payload),
        MessageKind::Ping => Event::Ping(payload),
        MessageKind::Pong => Event::Pong(payload),
        MessageKind::Close => Event::Close(CloseFrame::parse(payload)),
    }
}

fn role(input: &mut Input<'_>) -> Role {
    if input.byte() & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    }
}
