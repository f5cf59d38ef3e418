//! Messages: whole, in fragments, in any split, and what must end the connection.

use proptest::prelude::*;

use super::*;
use crate::frame::{append_close, append_frame, encode_frame_header};

const LIMITS: MessageLimits = MessageLimits {
    message_bytes_max: 1 << 20,
    text: true,
};

/// One frame with the FIN bit and mask that the test asks for.
fn frame(role_of_sender: Role, opcode: OpCode, fin: bool, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    append_frame(&mut out, role_of_sender, opcode, payload);
    if !fin {
        out[0] &= 0x7f;
    }
    out
}

fn from_client(opcode: OpCode, fin: bool, payload: &[u8]) -> BytesMut {
    frame(Role::Client, opcode, fin, payload)
}

fn reader_of(sender: Role, limits: MessageLimits) -> MessageReader {
    let role = if sender == Role::Client {
        Role::Server
    } else {
        Role::Client
    };
    MessageReader::new(role, limits)
}

/// All events of `chunks`, and the error that ended them if one did.
fn read_chunks<'a>(
    reader: &mut MessageReader,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Event>, Option<MessageError>) {
    let mut events = Vec::new();
    for chunk in chunks {
        let mut input = BytesMut::from(chunk);
        loop {
            match reader.next_event(&mut input) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(error) => return (events, Some(error)),
            }
        }
        assert!(input.is_empty(), "the reader leaves nothing in the buffer");
    }
    (events, None)
}

/// What a server makes of frames from a client, read at once.
fn read(frames: &[BytesMut]) -> (Vec<Event>, Option<MessageError>) {
    let bytes = frames.concat();
    read_chunks(&mut reader_of(Role::Client, LIMITS), [&bytes[..]])
}

fn binary(payload: &[u8]) -> Event {
    Event::Binary(Bytes::copy_from_slice(payload))
}

#[test]
fn reads_the_examples_of_section_5_7() {
    let (events, error) = read_chunks(
        &mut reader_of(Role::Server, LIMITS),
        [
            &[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f][..],
            &[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f],
            &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f],
        ],
    );
    let hello = Bytes::from_static(b"Hello");
    assert_eq!(error, None);
    assert_eq!(
        events,
        [
            Event::Text(hello.clone()),
            Event::Text(hello.clone()),
            Event::Ping(hello.clone())
        ]
    );

    let (events, error) = read_chunks(
        &mut reader_of(Role::Client, LIMITS),
        [
            &[
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
            ][..],
            &[
                0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
            ],
        ],
    );
    assert_eq!(error, None);
    assert_eq!(events, [Event::Text(hello.clone()), Event::Pong(hello)]);
}

#[test]
fn a_whole_binary_frame_is_handed_out_where_it_lies() {
    let mut input = from_client(OpCode::Binary, true, b"packet");
    input.unsplit(from_client(OpCode::Binary, true, b"next"));
    let lies_at = input[6..].as_ptr();
    let mut reader = reader_of(Role::Client, LIMITS);
    let event = reader.next_event(&mut input).expect("legal");
    let Some(Event::Binary(payload)) = event else {
        panic!("not a binary message: {event:?}")
    };
    assert_eq!(payload, &b"packet"[..]);
    assert_eq!(payload.as_ptr(), lies_at, "the payload was copied");
    assert_eq!(reader.next_event(&mut input), Ok(Some(binary(b"next"))));
}

#[test]
fn the_short_way_is_closed_while_a_message_is_under_way() {
    let mut whole = from_client(OpCode::Binary, true, b"whole");
    let mut reader = reader_of(Role::Client, LIMITS);
    assert_eq!(reader.whole_message(&mut whole.clone()), Some(6..11));
    for (bytes, under_way) in [
        (
            from_client(OpCode::Binary, true, b"a frame cut off").split_to(9),
            "a frame",
        ),
        (
            from_client(OpCode::Binary, true, b"a header cut off").split_to(1),
            "a header",
        ),
        (
            from_client(OpCode::Binary, false, b"a fragment"),
            "a fragmented message",
        ),
        (from_client(OpCode::Close, true, b""), "the end"),
    ] {
        reader = reader_of(Role::Client, LIMITS);
        read_chunks(&mut reader, [&bytes[..]]);
        assert_eq!(reader.whole_message(&mut whole), None, "after {under_way}");
    }
}

#[test]
fn control_frames_between_fragments_come_out_first() {
    let (events, error) = read(&[
        from_client(OpCode::Binary, false, b"one "),
        from_client(OpCode::Ping, true, b"?"),
        from_client(OpCode::Continuation, false, b""),
        from_client(OpCode::Pong, true, b""),
        from_client(OpCode::Continuation, true, b"message"),
        from_client(OpCode::Binary, true, b""),
    ]);
    assert_eq!(error, None);
    let ping = Event::Ping(Bytes::from_static(b"?"));
    assert_eq!(
        events,
        [
            ping,
            Event::Pong(Bytes::new()),
            binary(b"one message"),
            binary(b"")
        ]
    );
}

#[test]
fn fragments_out_of_order_are_protocol_errors() {
    let (events, error) = read(&[
        from_client(OpCode::Binary, true, b"fine"),
        from_client(OpCode::Continuation, true, b"of what?"),
    ]);
    assert_eq!(events, [binary(b"fine")]);
    assert_eq!(error, Some(MessageError::UnexpectedContinuation));

    let error = read(&[
        from_client(OpCode::Binary, false, b"first"),
        from_client(OpCode::Text, true, b"second"),
    ])
    .1;
    assert_eq!(
        error,
        Some(MessageError::ExpectedContinuation {
            opcode: OpCode::Text
        })
    );
    assert_eq!(error.map(|e| e.close_code()), Some(1002));
}

#[test]
fn text_is_refused_on_its_header_where_packets_are_spoken() {
    let mut reader = reader_of(
        Role::Client,
        MessageLimits {
            text: false,
            ..LIMITS
        },
    );
    let text = from_client(OpCode::Text, true, b"hi");
    assert_eq!(
        read_chunks(&mut reader, [&text[..6]]).1,
        Some(MessageError::TextRefused)
    );
    assert_eq!(MessageError::TextRefused.close_code(), 1002);
}

#[test]
fn invalid_text_is_noticed_before_its_frame_ends() {
    let mut bytes = from_client(OpCode::Text, false, "κόσμε".as_bytes());
    let bad = from_client(OpCode::Continuation, true, b"\xf4\x90\x80\x80edited");
    bytes.extend_from_slice(&bad);
    let mut reader = reader_of(Role::Client, LIMITS);
    let until_noticed = (0..bytes.len())
        .find(|&at| read_chunks(&mut reader, [&bytes[at..=at]]).1.is_some())
        .expect("never noticed");
    // Header and mask, then 0xf4 may still become a character and 0x90 ends that hope.
    assert_eq!(until_noticed, bytes.len() - bad.len() + 6 + 1);
    assert_eq!(
        read_chunks(&mut reader, [&bytes[..]]),
        (vec![], None),
        "bytes after an error are discarded"
    );
}

#[test]
fn text_that_ends_inside_a_character_is_refused() {
    for frames in [
        vec![from_client(OpCode::Text, true, b"\xce")],
        vec![
            from_client(OpCode::Text, false, b"\xce"),
            from_client(OpCode::Continuation, true, b""),
        ],
    ] {
        assert_eq!(read(&frames).1, Some(MessageError::InvalidUtf8));
    }
    assert_eq!(MessageError::InvalidUtf8.close_code(), 1007);
}

#[test]
fn a_claimed_length_is_refused_on_the_header_and_reserves_nothing() {
    let mut reader = reader_of(Role::Server, LIMITS);
    let header = encode_frame_header(OpCode::Binary, LIMITS.message_bytes_max + 1, None);
    let error = read_chunks(&mut reader, [&header[..]]).1;
    let len = LIMITS.message_bytes_max as u64 + 1;
    assert_eq!(
        error,
        Some(MessageError::TooLarge {
            len,
            max: LIMITS.message_bytes_max
        })
    );
    assert_eq!(error.map(|e| e.close_code()), Some(1009));

    let mut reader = reader_of(Role::Server, LIMITS);
    let header = encode_frame_header(OpCode::Binary, LIMITS.message_bytes_max, None);
    read_chunks(&mut reader, [&header[..], b"a few bytes"]);
    assert!(
        reader.body.capacity() < 256,
        "{} bytes reserved",
        reader.body.capacity()
    );
    assert_eq!(reader.frame_remaining(), LIMITS.message_bytes_max - 11);
}

#[test]
fn the_limit_counts_all_fragments_of_a_message() {
    let half = vec![7; LIMITS.message_bytes_max / 2];
    let first = from_client(OpCode::Binary, false, &half);
    let (events, error) = read(&[
        first.clone(),
        from_client(OpCode::Continuation, true, &half),
    ]);
    assert_eq!(
        (events.len(), error),
        (1, None),
        "a message at the limit passes"
    );

    let error = read(&[
        first,
        from_client(OpCode::Continuation, false, &half),
        from_client(OpCode::Continuation, true, b"!"),
    ])
    .1;
    let len = LIMITS.message_bytes_max as u64 + 1;
    assert_eq!(
        error,
        Some(MessageError::TooLarge {
            len,
            max: LIMITS.message_bytes_max
        })
    );
}

#[test]
fn a_flood_of_empty_fragments_ends_and_65536_of_64_bytes_pass() {
    let limits = MessageLimits {
        message_bytes_max: 16_842_767,
        text: true,
    };
    let mut reader = reader_of(Role::Client, limits);
    let mut bytes = from_client(OpCode::Binary, false, &[1; 64]);
    for index in 1..65_536 {
        bytes.extend_from_slice(&from_client(
            OpCode::Continuation,
            index == 65_535,
            &[1; 64],
        ));
    }
    let (events, error) = read_chunks(&mut reader, bytes.chunks(65_536));
    assert_eq!(error, None);
    assert_eq!(events, [binary(&vec![1; 4 << 20])]);

    let first = from_client(OpCode::Binary, false, b"");
    let empty = from_client(OpCode::Continuation, false, b"");
    let max = limits.message_bytes_max / FRAGMENT_OVERHEAD;
    let chunks = std::iter::once(&first[..]).chain(std::iter::repeat_n(&empty[..], max));
    let error = read_chunks(&mut reader, chunks).1;
    assert_eq!(error, Some(MessageError::TooManyFragments { max }));
    assert_eq!(reader.body.capacity(), 0);
}

#[test]
fn close_frames_are_checked_and_end_the_stream() {
    let mut bytes = BytesMut::new();
    append_close(&mut bytes, Role::Client, 1001, "moving on");
    let junk = from_client(OpCode::Binary, true, b"ignored");
    let (events, error) = read(&[bytes, junk]);
    assert_eq!(error, None);
    let reason = Bytes::from_static(b"moving on");
    assert_eq!(
        events,
        [Event::Close(Some(CloseFrame { code: 1001, reason }))]
    );
    assert_eq!(
        read(&[from_client(OpCode::Close, true, b"")]).0,
        [Event::Close(None)]
    );

    for code in 0..=5_100u16 {
        let sendable = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
        let error = read(&[from_client(OpCode::Close, true, &code.to_be_bytes())]).1;
        assert_eq!(
            error,
            (!sendable).then_some(MessageError::InvalidCloseCode { code })
        );
    }
    let error = read(&[from_client(OpCode::Close, true, b"\x03")]).1;
    assert_eq!(error, Some(MessageError::CloseTooShort));
    let error = read(&[from_client(OpCode::Close, true, b"\x03\xe8\xff")]).1;
    assert_eq!(error, Some(MessageError::InvalidUtf8));
}

#[test]
fn a_long_close_reason_is_cut_between_characters() {
    let mut bytes = BytesMut::new();
    append_close(&mut bytes, Role::Server, 1011, &"ö".repeat(100));
    let (events, error) = read_chunks(&mut reader_of(Role::Server, LIMITS), [&bytes[..]]);
    assert_eq!(error, None);
    let reason = Bytes::from("ö".repeat(61));
    assert_eq!(
        events,
        [Event::Close(Some(CloseFrame { code: 1011, reason }))]
    );
}

#[test]
fn a_partial_message_shows_and_ends() {
    let mut reader = reader_of(Role::Client, LIMITS);
    let bytes = [
        from_client(OpCode::Binary, false, b"first half"),
        from_client(OpCode::Continuation, true, b"second half"),
    ]
    .concat();
    assert!(!reader.is_partial());
    for at in 0..bytes.len() {
        assert_eq!(reader.is_partial(), at > 0, "before byte {at}");
        read_chunks(&mut reader, [&bytes[at..=at]]);
    }
    assert!(!reader.is_partial());
}

#[test]
fn a_large_message_is_read_straight_into_its_own_memory() {
    let payload: Vec<u8> = (0..300_000u32).map(|at| (at % 251) as u8).collect();
    let bytes = from_client(OpCode::Binary, true, &payload);
    let mut reader = reader_of(Role::Client, LIMITS);
    assert_eq!(read_chunks(&mut reader, [&bytes[..16_000]]).0, []);
    assert_eq!(
        reader.direct_len(),
        0,
        "too little has come to trust the header"
    );
    read_chunks(&mut reader, [&bytes[16_000..20_001]]);

    let mut at = 20_001;
    let message = loop {
        let max = reader.direct_len();
        if max == 0 {
            let (events, error) = read_chunks(&mut reader, [&bytes[at..]]);
            assert_eq!(error, None);
            break events;
        }
        assert_eq!(max, bytes.len() - at);
        let buffer = reader.direct_buffer();
        let room = (buffer.capacity() - buffer.len()).min(max);
        assert!(room > 0 && buffer.capacity() <= 4 * (at + room) + 72 * 1024);
        buffer.extend_from_slice(&bytes[at..at + room]);
        at += room;
        if let Some((kind, payload)) = reader.take_direct(room).expect("legal") {
            assert_eq!(kind, MessageKind::Binary);
            break vec![Event::Binary(payload)];
        }
    };
    assert!(message == [binary(&payload)], "the message was damaged");
    assert!(!reader.is_partial());
}

#[test]
fn an_idle_reader_is_small() {
    assert!(
        size_of::<MessageReader>() <= 208,
        "{} bytes",
        size_of::<MessageReader>()
    );
}

/// A fragment and the control frames that come before it.
#[derive(Debug, Clone)]
struct Fragment {
    /// Pings (`true`) and pongs, with their payloads.
    before: Vec<(bool, Vec<u8>)>,
    payload: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Sent {
    text: bool,
    fragments: Vec<Fragment>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let control = (any::<bool>(), prop::collection::vec(any::<u8>(), 0..=125));
    let binary = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..200),
        // A byte at a time would take the test's whole time to make up.
        1 => (65_500usize..65_600, any::<u8>()).prop_map(|(len, byte)| vec![byte; len]),
    ];
    let fragment = (prop::collection::vec(control, 0..2), binary)
        .prop_map(|(before, payload)| Fragment { before, payload });
    (any::<bool>(), prop::collection::vec(fragment, 1..4)).prop_map(|(text, mut fragments)| {
        if text {
            for Fragment { payload, .. } in &mut fragments {
                payload.iter_mut().for_each(|byte| *byte &= 0x7f);
            }
        }
        Sent { text, fragments }
    })
}

fn encode(sender: Role, messages: &[Sent]) -> (Vec<u8>, Vec<Event>) {
    let mut bytes = Vec::new();
    let mut events = Vec::new();
    for Sent { text, fragments } in messages {
        let mut whole = Vec::new();
        for (index, Fragment { before, payload }) in fragments.iter().enumerate() {
            for (ping, payload) in before {
                let opcode = if *ping { OpCode::Ping } else { OpCode::Pong };
                bytes.extend_from_slice(&frame(sender, opcode, true, payload));
                let payload = Bytes::copy_from_slice(payload);
                events.push(if *ping {
                    Event::Ping(payload)
                } else {
                    Event::Pong(payload)
                });
            }
            let opcode = match (index, text) {
                (0, true) => OpCode::Text,
                (0, false) => OpCode::Binary,
                _ => OpCode::Continuation,
            };
            bytes.extend_from_slice(&frame(
                sender,
                opcode,
                index + 1 == fragments.len(),
                payload,
            ));
            whole.extend_from_slice(payload);
        }
        let whole = Bytes::from(whole);
        events.push(if *text {
            Event::Text(whole)
        } else {
            Event::Binary(whole)
        });
    }
    (bytes, events)
}

/// `bytes` in pieces whose lengths repeat `lens`.
fn split<'a>(mut bytes: &'a [u8], lens: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for len in lens.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*len).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

fn piece_lens() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1]),
        prop::collection::vec(1usize..20, 1..5),
        prop::collection::vec(1usize..100_000, 1..5),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_split_of_any_stream_gives_the_same_events(
        messages in prop::collection::vec(sent(), 0..5),
        client in any::<bool>(),
        lens in piece_lens(),
    ) {
        let sender = if client { Role::Client } else { Role::Server };
        let (bytes, expected) = encode(sender, &messages);
        let mut reader = reader_of(sender, LIMITS);
        let (events, error) = read_chunks(&mut reader, split(&bytes, &lens));
        prop_assert_eq!(error, None);
        prop_assert!(events == expected, "events differ");
        prop_assert!(!reader.is_partial());
        prop_assert_eq!(reader.body.capacity(), 0);
        prop_assert!(reader.control.is_none());
    }

    #[test]
    fn the_short_way_finds_what_a_step_finds_and_touches_nothing_else(
        message in sent(),
        client in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        damage in prop::option::of((0usize..10, any::<u8>())),
    ) {
        let sender = if client { Role::Client } else { Role::Server };
        let (mut bytes, _) = encode(sender, &[message]);
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Some((index, value)) = damage
            && let Some(byte) = bytes.get_mut(index)
        {
            *byte ^= value;
        }
        let mut short = bytes.clone();
        let found = reader_of(sender, LIMITS).whole_message(&mut short);
        match found {
            None => prop_assert!(short == bytes, "touched"),
            Some(range) => {
                let step = reader_of(sender, LIMITS).step(&mut bytes);
                let Ok(Step::InPlace { kind: MessageKind::Binary, payload }) = step else {
                    panic!("{step:?}");
                };
                prop_assert!(payload == range && bytes == short);
            }
        }
    }

    #[test]
    fn a_damaged_stream_gives_the_same_events_and_error_in_any_split(
        messages in prop::collection::vec(sent(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        lens in piece_lens(),
    ) {
        let (mut bytes, _) = encode(Role::Client, &messages);
        for (index, value) in damage {
            let index = index.index(bytes.len());
            bytes[index] ^= value;
        }
        let at_once = read_chunks(&mut reader_of(Role::Client, LIMITS), [&bytes[..]]);
        let in_parts = read_chunks(&mut reader_of(Role::Client, LIMITS), split(&bytes, &lens));
        prop_assert!(at_once == in_parts, "{:?} at once, {:?} in parts", at_once.1, in_parts.1);
    }
}
