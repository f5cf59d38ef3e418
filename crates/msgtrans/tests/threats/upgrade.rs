//! WebSocket: upgrades that are too much or from elsewhere, frames that the RFC forbids, fragments without end.

use std::time::Duration;

use msgtrans_testkit::adversary::websocket::{self, ClientFrame, opcode};
use msgtrans_testkit::adversary::{Frame, Seed, Wire, cpu_time, hostile, kind};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stage::{Stage, count, row, seed};

/// A raw session of version 2 over WebSocket.
async fn session(stage: &Stage) -> Wire<TcpStream> {
    let mut wire = stage.raw("ws").await;
    let upgraded = websocket::upgrade(&mut wire.stream, "localhost").await;
    upgraded.expect("upgraded");
    send(&mut wire, &Frame::hello()).await;
    websocket::read(&mut wire.stream).await.expect("Welcome");
    wire
}

async fn send(wire: &mut Wire<TcpStream>, frame: &Frame) {
    let message = ClientFrame::new(opcode::BINARY, frame.bytes());
    wire.write(&message.bytes()).await.expect("sent");
}

/// The server's Close frame: its code.
async fn close_code(wire: &mut Wire<TcpStream>) -> Option<u16> {
    let reading = async {
        while let Some((first, payload)) = websocket::read(&mut wire.stream).await {
            if first == 0x80 | opcode::CLOSE {
                let (code, _) = payload.split_first_chunk()?;
                return Some(u16::from_be_bytes(*code));
            }
        }
        None
    };
    timeout(Duration::from_secs(10), reading).await.ok()?
}

#[test]
fn frames_that_the_rfc_forbids_are_answered_by_a_close_with_a_code() {
    let frames = count("MSGTRANS_ADVERSARY_FRAMES", 150);
    let expected = [("protocol_error", 1), ("too_large", 1)];
    row(&expected, async |stage| {
        for number in 0..frames {
            let (bytes, why) = hostile::fatal_websocket(&mut Seed::new(seed()).part(number));
            let mut wire = session(stage).await;
            wire.write(&bytes).await.expect("sent");
            let code = close_code(&mut wire).await;
            let right = match why {
                "a length above every limit" => matches!(code, Some(1009)),
                _ => matches!(code, Some(1002 | 1003 | 1009)),
            };
            assert!(right, "{code:?} for {why}");
        }
    });
}

/// A message in so many fragments of so many bytes.
fn fragments(count: usize, len: usize, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        let code = if number == 0 {
            opcode::BINARY
        } else {
            opcode::CONTINUATION
        };
        let part = payload
            .get(number * len..(number + 1) * len)
            .unwrap_or_default();
        let fragment = ClientFrame::new(code, part);
        if number + 1 == count {
            fragment.put(&mut bytes);
        } else {
            fragment.unfinished().put(&mut bytes);
        }
    }
    bytes
}

#[test]
fn many_small_fragments_are_a_message_and_empty_ones_without_end_are_not() {
    row(&[("too_large", 1)], async |stage| {
        let mut wire = session(stage).await;
        let packet = Frame::v2(kind::REQUEST)
            .id(5)
            .payload(vec![3; 64 * 16_384 - 16]);
        let bytes = fragments(16_384, 64, &packet.bytes());
        wire.write(&bytes).await.expect("sent");
        let (_, answer) = websocket::read(&mut wire.stream).await.expect("answered");
        let answer = Frame::parse(&answer).expect("a frame");
        assert_eq!(
            (answer.packet_type, answer.payload.len()),
            (kind::RESPONSE, packet.payload.len())
        );

        let flood = fragments(1_000_000, 0, &[]);
        let (mut reader, mut writer) = session(stage).await.stream.into_split();
        let flooding = tokio::spawn(async move {
            // The server closes long before all of it has gone.
            tokio::io::AsyncWriteExt::write_all(&mut writer, &flood)
                .await
                .is_err()
        });
        let mut code = None;
        while let Some((first, payload)) = websocket::read(&mut reader).await {
            if first == 0x80 | opcode::CLOSE {
                code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
            }
        }
        drop(reader);
        let cut = flooding.await.expect("ran");
        assert!(cut, "a million empty fragments were taken, code {code:?}");
    });
}

#[test]
fn pages_of_other_origins_are_refused() {
    let foreign = 10;
    row(&[("handshake", foreign), ("gone", 1)], async |stage| {
        let host = stage.address("ws");
        let own = format!("http://{host}");
        let other_port = format!("http://{}:{}", host.ip(), host.port() ^ 1);
        let table = [
            (own.as_str(), 101),
            ("https://example.com", 403),
            ("http://evil-127.0.0.1", 403),
            ("http://127.0.0.1.evil.example", 403),
            ("null", 403),
            ("", 403),
            ("http://127.0.0.1", 403),
            (other_port.as_str(), 403),
            ("http://localhost", 403),
            ("http://user@127.0.0.1", 403),
            ("file://", 403),
            ("http://127.0.0.1:1/../", 403),
        ];
        for (origin, status) in table {
            let mut wire = stage.raw("ws").await;
            let extra = format!("Origin: {origin}\r\n");
            let request = websocket::upgrade_request(&host.to_string(), &extra);
            wire.write(request.as_bytes()).await.expect("sent");
            let (answer, _) = websocket::response(&mut wire.stream)
                .await
                .expect("answered");
            assert_eq!(answer, status, "{origin:?}");
        }
        // No page sends none: a program may come without.
        session(stage).await;
    });
}

#[test]
fn upgrades_that_are_too_much_are_refused_in_linear_time() {
    row(&[("handshake", 6), ("gone", 3)], async |stage| {
        let many: String = (0..2_000).map(|n| format!("X-{n}: 1\r\n")).collect();
        let long = format!("X-Long: {}\r\n", "a".repeat(64 * 1024));
        let spaces = format!("X-Spaces:{}1\r\n", " ".repeat(64 * 1024));
        let names = format!("{}: 1\r\n", "N".repeat(64 * 1024));
        let folded = "X-Folded: 1\r\n 2\r\n".repeat(500);
        let doubled = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n".to_owned();
        for extra in [many, long, spaces, names, folded, doubled] {
            let mut wire = stage.raw("ws").await;
            let request = websocket::upgrade_request("localhost", &extra);
            // The server may have answered before it has read all of it.
            let _ = wire.write(request.as_bytes()).await;
            let (status, head) = websocket::response(&mut wire.stream)
                .await
                .expect("answered");
            assert!(matches!(status, 400 | 431), "{head} for {}", &extra[..20]);
            wire.ended().await.expect("closed");
        }
        // The same request whole and byte by byte: the second costs more reads, not the square of its length.
        let extra: String = (0..50)
            .map(|n| format!("X-{n}: {}\r\n", "v".repeat(100)))
            .collect();
        let request = websocket::upgrade_request("localhost", &extra);
        let before = cpu_time();
        for _ in 0..3 {
            let mut wire = stage.raw("ws").await;
            for byte in request.as_bytes() {
                wire.write(&[*byte]).await.expect("sent");
            }
            let (status, _) = websocket::response(&mut wire.stream)
                .await
                .expect("answered");
            assert_eq!(status, 101);
        }
        let cost = cpu_time() - before;
        // 18 000 reads and writes, and as many looks at a growing head.
        assert!(cost.as_secs() < 15, "{cost:?} of processor time");
        // Frames right behind the request, before the answer, are frames all the same.
        let mut wire = stage.raw("ws").await;
        let request =
            websocket::upgrade_request("localhost", "Sec-WebSocket-Protocol: msgtrans.v2\r\n");
        let hello = ClientFrame::new(opcode::BINARY, Frame::hello().bytes()).bytes();
        wire.write(&[request.as_bytes(), &hello].concat())
            .await
            .expect("sent");
        let (status, _) = websocket::response(&mut wire.stream)
            .await
            .expect("answered");
        assert_eq!(status, 101);
        let (_, welcome) = websocket::read(&mut wire.stream).await.expect("Welcome");
        assert_eq!(welcome[2], kind::WELCOME);
    });
}
