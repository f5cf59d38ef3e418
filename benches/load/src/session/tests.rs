//! What a session makes of bytes written by hand, whole and in pieces.

use super::*;

const WELCOME: [u8; 23] = [
    2, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 1, 0, 4, 0x01, 0x00, 0x00, 0x00,
];

fn open_v2(kind: Kind, payload: usize) -> (Shape, Session) {
    let shape = Shape::new(2, Envelope::Bare, kind, payload, None);
    let mut session = Session::new(1);
    assert!(!session.begin(&shape, "h", &mut Vec::new()));
    let fed = session
        .feed(&shape, &WELCOME, &mut Vec::new())
        .expect("welcome");
    assert_eq!((fed.consumed, fed.opened), (WELCOME.len(), true));
    (shape, session)
}

fn echo(shape: &Shape, id: u32) -> Vec<u8> {
    let mut out = Vec::new();
    shape.push_head(&mut out, id);
    out.extend_from_slice(shape.send_payload(id));
    out
}

#[test]
fn echoes_count_however_they_are_cut() {
    for payload in [5, 40_000] {
        let (shape, _) = open_v2(Kind::Echo, payload);
        let stream: Vec<u8> = (1..=4).flat_map(|id| echo(&shape, id)).collect();
        for cut in [1, 7, 16, 17, 20, 21, 33, 39_999, 40_016, 50_000] {
            let (_, mut session) = open_v2(Kind::Echo, payload);
            let (mut held, mut messages) = (Vec::new(), 0);
            for piece in stream.chunks(cut) {
                held.extend_from_slice(piece);
                let fed = session
                    .feed(&shape, &held, &mut Vec::new())
                    .expect("echoes");
                held.drain(..fed.consumed);
                messages += fed.messages;
            }
            assert_eq!(
                (messages, held.len()),
                (4, 0),
                "payload {payload} cut by {cut}"
            );
        }
    }
}

#[test]
fn wrong_order_payload_type_and_length_are_noticed() {
    let (shape, _) = open_v2(Kind::Echo, 5);
    let right = echo(&shape, 1);
    let mut wrong = vec![echo(&shape, 2)];
    for (at, value) in [(2, 2), (3, 9), (15, 1), (16, !right[16]), (20, !right[20])] {
        let mut frame = right.clone();
        frame[at] = value;
        wrong.push(frame);
    }
    for frame in wrong {
        let (_, mut session) = open_v2(Kind::Echo, 5);
        assert!(
            session.feed(&shape, &frame, &mut Vec::new()).is_err(),
            "{frame:?}"
        );
    }
}

#[test]
fn ping_is_answered_and_goodbye_ends_the_run() {
    let (shape, mut session) = open_v2(Kind::Echo, 5);
    let mut out = Vec::new();
    let ping = [2, 0, 11, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 2, 0, 0, 0xab, 0xcd];
    let fed = session.feed(&shape, &ping, &mut out).expect("ping");
    assert_eq!(fed.consumed, ping.len());
    assert_eq!(
        out,
        [2, 0, 12, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 2, 0, 0, 0xab, 0xcd]
    );
    let goodbye = [
        2, 0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 16, 0, 2, 0, 6,
    ];
    let error = session
        .feed(&shape, &goodbye, &mut out)
        .expect_err("goodbye");
    assert!(error.to_string().contains("code 6"), "{error}");
}

#[test]
fn a_server_that_takes_less_than_we_send_is_refused() {
    let shape = Shape::new(2, Envelope::Bare, Kind::Echo, 100_000, None);
    let mut session = Session::new(1);
    session.begin(&shape, "h", &mut Vec::new());
    let small = [2, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert!(session.feed(&shape, &small, &mut Vec::new()).is_err());
}

#[test]
fn sink_answers_are_checked_for_lost_messages() {
    let (shape, mut session) = open_v2(Kind::Sink { every: 4 }, 5);
    session.expected = 4;
    let response = |id: u8, count: u8| {
        let mut frame = vec![2, 0, 2, 0, 0, 0, 0, id, 0, 0, 0, 0, 0, 8, 0, 0];
        frame.extend([0, 0, 0, 0, 0, 0, 0, count]);
        frame
    };
    let fed = session
        .feed(&shape, &response(4, 3), &mut Vec::new())
        .expect("first count");
    assert_eq!((fed.messages, fed.count), (4, Some(3)));
    assert!(
        session
            .feed(&shape, &response(8, 6), &mut Vec::new())
            .is_ok()
    );
    assert!(
        session
            .feed(&shape, &response(12, 8), &mut Vec::new())
            .is_err()
    );
}

#[test]
fn websocket_session_opens_by_upgrade_and_welcome() {
    let shape = Shape::new(2, Envelope::WebSocket, Kind::Echo, 5, None);
    let mut session = Session::new(1);
    let mut out = Vec::new();
    assert!(!session.begin(&shape, "h", &mut out));
    let request = String::from_utf8(out).expect("HTTP is text");
    let response = websocket::upgrade_response(&request).expect("an upgrade");
    let mut input = response.clone().into_bytes();
    input.extend([0x82, 23]);
    input.extend(WELCOME);
    input.extend([0x89, 1, 7]);
    let mut out = Vec::new();
    let fed = session
        .feed(&shape, &input, &mut out)
        .expect("upgrade and welcome");
    assert_eq!((fed.consumed, fed.opened), (input.len(), true));
    // Hello, and the pong to the ping behind Welcome.
    assert_eq!(out[0], 0x82);
    assert_eq!(out[out.len() - 7..out.len() - 5], [0x8a, 0x81]);

    let wrong = response.replace("Accept: ", "Accept: x");
    assert!(
        Session::new(1)
            .feed(&shape, wrong.as_bytes(), &mut Vec::new())
            .is_err()
    );
}
