//! Peers that break the wire format, dawdle or say nothing, by raw TCP.

use std::time::Duration;

use msgtrans::{
    Bytes, Code, Flags, Initiator, Packet, PacketType, TransportEvent, TransportServer,
    TransportServerBuilder, WireVersion,
};
use msgtrans_core::{Goodbye, HEADER_LEN, Hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, interval};

use crate::raw::{Raw, frame};
use crate::support::{Protocol, next_close, next_message, only_session, run, start, until};

async fn tcp() -> TransportServer {
    start(Protocol::Tcp.server()).await
}

/// A header by hand.
fn header(version: u8, packet_type: u8, payload_len: u32) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0] = version;
    header[2] = packet_type;
    header[10..14].copy_from_slice(&payload_len.to_be_bytes());
    header
}

/// Writes `bytes` as the first of a connection and expects silence and the end.
async fn closes_silently(bytes: &[u8]) {
    let server = tcp().await;
    let mut raw = Raw::v1(&server).await;
    raw.write(bytes).await;
    raw.closed().await;
    until(|| server.stats().handshakes_failed == 1).await;
    assert_eq!(server.session_count(), 0);
}

#[test]
fn an_unknown_version_is_closed_without_a_word() {
    run(closes_silently(&header(9, 0, 0)));
}

#[test]
fn a_first_version_2_frame_other_than_hello_is_closed_without_a_word() {
    run(closes_silently(&frame(
        &Packet::text("hi"),
        WireVersion::V2,
    )));
}

#[test]
fn a_first_frame_above_the_limits_is_closed_without_a_word() {
    run(closes_silently(&header(1, 0, u32::MAX)));
}

#[test]
fn a_version_2_type_in_a_version_1_frame_is_closed_without_a_word() {
    run(closes_silently(&header(1, PacketType::Hello.as_u8(), 0)));
}

#[test]
fn what_is_not_ours_at_all_is_closed_without_a_word() {
    run(closes_silently(
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ));
}

/// Says Hello with these TLVs and expects the Goodbye of a protocol error.
async fn refuses_hello(tlvs: &'static [u8]) {
    let server = tcp().await;
    let mut raw = Raw::v1(&server).await;
    let hello = Packet::new(PacketType::Hello, Bytes::from_static(tlvs));
    raw.speaks_v2();
    raw.send(&hello).await;
    assert_eq!(raw.goodbye().await.code, Code::PROTOCOL_ERROR);
    assert_eq!(server.session_count(), 0);
}

#[test]
fn a_hello_whose_tlv_overruns_gets_a_goodbye() {
    run(refuses_hello(&[1, 0, 9, 0]));
}

#[test]
fn a_hello_with_a_duplicate_tag_gets_a_goodbye() {
    run(refuses_hello(&[2, 0, 4, 0, 0, 0, 0, 2, 0, 4, 0, 0, 0, 0]));
}

#[test]
fn a_hello_with_a_value_of_the_wrong_length_gets_a_goodbye() {
    run(refuses_hello(&[1, 0, 2, 255, 255]));
}

#[test]
fn a_hello_with_too_small_a_frame_gets_a_goodbye() {
    run(refuses_hello(&[1, 0, 4, 0, 0, 255, 255]));
}

/// Writes `bytes` on an open session and expects the Goodbye with `code`.
async fn breaks_open_session(bytes: &[u8], code: Code) {
    let server = tcp().await;
    let mut events = server.events();
    let (mut raw, _) = Raw::v2(&server).await;
    raw.write(bytes).await;
    assert_eq!(raw.goodbye().await.code, code);
    let reason = next_close(&mut events).await;
    assert_eq!((reason.initiator, reason.code), (Initiator::Local, code));
}

#[test]
fn a_header_above_the_limits_ends_the_session_before_any_body() {
    run(breaks_open_session(
        &header(2, 0, 16 * 1024 * 1024 + 1),
        Code::TOO_LARGE,
    ));
}

#[test]
fn an_unknown_type_ends_the_session() {
    run(breaks_open_session(&header(2, 20, 0), Code::PROTOCOL_ERROR));
}

#[test]
fn a_second_hello_ends_the_session() {
    let hello = frame(&Hello::default().to_packet(), WireVersion::V2);
    run(async move { breaks_open_session(&hello, Code::PROTOCOL_ERROR).await });
}

#[test]
fn a_frame_of_the_other_version_ends_the_session() {
    run(breaks_open_session(&header(1, 0, 0), Code::PROTOCOL_ERROR));
}

#[test]
fn a_payload_that_does_not_decompress_ends_the_session() {
    let mut bytes = header(2, 0, 4).to_vec();
    bytes[1] = 1;
    bytes.extend_from_slice(b"junk");
    run(async move { breaks_open_session(&bytes, Code::PROTOCOL_ERROR).await });
}

#[test]
fn the_largest_legal_frame_is_taken() {
    run(async {
        let server = tcp().await;
        let mut events = server.events();
        let (mut raw, _) = Raw::v2(&server).await;
        let packet = Packet::binary(vec![8; 16 * 1024 * 1024]).with_ext_header(vec![9; 65_535]);
        raw.send(&packet).await;
        let received = next_message(&mut events).await;
        assert_eq!(received.payload.len(), 16 * 1024 * 1024);
        assert_eq!(received.ext_header.len(), 65_535);
    });
}

fn impatient(builder: TransportServerBuilder) -> TransportServerBuilder {
    builder.handshake_timeout(Duration::from_millis(200))
}

#[test]
fn a_trickled_hello_is_cut_at_the_absolute_deadline() {
    run(async {
        let server = start(impatient(Protocol::Tcp.server())).await;
        // Before the connection: the deadline counts from accept, which this task may hear of late.
        let begun = Instant::now();
        let mut raw = Raw::v1(&server).await;
        let auth = Some(Bytes::from(vec![1; 8_000]));
        let hello = Hello {
            auth,
            ..Hello::default()
        };
        let bytes = frame(&hello.to_packet(), WireVersion::V2);
        let mut ticks = interval(Duration::from_millis(5));
        let (mut reader, mut writer) = raw.stream.split();
        let mut answer = Vec::new();
        let trickle = async {
            for byte in bytes.chunks(1) {
                ticks.tick().await;
                if writer.write_all(byte).await.is_err() {
                    return;
                }
            }
            panic!("8 000 bytes at 5 ms each were waited for");
        };
        tokio::select! {
            _ = reader.read_to_end(&mut answer) => {}
            () = trickle => {}
        }
        assert!(
            begun.elapsed() >= Duration::from_millis(190),
            "cut too early"
        );
        until(|| server.stats().handshakes_failed == 1).await;
        assert_eq!(server.session_count(), 0);
    });
}

#[test]
fn where_only_version_2_is_spoken_silence_is_cut_at_the_deadline() {
    run(async {
        let builder = impatient(TransportServer::builder());
        let server = start(builder.with_protocol("tcp://127.0.0.1:0?wire=v2")).await;
        let mut raw = Raw::v1(&server).await;
        raw.closed().await;
        assert_eq!(server.stats().sessions_opened, 0);
        // And a version 1 frame at once.
        let mut raw = Raw::v1(&server).await;
        raw.write(&frame(&Packet::text("hi"), WireVersion::V1))
            .await;
        raw.closed().await;
        assert_eq!(server.stats().sessions_opened, 0);
    });
}

fn listens_first() -> TransportServerBuilder {
    Protocol::Tcp
        .server()
        .session_config(|config| config.listen_first_after = Duration::from_millis(20))
}

#[test]
fn a_silent_peer_becomes_a_version_1_session_and_can_be_sent_to() {
    run(async {
        let server = start(listens_first()).await;
        let mut raw = Raw::v1(&server).await;
        let session = only_session(&server).await;
        assert_eq!(session.version(), Some(WireVersion::V1));
        session
            .send(Packet::text("anybody there?"))
            .await
            .expect("sent");
        assert_eq!(
            raw.expect(PacketType::OneWay).await.payload,
            "anybody there?"
        );
        // A version 1 peer it is, from here on.
        let request = tokio::spawn({
            let session = session.clone();
            async move { session.request("yes?").await }
        });
        let asked = raw.expect(PacketType::Request).await;
        raw.send(&Packet::response("yes").with_message_id(asked.message_id))
            .await;
        assert_eq!(
            request.await.expect("ran").expect("answered").payload,
            "yes"
        );
    });
}

#[test]
fn a_late_hello_still_makes_it_version_2() {
    run(async {
        let server = start(listens_first()).await;
        let mut events = server.events();
        let mut raw = Raw::v1(&server).await;
        let session = only_session(&server).await;
        assert_eq!(session.version(), Some(WireVersion::V1));
        let welcome = raw.hello(&Hello::default()).await;
        assert_eq!(welcome.session, session.id());
        assert_eq!(session.version(), Some(WireVersion::V2));
        raw.send(&Packet::text("late")).await;
        let mut established = 0;
        loop {
            match events.next().await.expect("an event") {
                TransportEvent::ConnectionEstablished { .. } => established += 1,
                TransportEvent::MessageReceived { packet, .. } => {
                    assert_eq!(packet.payload, "late");
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(established, 1);
    });
}

#[test]
fn a_hello_after_the_server_has_written_is_too_late() {
    run(async {
        let server = start(listens_first()).await;
        let mut raw = Raw::v1(&server).await;
        let session = only_session(&server).await;
        session
            .send_confirmed(Packet::text("first"))
            .await
            .expect("sent");
        raw.expect(PacketType::OneWay).await;
        raw.write(&frame(&Hello::default().to_packet(), WireVersion::V2))
            .await;
        raw.closed().await;
        assert_eq!(session.closed().await.code, Code::PROTOCOL_ERROR);
    });
}

#[test]
fn messages_right_behind_a_hello_are_handled_after_the_welcome() {
    run(async {
        let server = tcp().await;
        let mut events = server.events();
        let mut raw = Raw::v1(&server).await;
        let mut bytes = frame(&Hello::default().to_packet(), WireVersion::V2);
        for number in 0..100 {
            bytes.extend(frame(&Packet::echo(number, "early"), WireVersion::V2));
        }
        raw.write(&bytes).await;
        raw.speaks_v2();
        raw.expect(PacketType::Welcome).await;
        for number in 0..100 {
            assert_eq!(next_message(&mut events).await.message_id, number);
        }
    });
}

#[test]
fn a_stream_that_arrives_byte_by_byte_is_read_like_any_other() {
    run(async {
        let server = tcp().await;
        let mut events = server.events();
        let mut raw = Raw::v1(&server).await;
        let mut bytes = frame(&Hello::default().to_packet(), WireVersion::V2);
        for number in 0..10 {
            let packet = Packet::echo(number, vec![7; 33]).with_ext_header("ext");
            bytes.extend(frame(&packet, WireVersion::V2));
        }
        for byte in bytes.chunks(1) {
            raw.write(byte).await;
            tokio::task::yield_now().await;
        }
        for number in 0..10 {
            let packet = next_message(&mut events).await;
            assert_eq!(packet.message_id, number);
            assert_eq!(packet.ext_header, "ext");
        }
    });
}

#[test]
fn a_ping_is_answered_with_its_own_bytes() {
    run(async {
        let server = tcp().await;
        let (mut raw, _) = Raw::v2(&server).await;
        raw.send(&Packet::numbered(PacketType::Ping, 77, "are you there"))
            .await;
        let pong = raw.expect(PacketType::Pong).await;
        assert_eq!(
            (pong.message_id, pong.payload.as_ref()),
            (77, &b"are you there"[..])
        );
    });
}

#[test]
fn ack_now_is_answered_with_the_count_of_data_frames() {
    run(async {
        let server = tcp().await;
        let (mut raw, _) = Raw::v2(&server).await;
        raw.send(&Packet::text("one")).await;
        raw.send(&Packet::text("two")).await;
        raw.send(&Packet::text("three").with_flags(Flags::ACK_NOW))
            .await;
        let ack = raw.expect(PacketType::Ack).await;
        assert_eq!(ack.payload.as_ref(), 3_u64.to_be_bytes());
    });
}

/// Pings are answered in bounded memory however many come and however little is read.
#[test]
fn a_flood_of_pings_that_nobody_reads_the_answers_of_is_bounded() {
    run(async {
        let builder = Protocol::Tcp.server().send_timeout(Duration::from_secs(2));
        let server = start(builder).await;
        let (raw, _) = Raw::v2(&server).await;
        let session = only_session(&server).await;
        let (_reader, mut writer) = raw.split();
        let ping = frame(
            &Packet::numbered(PacketType::Ping, 1, vec![1; 64]),
            WireVersion::V2,
        );
        let pings = ping.repeat(1_000);
        let flooding = tokio::spawn(async move { while writer.write_all(&pings).await.is_ok() {} });
        let reason = session.closed().await;
        assert_eq!(reason.code, Code::SLOW_CONSUMER, "{reason}");
        let stats = session.stats();
        let held = stats.bytes_in.saturating_sub(stats.bytes_out);
        // Everything read was answered, but for what fits into the bounds: reading had stopped.
        assert!(held < 2 * 1024 * 1024, "{held} bytes of answers were held");
        flooding.await.expect("the server has closed");
    });
}

#[test]
fn nothing_is_written_behind_the_goodbye_of_a_peer() {
    run(async {
        let server = tcp().await;
        let mut events = server.events();
        let (mut raw, _) = Raw::v2(&server).await;
        let mut bytes = frame(&Packet::text("before"), WireVersion::V2);
        let goodbye = Goodbye::new(Code(3_000), "that was it");
        bytes.extend(frame(
            &goodbye.to_packet(PacketType::Goodbye),
            WireVersion::V2,
        ));
        bytes.extend(frame(&Packet::text("behind"), WireVersion::V2));
        raw.write(&bytes).await;
        raw.closed().await;
        assert_eq!(next_message(&mut events).await.payload, "before");
        let reason = next_close(&mut events).await;
        assert_eq!(
            (reason.code, reason.reason.as_str()),
            (Code(3_000), "that was it")
        );
        assert_eq!(reason.initiator, Initiator::Peer);
    });
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_a_lost_connection() {
    run(async {
        let server = tcp().await;
        let mut events = server.events();
        let (mut raw, _) = Raw::v2(&server).await;
        raw.write(&header(2, 0, 100)).await;
        raw.stream.shutdown().await.expect("shut down");
        assert_eq!(next_close(&mut events).await.initiator, Initiator::Network);
    });
}

#[test]
fn a_version_1_peer_talks_both_ways_and_leaves_by_closing() {
    run(async {
        let server = tcp().await;
        let mut events = server.events();
        let mut raw = Raw::v1(&server).await;
        raw.send(&Packet::text("hello").with_message_id(5)).await;
        let session = only_session(&server).await;
        let packet = next_message(&mut events).await;
        assert_eq!(
            (packet.message_id, packet.payload.as_ref()),
            (5, &b"hello"[..])
        );
        session
            .send(Packet::text("hello to you"))
            .await
            .expect("sent");
        assert_eq!(raw.expect(PacketType::OneWay).await.payload, "hello to you");
        raw.stream.shutdown().await.expect("shut down");
        let reason = next_close(&mut events).await;
        assert_eq!(reason.initiator, Initiator::Peer, "{reason}");
        raw.closed().await;
    });
}
