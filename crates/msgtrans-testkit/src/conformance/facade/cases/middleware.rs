//! Middleware and compression: what every packet passes on its way.

use msgtrans::{
    Bytes, CloseReason, Code, Compression, CompressionConfig, ConnectError, ConnectRequest,
    Handler, HandlerError, Middleware, Packet, Refusal, RequestError, SendErrorKind, Session,
    TransportError, TransportEvent,
};

use super::{
    Case, Log, Protocol, case, connect, needs_large, next_message, only_session, start, until,
};

pub(super) const CASES: &[Case] = &[
    case!(middleware_sees_connects_packets_and_closes_in_order),
    case!(middleware_may_change_and_refuse),
    case!(
        compressed_payloads_arrive_whole_and_small_on_the_wire,
        needs_large
    ),
    case!(middleware_of_a_client_sees_both_directions),
    case!(middleware_may_turn_a_client_away),
];

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

/// Turns everybody away, and notes whatever else it is asked.
struct Closed(Log<&'static str>);

impl Middleware for Closed {
    fn on_connect(&self, _: &Session, _: &ConnectRequest) -> Result<(), Refusal> {
        Err(Refusal::new(Code(7_000), "not today"))
    }

    fn on_close(&self, _: &Session, _: &CloseReason) {
        self.0.put("the end of a session that never was");
    }
}

async fn middleware_may_turn_a_client_away(protocol: Protocol) {
    let (log, mut seen) = Log::new();
    let server = start(protocol.server().with_middleware(Closed(log))).await;
    let client = protocol.client(&server).build().await.expect("valid");
    match client.connect().await {
        Err(TransportError::Connect(ConnectError::Refused { reason, .. })) => {
            assert_eq!(reason, CloseReason::peer(Code(7_000), "not today"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.session_count(), 0);
    server.shutdown().await;
    assert!(seen.try_recv().is_err(), "an end without a beginning");
}
