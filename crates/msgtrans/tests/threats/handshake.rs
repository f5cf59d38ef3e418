//! Peers that flood, dawdle or lie before they have a session.

use std::net::IpAddr;
use std::time::Duration;

use msgtrans::TransportServerBuilder;
use msgtrans_testkit::adversary::{Frame, Wire, kind, tcp_from, tlv, websocket};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::stage::{count, row, row_with, tls_to};

/// Short enough for a test, long enough that cutting before it shows.
const HANDSHAKE: Duration = Duration::from_secs(1);

fn impatient(builder: TransportServerBuilder) -> TransportServerBuilder {
    builder.handshake_timeout(HANDSHAKE)
}

/// Writes a byte every 20 ms, until the server has had enough; when that was.
async fn trickle(stream: impl AsyncRead + AsyncWrite, bytes: Vec<u8>) -> Duration {
    let begun = Instant::now();
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = Box::pin(reader);
    let mut ticks = interval(Duration::from_millis(20));
    let writing = async {
        for byte in bytes.iter().cycle() {
            ticks.tick().await;
            if writer.write_all(&[*byte]).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    };
    let mut sink = tokio::io::sink();
    tokio::select! {
        () = writing => {}
        _ = tokio::io::copy(&mut reader, &mut sink) => {}
    }
    begun.elapsed()
}

fn assert_in_time(cut: &[Duration]) {
    for after in cut {
        // A quarter of a second for the connection itself and a busy machine's lateness in counting from accept.
        assert!(
            *after > HANDSHAKE - Duration::from_millis(250),
            "cut after {after:?}"
        );
        assert!(*after < HANDSHAKE * 5, "cut after {after:?} only");
    }
}

#[test]
fn a_flood_of_connections_from_one_address_is_served_beside_everybody_else() {
    let connections = count("MSGTRANS_ADVERSARY_CONNECTIONS", 1_500);
    row(&[("gone", 1_000)], async |stage| {
        let source: IpAddr = [127, 0, 0, 2].into();
        let address = stage.address("tcp");
        let mut flood = JoinSet::new();
        for number in 0..connections {
            if flood.len() >= 64 {
                flood.join_next().await.expect("one").expect("ran");
            }
            flood.spawn(async move {
                let Ok(stream) = tcp_from(source, address).await else {
                    return;
                };
                let mut wire = Wire::over(stream);
                match number % 4 {
                    0 => drop(wire),
                    1 => wire.reset(),
                    2 => {
                        // Half a header.
                        let _ = wire.write(&Frame::hello().bytes()[..8]).await;
                        wire.reset();
                    }
                    _ => {
                        let _ = wire.open().await;
                    }
                }
            });
        }
        flood.join_all().await;
    });
}

#[test]
fn a_first_frame_that_trickles_is_cut_at_the_deadline() {
    let peers = count("MSGTRANS_ADVERSARY_SLOW", 200);
    let report = row_with(impatient, &[("timeout", 200)], async |stage| {
        let mut slow = JoinSet::new();
        let auth = tlv(4, &[1; 8_000]);
        let hello = Frame::v2(kind::HELLO).payload(auth).bytes();
        for _ in 0..peers {
            let stream = stage.raw("tcp").await.stream;
            slow.spawn(trickle(stream, hello.clone()));
        }
        assert_in_time(&slow.join_all().await);
    });
    assert_eq!(report.rejected("timeout"), peers);
}

#[test]
fn one_deadline_spans_tls_the_upgrade_and_hello() {
    let peers = count("MSGTRANS_ADVERSARY_SLOW", 40);
    row_with(impatient, &[("timeout", 160)], async |stage| {
        let mut slow = JoinSet::new();
        // A TLS record that claims to be a ClientHello of 512 bytes.
        let record = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 500]].concat();
        let request = websocket::upgrade_request("localhost", "").into_bytes();
        let auth = tlv(4, &[1; 8_000]);
        let hello = Frame::v2(kind::HELLO).payload(auth).bytes();
        for _ in 0..peers {
            for scheme in ["tls", "wss"] {
                let stream = stage.raw(scheme).await.stream;
                slow.spawn(trickle(stream, record.clone()));
            }
            let stream = stage.raw("ws").await.stream;
            slow.spawn(trickle(stream, request[..40].to_vec()));
            let (tls, wss) = (stage.address("tls"), stage.address("wss"));
            let (hello, request) = (hello.clone(), request.clone());
            slow.spawn(async move {
                let begun = Instant::now();
                let stream = tls_to(tls).await.expect("a handshake");
                trickle(stream, hello).await;
                begun.elapsed()
            });
            slow.spawn(async move {
                let begun = Instant::now();
                let stream = tls_to(wss).await.expect("a handshake");
                trickle(stream, request[..40].to_vec()).await;
                begun.elapsed()
            });
        }
        assert_in_time(&slow.join_all().await);
    });
}

#[test]
fn a_client_of_an_old_tls_is_refused() {
    row(&[("handshake", 4)], async |stage| {
        for scheme in ["tls", "wss"] {
            for minor in [1, 2] {
                // TLS 1.0 and 1.1: two suites of theirs, no extensions.
                let mut hello = vec![3, minor];
                hello.extend_from_slice(&[9; 32]);
                hello.extend_from_slice(&[0, 0, 4, 0, 0x2F, 0, 0x35, 1, 0]);
                let len = u8::try_from(hello.len()).expect("short");
                let mut record = vec![22, 3, 1, 0, len + 4, 1, 0, 0, len];
                record.extend(hello);
                let mut wire = stage.raw(scheme).await;
                wire.write(&record).await.expect("sent");
                // An alert is 7 bytes; a ServerHello would be far more.
                let answer = wire.ended().await.expect("closed");
                assert!(answer <= 7, "{answer} bytes for TLS 1.{}", minor - 1);
            }
        }
    });
}

/// A Hello with this token.
fn hello_with(token: &[u8]) -> Frame {
    Frame::v2(kind::HELLO).payload(tlv(4, token))
}

#[test]
fn nothing_behind_a_hello_is_handled_before_its_peer_is_let_in() {
    let guesses = count("MSGTRANS_ADVERSARY_GUESSES", 300);
    let expected = [("unauthorized", 301), ("timeout", 1)];
    row_with(impatient, &expected, async |stage| {
        // Would panic if it were handled.
        let behind = Frame::v2(kind::ONE_WAY).payload("panic").bytes();
        let mut wire = stage.raw("tcp").await;
        let bytes = [hello_with(b"wrong").bytes(), behind.repeat(50)].concat();
        wire.write(&bytes).await.expect("sent");
        let goodbye = wire.recv_kind(kind::GOODBYE).await.expect("refused");
        assert_eq!(goodbye.code(), Some(4));
        for guess in 0..guesses {
            let mut wire = stage.raw("tcp").await;
            let hello = hello_with(&guess.to_be_bytes());
            wire.send(&hello).await.expect("sent");
            let goodbye = wire.recv_kind(kind::GOODBYE).await.expect("refused");
            assert_eq!(goodbye.code(), Some(4));
        }
        // An authenticator that never decides: what is behind waits in the kernel, and the deadline ends it.
        let mut wire = stage.raw("tcp").await;
        wire.send(&hello_with(b"never")).await.expect("sent");
        let flood = behind.repeat(1_000);
        while wire.write(&flood).await.is_ok() {}
        assert_eq!(stage.server.session_count(), 7, "the canaries alone");
    });
}
