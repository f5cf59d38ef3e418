//! What reaches the logs: nothing secret, and nothing that a peer could forge a line with.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use msgtrans_testkit::adversary::{Frame, kind, tlv, websocket};
use tracing_subscriber::fmt::MakeWriter;

use crate::stage::row;

/// Everything that was logged.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Paper {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut paper = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paper.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Paper {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn what_peers_say_is_escaped_in_logs_and_secrets_are_not_there() {
    const FORGED: &str = "bye\nFORGED INFO all is well\r\u{1b}[31m";
    let paper = Paper::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter("debug,msgtrans=trace")
        .with_ansi(false)
        .with_writer(paper.clone())
        .finish();
    // For the whole process: rows that run later are logged too, and nobody looks.
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    row(
        &[("unauthorized", 1), ("protocol_error", 1), ("handshake", 1)],
        async |stage| {
            let hello = |token: &str| {
                let tlvs = [tlv(4, token.as_bytes()), tlv(6, FORGED.as_bytes())];
                Frame::v2(kind::HELLO).payload(tlvs.concat())
            };
            let mut wire = stage.raw("tcp").await;
            wire.send(&hello("SECRET-TOKEN")).await.expect("sent");
            wire.recv_kind(kind::GOODBYE).await.expect("refused");

            let mut wire = stage.raw("tcp").await;
            wire.send(&hello("right")).await.expect("sent");
            wire.recv_kind(kind::WELCOME).await.expect("a session");
            for packet_type in [kind::ONE_WAY, kind::REQUEST, kind::RESPONSE, kind::FAILURE] {
                let frame = Frame::v2(packet_type).id(1).payload("SECRET-PAYLOAD");
                wire.send(&frame.ext("SECRET-HEADER")).await.expect("sent");
            }
            let bye = |packet_type| {
                let tlvs = [tlv(16, &[0, 0]), tlv(17, FORGED.as_bytes())];
                Frame::v2(packet_type).payload(tlvs.concat())
            };
            wire.send(&bye(kind::GO_AWAY)).await.expect("sent");
            wire.send(&bye(kind::GOODBYE)).await.expect("sent");
            wire.ended().await.expect("closed");

            let mut wire = stage.session().await;
            let junk = Frame::v2(kind::ONE_WAY)
                .compression(1)
                .payload("SECRET-PAYLOAD");
            wire.send(&junk).await.expect("sent");
            wire.recv_kind(kind::GOODBYE).await.expect("left");

            let mut wire = stage.raw("ws").await;
            let extra = "Origin: http://\u{1b}[31mFORGED\r\nCookie: SECRET-COOKIE\r\n";
            let request = websocket::upgrade_request("localhost", extra);
            wire.write(request.as_bytes()).await.expect("sent");
            wire.ended().await.expect("closed");
        },
    );
    let text = paper.text();
    assert!(text.contains("session closed"), "nothing was logged");
    assert!(
        text.contains("FORGED"),
        "the peer's words are not there at all"
    );
    for line in text.lines() {
        assert!(!line.starts_with("FORGED"), "a forged line: {line}");
    }
    assert!(
        !text.contains('\u{1b}') && !text.contains('\r'),
        "raw control characters"
    );
    let secret = text.lines().find(|line| line.contains("SECRET"));
    assert_eq!(secret, None);
}
