//! Middleware and compression: what every packet passes on its way.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use msgtrans::{
    Bytes, CloseReason, Code, Compression, CompressionConfig, ConnectRequest, Handler,
    HandlerError, Middleware, Packet, PacketType, Refusal, RequestError, SendErrorKind, Session,
    TransportEvent, WireVersion,
};

use crate::raw::Raw;
use crate::support::{
    Log, Protocol, connect, next_close, next_message, only_session, over_every_protocol, run,
    start, until,
};

over_every_protocol!(
    middleware_sees_connects_packets_and_closes_in_order,
    middleware_may_change_and_refuse,
    compressed_payloads_arrive_whole_and_small_on_the_wire,
    middleware_of_a_client_sees_both_directions,
);

/// Notes everything under its own name.
struct Notes {
    name: &'static str,
    log: Log<String>,
}

impl Notes {
    fn note(&self, what: impl std::fmt::Display) {
        self.log.put(format!("{} {what}", self.name));
    }
}

impl Middleware for Notes {
    fn on_connect(&self, _: &Session, _: &ConnectRequest) -> Result<(), Refusal> {
        self.note("connect");
        Ok(())
    }

    fn on_inbound(&self, _: &Session, packet: &mut Packet) -> Result<(), HandlerError> {
        self.note(format_args!("in {:?}", packet.packet_type));
        Ok(())
    }

    fn on_outbound(&self, _: &Session, packet: &mut Packet) -> Result<(), HandlerError> {
        self.note(format_args!("out {:?}", packet.packet_type));
        Ok(())
    }

    fn on_close(&self, _: &Session, reason: &CloseReason) {
        self.note(format_args!("close {}", reason.code.0));
    }
}

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

async fn middleware_sees_connects_packets_and_closes_in_order(protocol: Protocol) {
    let (log, mut seen) = Log::new();
    let notes = |name| Notes {
        name,
        log: log.clone(),
    };
    let builder = protocol
        .server()
        .with_handler(Echo)
        .with_middleware(notes("first"))
        .with_middleware(notes("second"));
    let server = start(builder).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    client.send("hello").await.expect("sent");
    next_message(&mut events).await;
    client.request("hello?").await.expect("answered");
    client.session().expect("open").close(Code(4_000), "");
    for what in [
        "connect",
        "in OneWay",
        "out OneWay",
        "in Request",
        "out Response",
        "close 4000",
    ] {
        for name in ["first", "second"] {
            assert_eq!(seen.recv().await, Some(format!("{name} {what}")));
        }
    }
}

async fn middleware_of_a_client_sees_both_directions(protocol: Protocol) {
    let (log, mut seen) = Log::new();
    let server = start(protocol.server().with_handler(Echo)).await;
    let notes = Notes {
        name: "client",
        log,
    };
    let client = connect(protocol.client(&server).with_middleware(notes)).await;
    client.request("hello?").await.expect("answered");
    client.disconnect().await.expect("disconnected");
    for what in ["out Request", "in Response", "close 0"] {
        assert_eq!(seen.recv().await, Some(format!("client {what}")));
    }
}

/// Shouts, and keeps secrets.
struct Censor;

impl Middleware for Censor {
    fn on_inbound(&self, _: &Session, packet: &mut Packet) -> Result<(), HandlerError> {
        if packet.payload == "secret" {
            return Err(HandlerError::with_code(Code(6_000), "not to be told"));
        }
        packet.payload = Bytes::from(packet.payload.to_ascii_uppercase());
        Ok(())
    }

    fn on_outbound(&self, _: &Session, packet: &mut Packet) -> Result<(), HandlerError> {
        if packet.payload == "SECRET REPLY" {
            return Err(HandlerError::new("not to be answered"));
        }
        Ok(())
    }
}

async fn middleware_may_change_and_refuse(protocol: Protocol) {
    let server = start(protocol.server().with_middleware(Censor)).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    match client.request("secret").await {
        Err(RequestError::Failed { code, message }) => {
            assert_eq!((code, message.as_str()), (Code(6_000), "not to be told"));
        }
        other => panic!("{other:?}"),
    }
    client.send("secret").await.expect("sent");
    client.send("open").await.expect("sent");
    let mut refused = 0;
    let packet = loop {
        match events.next().await.expect("an event") {
            TransportEvent::MessageReceived { packet, .. } => break packet,
            TransportEvent::Error { .. } => refused += 1,
            _ => {}
        }
    };
    assert_eq!((packet.payload.as_ref(), refused), (&b"OPEN"[..], 1));
    until(|| server.stats().packets_refused == 2).await;
    let session = only_session(&server).await;
    let error = session
        .send(Packet::text("SECRET REPLY"))
        .await
        .expect_err("refused");
    assert!(
        matches!(error.kind(), SendErrorKind::Refused(_)),
        "{error:?}"
    );
    assert_eq!(
        error.into_packet().expect("given back").payload,
        "SECRET REPLY"
    );
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

async fn compressed_payloads_arrive_whole_and_small_on_the_wire(protocol: Protocol) {
    let server = start(
        protocol
            .server()
            .with_handler(Echo)
            .with_data_compression(true),
    )
    .await;
    let zlib = CompressionConfig::new(Compression::Zlib, 100);
    let text = "the same again, ".repeat(8_192);
    for builder in [
        protocol.client(&server).with_data_compression(true),
        protocol.client(&server).compression(zlib),
    ] {
        let client = connect(builder).await;
        let mut events = client.events();
        client.send(text.clone()).await.expect("sent");
        let echo = next_message(&mut events).await;
        assert_eq!(echo.payload, text);
        assert_eq!(echo.compression, Compression::None);
        let session = client.session().expect("open");
        session.close(Code::NORMAL, "");
        session.closed().await;
        // Packets change hands in process: nothing is encoded there, so nothing is counted there.
        let stats = session.stats();
        for bytes in [stats.bytes_in, stats.bytes_out] {
            assert!(bytes < text.len() as u64 / 10, "{bytes} bytes on the wire");
        }
    }
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
