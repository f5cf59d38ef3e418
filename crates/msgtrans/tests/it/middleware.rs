//! Middleware and compression: what every packet passes on its way.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use msgtrans::{
    Code, Compression, ConnectRequest, Handler, HandlerError, Middleware, Packet, PacketType,
    Refusal, SendErrorKind, Session, WireVersion,
};

use crate::raw::Raw;
use crate::support::{Protocol, next_close, next_message, only_session, run, start, until};

struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session.send(packet).await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

#[test]
fn middleware_may_turn_a_peer_away() {
    struct Closed;
    impl Middleware for Closed {
        fn on_connect(&self, _: &Session, _: &ConnectRequest) -> Result<(), Refusal> {
            Err(Refusal::new(Code(7_000), "not today"))
        }
    }
    run(async {
        let server = start(Protocol::Tcp.server().with_middleware(Closed)).await;
        let mut raw = Raw::v1(&server).await;
        raw.speaks_v2();
        raw.send(&msgtrans_core::Hello::default().to_packet()).await;
        let goodbye = raw.goodbye().await;
        assert_eq!(
            (goodbye.code, goodbye.reason.as_str()),
            (Code(7_000), "not today")
        );
    });
}

fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 3).expect("compressed")
}

fn zlib_of(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("compressed");
    encoder.finish().expect("compressed")
}

#[test]
fn what_a_version_1_peer_has_compressed_is_decompressed() {
    run(async {
        let server = start(Protocol::Tcp.server().with_handler(Echo)).await;
        let mut raw = Raw::v1(&server).await;
        let text = "compressed ".repeat(1_000);
        for (algorithm, payload) in [
            (Compression::Zstd, zstd_of(text.as_bytes())),
            (Compression::Zlib, zlib_of(text.as_bytes())),
        ] {
            raw.send(&Packet::binary(payload).with_compression(algorithm))
                .await;
            // Nothing is compressed for a version 1 peer that has not asked for it.
            let echo = raw.expect(PacketType::OneWay).await;
            assert_eq!(
                (echo.compression, echo.payload.as_ref()),
                (Compression::None, text.as_bytes())
            );
        }
    });
}

#[test]
fn bombs_are_refused_before_they_have_grown() {
    run(async {
        let builder = Protocol::Tcp.server();
        let server =
            start(builder.session_config(|config| config.decompressed_max = 1024 * 1024)).await;
        let mut events = server.events();
        let zeroes = vec![0; 8 * 1024 * 1024];
        let bombs = [
            (Compression::Zstd, zstd_of(&zeroes)),
            (Compression::Zlib, zlib_of(&zeroes)),
        ];
        for (algorithm, bomb) in bombs {
            assert!(bomb.len() < 64 * 1024);
            let packet = Packet::binary(bomb).with_compression(algorithm);
            let (mut raw, _) = Raw::v2(&server).await;
            raw.send(&packet).await;
            assert_eq!(raw.goodbye().await.code, Code::TOO_LARGE);
            assert_eq!(next_close(&mut events).await.code, Code::TOO_LARGE);
            let mut raw = Raw::v1(&server).await;
            raw.send(&packet).await;
            raw.closed().await;
            assert_eq!(next_close(&mut events).await.code, Code::TOO_LARGE);
        }
        // Exactly the bound is fine.
        let (mut raw, _) = Raw::v2(&server).await;
        let packet = Packet::binary(zstd_of(&zeroes[..1024 * 1024]));
        raw.send(&packet.with_compression(Compression::Zstd)).await;
        assert_eq!(next_message(&mut events).await.payload.len(), 1024 * 1024);
    });
}

#[test]
fn a_peer_without_codecs_is_sent_nothing_compressed() {
    run(async {
        let server = start(Protocol::Tcp.server().with_data_compression(true)).await;
        let (mut raw, welcome) = Raw::v2(&server).await;
        let session = server.session(welcome.session).expect("open");
        let text = "plain ".repeat(10_000);
        session
            .send(Packet::text(text.clone()))
            .await
            .expect("sent");
        let packet = raw.expect(PacketType::OneWay).await;
        assert_eq!(
            (packet.compression, packet.payload.as_ref()),
            (Compression::None, text.as_bytes())
        );
        let asked = Packet::text(text).with_compression(Compression::Zstd);
        let error = session.send(asked).await.expect_err("the peer has no zstd");
        assert!(
            matches!(error.kind(), SendErrorKind::Encode(_)),
            "{error:?}"
        );
    });
}

#[test]
fn a_middleware_that_counts_sees_every_copy_of_a_broadcast() {
    struct Counts(Arc<AtomicU32>);
    impl Middleware for Counts {
        fn on_outbound(&self, _: &Session, _: &mut Packet) -> Result<(), HandlerError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }
    run(async {
        let count = Arc::new(AtomicU32::new(0));
        let server = start(
            Protocol::Tcp
                .server()
                .with_middleware(Counts(count.clone())),
        )
        .await;
        let (mut first, _) = Raw::v2(&server).await;
        let (mut second, _) = Raw::v2(&server).await;
        until(|| server.session_count() == 2).await;
        server
            .broadcast(Packet::text("to all"))
            .await
            .expect("encoded");
        for raw in [&mut first, &mut second] {
            assert_eq!(raw.expect(PacketType::OneWay).await.payload, "to all");
        }
        assert_eq!(count.load(Ordering::Relaxed), 2);
        assert_eq!(only_session(&server).await.version(), Some(WireVersion::V2));
    });
}
