//! The connection over an in-memory pipe: packets, pings, closes, and what ends it. No runtime: every
//! poll is made by hand.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use msgtrans_core::{OutBuffer, Packet, PacketType, PeerAddress, encode};
use msgtrans_transport::Confirmation;
use tokio::io::{DuplexStream, ReadBuf, duplex};

use super::*;
use crate::frame::encode_frame_header;
use crate::message::Event;

const BUDGET: usize = 1 << 20;

fn connection_on(stream: DuplexStream, role: Role) -> WebSocketConnection<DuplexStream> {
    let info = ConnectionInfo::new("ws", PeerAddress::Local("test".to_owned()));
    let (accept, limits) = (WireVersions::Any, Limits::default());
    WebSocketConnection::new(stream, role, BytesMut::new(), info, accept, limits, false)
}

/// A connection whose version is settled, and its peer's end of the pipe.
fn opened(role: Role, pipe: usize) -> (WebSocketConnection<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(pipe);
    let mut connection = connection_on(ours, role);
    connection.set_wire(WireVersion::V2, Limits::default());
    (connection, theirs)
}

fn with_context<T>(run: impl FnOnce(&mut Context<'_>) -> T) -> T {
    run(&mut Context::from_waker(Waker::noop()))
}

fn recv<S: AsyncRead + AsyncWrite + Unpin + Send>(
    connection: &mut WebSocketConnection<S>,
    into: &mut PacketBatch,
) -> Poll<Result<Received, ConnectionError>> {
    with_context(|cx| connection.poll_recv(cx, BUDGET, into))
}

/// What `poll_recv` says when nothing is to come, with the packets it brought on the way.
fn drain(
    connection: &mut WebSocketConnection<DuplexStream>,
) -> (Vec<Packet>, Poll<Result<Received, ConnectionError>>) {
    let mut batch = PacketBatch::new();
    let mut packets = Vec::new();
    loop {
        let outcome = recv(connection, &mut batch);
        packets.extend(std::iter::from_fn(|| batch.pop()));
        if !matches!(outcome, Poll::Ready(Ok(Received::Packets))) {
            return (packets, outcome);
        }
    }
}

fn write_raw(peer: &mut DuplexStream, bytes: &[u8]) {
    let written = with_context(|cx| Pin::new(peer).poll_write(cx, bytes));
    assert!(
        matches!(written, Poll::Ready(Ok(count)) if count == bytes.len()),
        "{written:?}"
    );
}

/// What has come to the peer; empty at the end of the stream, too.
fn read_raw(peer: &mut DuplexStream) -> BytesMut {
    let mut memory = vec![0; 1 << 20];
    let mut buffer = ReadBuf::new(&mut memory);
    with_context(|cx| {
        while let Poll::Ready(Ok(())) = {
            let before = buffer.filled().len();
            let read = Pin::new(&mut *peer).poll_read(cx, &mut buffer);
            if buffer.filled().len() == before {
                Poll::Pending
            } else {
                read
            }
        } {}
    });
    BytesMut::from(buffer.filled())
}

/// The messages and control frames in `bytes`, which a server wrote.
fn events_of_server(mut bytes: BytesMut) -> Vec<Event> {
    let limits = MessageLimits {
        message_bytes_max: 1 << 20,
        text: true,
    };
    let mut reader = MessageReader::new(Role::Client, limits);
    let events = std::iter::from_fn(|| reader.next_event(&mut bytes).expect("legal frames"));
    events.collect()
}

fn frame_of(packet: &Packet) -> Vec<u8> {
    let mut out = OutBuffer::new();
    encode(packet, WireVersion::V2, &mut out).expect("encodable");
    let mut bytes = Vec::new();
    while !out.is_empty() {
        bytes.extend_from_slice(&out.take_bytes(usize::MAX));
    }
    bytes
}

/// `payload` as the client sends it.
fn client_frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    append_frame(&mut out, Role::Client, opcode, payload);
    out.to_vec()
}

fn message(packet: &Packet) -> Vec<u8> {
    client_frame(OpCode::Binary, &frame_of(packet))
}

fn text(text: &str) -> Packet {
    Packet::text(text)
}

fn batch_of(connection: &impl Connection, packets: &[Packet]) -> OutboundBatch {
    let mut batch = OutboundBatch::new(connection.framing(), WireVersion::V2);
    for packet in packets {
        batch.push(packet).expect("encodable");
    }
    batch
}

#[test]
fn packets_cross_in_both_directions_through_a_pipe_of_any_width() {
    let packets: Vec<_> = [0, 1, 64, 1_000, 5_000, 70_000, 300_000]
        .iter()
        .map(|&len| Packet::binary((0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>()))
        .collect();
    for pipe in [7, 1_000, 1 << 20] {
        for sender_role in [Role::Server, Role::Client] {
            let receiver_role = match sender_role {
                Role::Server => Role::Client,
                Role::Client => Role::Server,
            };
            let (mut sender, stream) = opened(sender_role, pipe);
            let mut receiver = connection_on(stream, receiver_role);
            receiver.set_wire(WireVersion::V2, Limits::default());

            let mut out = batch_of(&sender, &packets);
            let mut received = Vec::new();
            loop {
                let sent = with_context(|cx| sender.poll_send(cx, &mut out));
                received.extend(drain(&mut receiver).0);
                if sent.is_ready() {
                    break;
                }
            }
            let same = |(a, b): (&Packet, &Packet)| a.payload == b.payload;
            assert_eq!(
                received.len(),
                packets.len(),
                "{sender_role:?} through {pipe}"
            );
            assert!(
                received.iter().zip(&packets).all(same),
                "{sender_role:?} through {pipe}"
            );
            assert_eq!(sender.progress().written, receiver.progress().read);
            assert!(
                receiver.chunk.is_empty() && receiver.chunk.capacity() == 0,
                "a buffer is kept"
            );
        }
    }
}

#[test]
fn one_packet_a_call_until_the_version_is_settled() {
    let (ours, mut peer) = duplex(1 << 20);
    let mut connection = connection_on(ours, Role::Server);
    write_raw(
        &mut peer,
        &[
            message(&text("a")),
            message(&text("b")),
            message(&text("c")),
        ]
        .concat(),
    );
    let mut batch = PacketBatch::new();
    assert!(matches!(
        recv(&mut connection, &mut batch),
        Poll::Ready(Ok(Received::Packets))
    ));
    assert_eq!(batch.len(), 1);
    connection.set_wire(WireVersion::V2, Limits::default());
    assert!(matches!(
        recv(&mut connection, &mut batch),
        Poll::Ready(Ok(Received::Packets))
    ));
    assert_eq!(batch.len(), 3);
}

#[test]
fn the_budget_stops_a_call_and_the_next_goes_on_without_reading() {
    let (mut connection, mut peer) = opened(Role::Server, 1 << 20);
    let many: Vec<u8> = (0..10).flat_map(|_| message(&text("hello"))).collect();
    write_raw(&mut peer, &many);
    let mut batch = PacketBatch::new();
    let first = with_context(|cx| connection.poll_recv(cx, 1, &mut batch));
    assert!(matches!(first, Poll::Ready(Ok(Received::Packets))));
    assert_eq!(batch.len(), 1);
    drop(peer);
    assert_eq!(drain(&mut connection).0.len(), 9);
}

#[test]
fn frames_that_came_right_behind_the_upgrade_are_read_first() {
    let (ours, _peer) = duplex(64);
    let info = ConnectionInfo::new("ws", PeerAddress::Local("test".to_owned()));
    let early = BytesMut::from(&message(&text("early"))[..]);
    let (accept, limits) = (WireVersions::Any, Limits::default());
    let mut connection =
        WebSocketConnection::new(ours, Role::Server, early, info, accept, limits, false);
    let mut batch = PacketBatch::new();
    assert!(matches!(
        recv(&mut connection, &mut batch),
        Poll::Ready(Ok(Received::Packets))
    ));
}

#[test]
fn a_negotiated_version_narrows_what_the_first_frame_may_be() {
    let (ours, mut peer) = duplex(1 << 10);
    let info = ConnectionInfo::new("ws", PeerAddress::Local("test".to_owned()))
        .negotiated(WireVersion::V1);
    let (early, accept) = (BytesMut::new(), WireVersions::Any);
    let limits = Limits::default();
    let mut connection =
        WebSocketConnection::new(ours, Role::Server, early, info, accept, limits, false);
    write_raw(&mut peer, &message(&text("version 2")));
    let refused = DecodeError::VersionRefused {
        version: WireVersion::V2,
    };
    let outcome = drain(&mut connection).1;
    assert!(matches!(outcome, Poll::Ready(Err(ConnectionError::Decode(e))) if e == refused));
}

#[test]
fn packets_in_front_of_a_broken_message_are_delivered_first() {
    let two_frames = [frame_of(&text("one")), frame_of(&text("two"))].concat();
    let half_a_frame = &frame_of(&text("whole"))[..18];
    for broken in [&two_frames[..], half_a_frame, b"", b"no header"] {
        let (mut connection, mut peer) = opened(Role::Server, 1 << 20);
        let stream = [message(&text("fine")), client_frame(OpCode::Binary, broken)].concat();
        write_raw(&mut peer, &stream);
        let (packets, outcome) = drain(&mut connection);
        assert_eq!(packets.len(), 1);
        assert!(
            matches!(
                outcome,
                Poll::Ready(Err(ConnectionError::Decode(
                    DecodeError::NotOneFrame { .. }
                )))
            ),
            "{outcome:?}"
        );
        // The same again for who asks again.
        let again = drain(&mut connection).1;
        assert!(
            matches!(again, Poll::Ready(Err(ConnectionError::Decode(_)))),
            "{again:?}"
        );
    }
}

#[test]
fn what_websocket_forbids_closes_with_the_right_code() {
    let too_large = encode_frame_header(OpCode::Binary, 1 << 30, Some([0; 4]));
    let cases: [(&[u8], Code, u16); 3] = [
        (
            &client_frame(OpCode::Text, b"hi"),
            Code::PROTOCOL_ERROR,
            1002,
        ),
        (&[0x82, 0x01, 0x00], Code::PROTOCOL_ERROR, 1002),
        (&too_large, Code::TOO_LARGE, 1009),
    ];
    for (bytes, code, close_code) in cases {
        let (mut connection, mut peer) = opened(Role::Server, 1 << 20);
        write_raw(&mut peer, bytes);
        let Poll::Ready(Err(ConnectionError::Closed(reason))) = drain(&mut connection).1 else {
            panic!("{bytes:02x?} was accepted");
        };
        assert_eq!((reason.code, reason.initiator), (code, Initiator::Local));
        let closing = with_context(|cx| connection.poll_close(cx, &reason));
        assert!(closing.is_pending(), "waits for the peer's Close frame");
        let events = events_of_server(read_raw(&mut peer));
        let [Event::Close(Some(close))] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(close.code, close_code);
        drop(peer);
        let closed = with_context(|cx| connection.poll_close(cx, &reason));
        assert!(matches!(closed, Poll::Ready(Ok(()))), "{closed:?}");
    }
}

#[test]
fn a_packet_that_is_refused_is_refused_on_its_first_bytes() {
    let (mut connection, mut peer) = opened(Role::Server, 1 << 20);
    let limits = Limits::new(100_000, 1_000).expect("legal limits");
    connection.set_wire(WireVersion::V2, limits);
    // Within what a frame may have, above what its payload may have.
    let frame = frame_of(&Packet::binary(vec![0; 100_500]));
    write_raw(&mut peer, &client_frame(OpCode::Binary, &frame)[..100]);
    let outcome = drain(&mut connection).1;
    assert!(
        matches!(
            outcome,
            Poll::Ready(Err(ConnectionError::Decode(
                DecodeError::PayloadTooLarge { .. }
            )))
        ),
        "{outcome:?}"
    );
}

#[test]
fn a_ping_is_answered_without_a_send() {
    let (mut connection, mut peer) = opened(Role::Server, 1 << 10);
    let pings = [
        client_frame(OpCode::Ping, b"one"),
        client_frame(OpCode::Ping, b"two"),
    ]
    .concat();
    write_raw(&mut peer, &pings);
    assert!(drain(&mut connection).1.is_pending());
    let answer = Event::Pong(Bytes::from_static(b"two"));
    assert_eq!(
        events_of_server(read_raw(&mut peer)),
        [answer],
        "the most recent one is answered"
    );
    assert!(connection.control.is_none());
}

#[test]
fn a_ping_amid_a_batch_is_answered_between_frames() {
    let (mut connection, mut peer) = opened(Role::Server, 100);
    let mut out = batch_of(&connection, &[Packet::binary(vec![1; 300]), text("last")]);
    assert!(with_context(|cx| connection.poll_send(cx, &mut out)).is_pending());
    write_raw(&mut peer, &client_frame(OpCode::Ping, b"alive?"));
    assert!(drain(&mut connection).1.is_pending());

    let mut bytes = read_raw(&mut peer);
    while with_context(|cx| connection.poll_send(cx, &mut out)).is_pending() {
        bytes.unsplit(read_raw(&mut peer));
    }
    bytes.unsplit(read_raw(&mut peer));
    let events = events_of_server(bytes);
    let [Event::Binary(first), Event::Binary(last), Event::Pong(pong)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(
        (first.len(), last.len(), &pong[..]),
        (316, 20, &b"alive?"[..])
    );
}

#[test]
fn a_pong_that_was_cut_off_is_finished_before_the_next_batch() {
    let (mut connection, mut peer) = opened(Role::Server, 70);
    write_raw(&mut peer, &client_frame(OpCode::Ping, &[7; 60]));
    // Fills the pipe to the peer, so that the pong does not fit.
    let mut out = batch_of(&connection, &[Packet::binary(vec![1; 30])]);
    assert!(with_context(|cx| connection.poll_send(cx, &mut out)).is_ready());
    assert!(drain(&mut connection).1.is_pending());
    let left = connection
        .control
        .as_ref()
        .map_or(0, |control| control.len());
    assert!((1..62).contains(&left), "cut off, {left} bytes left");

    let mut out = batch_of(&connection, &[text("next")]);
    let mut bytes = read_raw(&mut peer);
    while with_context(|cx| connection.poll_send(cx, &mut out)).is_pending() {
        bytes.unsplit(read_raw(&mut peer));
    }
    bytes.unsplit(read_raw(&mut peer));
    let kinds: Vec<_> = events_of_server(bytes)
        .iter()
        .map(|event| matches!(event, Event::Pong(_)))
        .collect();
    assert_eq!(kinds, [false, true, false]);
}

struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed); // Relaxed: one thread
    }
}

#[test]
fn a_flood_of_pings_lets_others_run() {
    let (mut connection, mut peer) = opened(Role::Server, 1 << 20);
    let flood = client_frame(OpCode::Pong, b"").repeat(3 * CONTROL_FRAMES_MAX);
    write_raw(&mut peer, &flood);
    let wakes = Arc::new(Wakes(AtomicUsize::new(0)));
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let mut batch = PacketBatch::new();
    assert!(
        connection
            .poll_recv(&mut cx, BUDGET, &mut batch)
            .is_pending()
    );
    assert_eq!(
        wakes.0.load(Ordering::Relaxed),
        1,
        "it asks to be called again"
    );
    assert!(
        !connection.chunk.is_empty(),
        "it has not looked at everything"
    );

    for _ in 0..3 {
        assert!(
            connection
                .poll_recv(&mut cx, BUDGET, &mut batch)
                .is_pending()
        );
    }
    assert!(connection.chunk.is_empty());
    write_raw(&mut peer, &message(&text("still served")));
    assert!(matches!(
        recv(&mut connection, &mut batch),
        Poll::Ready(Ok(Received::Packets))
    ));
}

#[test]
fn both_sides_close_in_good_order() {
    let (mut server, stream) = opened(Role::Server, 1 << 10);
    let mut client = connection_on(stream, Role::Client);
    client.set_wire(WireVersion::V2, Limits::default());
    let reason = CloseReason::local(Code::GOING_AWAY, "restart");
    assert!(with_context(|cx| server.poll_close(cx, &reason)).is_pending());

    assert!(matches!(
        drain(&mut client).1,
        Poll::Ready(Ok(Received::End))
    ));
    let closed = with_context(|cx| client.poll_close(cx, &CloseReason::normal()));
    assert!(matches!(closed, Poll::Ready(Ok(()))), "{closed:?}");
    let closed = with_context(|cx| server.poll_close(cx, &reason));
    assert!(matches!(closed, Poll::Ready(Ok(()))), "{closed:?}");
}

#[test]
fn a_close_reads_on_past_packets_and_gives_up_at_the_bound() {
    let (mut connection, mut peer) = opened(Role::Server, 1 << 20);
    let reason = CloseReason::normal();
    let packet = message(&Packet::binary(vec![0; 10_000]));
    write_raw(&mut peer, &packet);
    write_raw(&mut peer, &packet);
    assert!(with_context(|cx| connection.poll_close(cx, &reason)).is_pending());
    write_raw(&mut peer, &packet.repeat(5));
    let closed = with_context(|cx| connection.poll_close(cx, &reason));
    assert!(matches!(closed, Poll::Ready(Ok(()))), "{closed:?}");
}

#[test]
fn a_lost_connection_is_closed_without_a_word() {
    let (mut connection, mut peer) = opened(Role::Server, 1 << 10);
    let reason = CloseReason::network(Code::TIMEOUT, "silent");
    let closed = with_context(|cx| connection.poll_close(cx, &reason));
    assert!(matches!(closed, Poll::Ready(Ok(()))), "{closed:?}");
    assert!(read_raw(&mut peer).is_empty());
}

#[test]
fn a_close_frame_is_answered_even_where_the_session_counts_as_lost() {
    let (mut connection, mut peer) = opened(Role::Server, 1 << 10);
    let mut close = BytesMut::new();
    append_close(&mut close, Role::Client, 1000, "");
    write_raw(&mut peer, &close);
    assert!(matches!(
        drain(&mut connection).1,
        Poll::Ready(Ok(Received::End))
    ));
    let reason = CloseReason::network(Code::INTERNAL, "ended without goodbye");
    let closed = with_context(|cx| connection.poll_close(cx, &reason));
    assert!(matches!(closed, Poll::Ready(Ok(()))), "{closed:?}");
    let events = events_of_server(read_raw(&mut peer));
    let [Event::Close(Some(close))] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(close.code, 1000);
}

#[test]
fn the_peer_s_close_code_is_reported_unless_it_means_an_orderly_end() {
    for (code, expected) in [
        (1000, None),
        (1001, None),
        (1002, Some(Code::PROTOCOL_ERROR)),
        (1009, Some(Code::TOO_LARGE)),
        (1011, Some(Code::INTERNAL)),
        (4_001, Some(Code(4_001))),
    ] {
        let (mut connection, mut peer) = opened(Role::Server, 1 << 10);
        let mut close = BytesMut::new();
        append_close(&mut close, Role::Client, code, "why");
        write_raw(
            &mut peer,
            &[message(&text("before")), close.to_vec()].concat(),
        );
        let (packets, outcome) = drain(&mut connection);
        assert_eq!(packets.len(), 1);
        match (outcome, expected) {
            (Poll::Ready(Ok(Received::End)), None) => {}
            (Poll::Ready(Err(ConnectionError::Closed(reason))), Some(code)) => {
                assert_eq!(reason, CloseReason::peer(code, "why"));
            }
            other => panic!("code {code}: {other:?}"),
        }
    }
}

#[test]
fn the_end_of_the_stream_is_an_end_only_between_messages() {
    let whole = message(&text("hello"));
    for cut in 0..=whole.len() {
        let (mut connection, mut peer) = opened(Role::Server, 1 << 10);
        write_raw(&mut peer, &whole[..cut]);
        drop(peer);
        let outcome = drain(&mut connection).1;
        let between = cut == 0 || cut == whole.len();
        match outcome {
            Poll::Ready(Ok(Received::End)) => assert!(between, "cut at {cut}"),
            Poll::Ready(Err(ConnectionError::Truncated { .. })) => {
                assert!(!between, "cut at {cut}");
            }
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
}

#[test]
fn a_confirmation_is_completed_with_its_bytes() {
    let (mut connection, mut peer) = opened(Role::Server, 30);
    let mut out = batch_of(&connection, &[text("a")]);
    let (first, mut first_done) = Confirmation::new();
    out.confirm(first);
    out.push(&Packet::new(PacketType::OneWay, vec![0; 100]))
        .expect("encodable");
    let (second, mut second_done) = Confirmation::new();
    out.confirm(second);
    let done = |confirmed: &mut msgtrans_transport::Confirmed| {
        with_context(|cx| Pin::new(confirmed).poll(cx))
    };
    assert!(with_context(|cx| connection.poll_send(cx, &mut out)).is_pending());
    assert_eq!(done(&mut first_done), Poll::Ready(true));
    assert_eq!(done(&mut second_done), Poll::Pending);
    while with_context(|cx| connection.poll_send(cx, &mut out)).is_pending() {
        read_raw(&mut peer);
    }
    assert_eq!(done(&mut second_done), Poll::Ready(true));
}

#[test]
fn an_idle_connection_is_small() {
    let size = size_of::<WebSocketConnection<tokio::net::TcpStream>>();
    assert!(size <= 272, "{size} bytes");
}
