//! Frames that lie, tear, flood or guess.

use std::time::Duration;

use msgtrans::{Packet, RequestError, Session, SessionId};
use msgtrans_testkit::adversary::{Frame, Seed, Wire, kind, memory_bytes};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::stage::{Stage, count, row, seed};

/// Sends `frame` in a session of its own and returns the code with which the server leaves.
async fn ends_with(stage: &Stage, frame: &Frame) -> u16 {
    let mut wire = stage.session().await;
    wire.send(frame).await.expect("sent");
    let goodbye = wire.recv_kind(kind::GOODBYE).await;
    let goodbye = goodbye.unwrap_or_else(|| panic!("no Goodbye after {frame:?}"));
    wire.ended().await.expect("closed");
    goodbye.code().expect("a code")
}

#[test]
fn every_version_type_and_compression_that_does_not_exist_ends_its_session() {
    row(&[("protocol_error", 740)], async |stage| {
        for byte in 0..=255 {
            let plain = Frame::v2(kind::ONE_WAY);
            if byte != 2 {
                let frame = Frame {
                    version: byte,
                    ..plain.clone()
                };
                assert_eq!(ends_with(stage, &frame).await, 2, "version {byte}");
            }
            if !matches!(byte, 0..=4 | 8..=15) {
                assert_eq!(ends_with(stage, &Frame::v2(byte)).await, 2, "type {byte}");
            }
            if byte > 3 {
                let frame = plain.compression(byte);
                assert_eq!(ends_with(stage, &frame).await, 2, "compression {byte}");
            }
        }
        // Flags of tomorrow are no reason to leave.
        let mut wire = stage.session().await;
        for bit in 0..16 {
            let flag = 1 << bit;
            // META says that the extended header has TLVs, and UNRELIABLE that this is no request.
            if flag != 16 && flag != 8 {
                let frame = Frame::v2(kind::REQUEST).id(1).flags(flag).payload("x");
                wire.send(&frame).await.expect("sent");
                wire.recv_kind(kind::RESPONSE).await.expect("answered");
            }
        }
    });
}

#[test]
fn lengths_above_the_limits_are_refused_from_the_header() {
    row(&[("too_large", 12)], async |stage| {
        for payload in [16_777_217, 0x7FFF_FFFF, 0x8000_0000, u32::MAX] {
            for ext in [0, 1, u16::MAX] {
                let frame = Frame::v2(kind::REQUEST).claiming(payload).claiming_ext(ext);
                assert_eq!(ends_with(stage, &frame).await, 3, "{payload} and {ext}");
            }
        }
    });
}

#[test]
fn a_claimed_length_holds_no_memory() {
    row(&[], async |stage| {
        let mut open = Vec::new();
        for _ in 0..200 {
            open.push(stage.session().await);
        }
        let before = memory_bytes();
        let claim = Frame::v2(kind::ONE_WAY)
            .claiming(16 * 1024 * 1024)
            .claiming_ext(u16::MAX);
        for wire in &mut open {
            wire.send(&claim).await.expect("sent");
            wire.write(&[0; 100]).await.expect("sent");
        }
        // Another session's exchange is behind them: they have been read.
        let mut other = stage.session().await;
        for id in 1..100 {
            let ask = Frame::v2(kind::REQUEST).id(id);
            other.send(&ask).await.expect("sent");
            other.recv_kind(kind::RESPONSE).await.expect("answered");
        }
        let grown = memory_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes for 200 claims of 16 MiB");
    });
}

#[test]
fn connections_cut_at_any_byte_leave_nothing_and_fail_what_waited() {
    let cuts = count("MSGTRANS_ADVERSARY_CUTS", 300);
    row(&[("gone", 1)], async |stage| {
        let mut script = Frame::hello().bytes();
        for id in 1..20 {
            Frame::v2(kind::REQUEST)
                .id(id)
                .ext([1; 30])
                .payload(vec![7; 90])
                .put(&mut script);
        }
        Frame::v2(kind::ONE_WAY)
            .payload(vec![8; 40_000])
            .put(&mut script);
        for number in 0..cuts {
            let mut seed = Seed::new(seed()).part(number);
            let mut wire = stage.raw("tcp").await;
            // Every other one in the handshake or the first request.
            let within = seed.pick(&[60, script.len()]);
            let cut = seed.below(within);
            wire.write(&script[..cut]).await.expect("sent");
            match seed.below(3) {
                0 => wire.reset(),
                1 => drop(wire),
                // Half a close: the server must not wait for the other half.
                _ => {
                    wire.stream.shutdown().await.expect("shut down");
                    wire.ended().await.expect("closed");
                }
            }
        }
        // What the server itself asked fails, instead of waiting for its deadline.
        let (wire, session) = asked(stage).await;
        let begun = Instant::now();
        let asking = tokio::spawn(async move { session.request("are you there?").await });
        let mut wire = wire;
        wire.recv_kind(kind::REQUEST).await.expect("asked");
        wire.reset();
        let error = asking.await.expect("ran").expect_err("nobody answered");
        assert!(
            matches!(error, RequestError::Send(_) | RequestError::Closed(_)),
            "{error:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
}

/// A raw session, and the server's side of it.
async fn asked(stage: &Stage) -> (Wire<TcpStream>, Session) {
    let mut wire = stage.raw("tcp").await;
    let welcome = wire.open().await.expect("a session");
    let id: [u8; 8] = welcome.tlv(7).expect("an id").try_into().expect("8 bytes");
    let id = SessionId::new(u64::from_be_bytes(id));
    let session = stage.server.session(id).expect("open");
    (wire, session)
}

#[test]
fn floods_of_empty_frames_and_pings_starve_nobody() {
    let floods = count("MSGTRANS_ADVERSARY_FLOOD", 200);
    row(&[], async |stage| {
        let mut attackers = JoinSet::new();
        for frame in [
            Frame::v2(kind::ONE_WAY),
            Frame::v2(kind::PING).payload("x"),
            Frame::v2(kind::RESPONSE).id(9),
            Frame::v2(kind::CANCEL).id(9),
        ] {
            let (reader, mut writer) = stage.session().await.stream.into_split();
            let bytes = frame.bytes().repeat(1_000);
            // Each of them a thousand frames.
            attackers.spawn(async move {
                for _ in 0..floods {
                    writer.write_all(&bytes).await.expect("still open");
                }
            });
            attackers.spawn(async move {
                let mut sink = tokio::io::sink();
                let mut reader = reader;
                let read = tokio::io::copy(&mut reader, &mut sink);
                let _ = tokio::time::timeout(Duration::from_secs(2), read).await;
            });
        }
        attackers.join_all().await;
    });
}

#[test]
fn nobody_answers_another_sessions_request() {
    let guesses = u32::try_from(count("MSGTRANS_ADVERSARY_GUESSES", 100_000)).expect("an id");
    row(&[], async |stage| {
        let (mut asked_wire, session) = asked(stage).await;
        let request = Packet::request("who are you?");
        let asking = tokio::spawn(async move { session.request(request).await });
        let question = asked_wire.recv_kind(kind::REQUEST).await.expect("asked");
        let mut thief = stage.session().await;
        let mut bytes = Vec::new();
        for id in 0..guesses {
            let packet_type = if id % 2 == 0 {
                kind::RESPONSE
            } else {
                kind::FAILURE
            };
            Frame::v2(packet_type).id(id).payload("me").put(&mut bytes);
        }
        let before = stage.server.stats().responses_unmatched;
        thief.write(&bytes).await.expect("sent");
        thief.send(&Frame::v2(kind::PING)).await.expect("sent");
        thief.recv_kind(kind::PONG).await.expect("all were read");
        // A pass is counted after it has written: the next one's answer says that it was.
        thief.send(&Frame::v2(kind::PING)).await.expect("sent");
        thief.recv_kind(kind::PONG).await.expect("all were counted");
        let unmatched = stage.server.stats().responses_unmatched - before;
        assert_eq!(unmatched, u64::from(guesses));
        let answer = Frame::v2(kind::RESPONSE)
            .id(question.message_id)
            .payload("I");
        asked_wire.send(&answer).await.expect("sent");
        let answered = asking.await.expect("ran").expect("answered");
        assert_eq!(answered.payload, "I");
    });
}
