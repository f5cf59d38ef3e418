//! What errors say, and what callers may do about each of them.

use std::io;
use std::time::Duration;

use msgtrans_core::{
    BindError, CloseReason, Code, Compression, ConfigError, ConnectError, DecodeError, EncodeError,
    HandlerError, Packet, PacketType, RequestError, SendError, SendErrorKind, SessionId, Severity,
    TransportError, WireVersion,
};

fn decode_errors() -> Vec<(DecodeError, Code, &'static [&'static str])> {
    let packet_type = PacketType::Ping;
    let version = WireVersion::V1;
    let protocol = Code::PROTOCOL_ERROR;
    let too_large = Code::TOO_LARGE;
    vec![
        (
            DecodeError::UnknownVersion { version: 9 },
            protocol,
            &["version", "9"],
        ),
        (DecodeError::VersionRefused { version }, protocol, &["V1"]),
        (
            DecodeError::VersionMismatch {
                expected: WireVersion::V2,
                got: version,
            },
            protocol,
            &["V1", "V2"],
        ),
        (
            DecodeError::UnknownPacketType {
                packet_type: 77,
                version,
            },
            protocol,
            &["packet type", "77", "V1"],
        ),
        (
            DecodeError::UnknownCompression {
                compression: 66,
                version,
            },
            protocol,
            &["compression", "66", "V1"],
        ),
        (
            DecodeError::PayloadTooLarge { len: 11, max: 10 },
            too_large,
            &["payload", "11 bytes", "10 bytes"],
        ),
        (
            DecodeError::ExtHeaderTooLarge { len: 11, max: 10 },
            too_large,
            &["extended header", "11 bytes", "10 bytes"],
        ),
        (
            DecodeError::ControlTooLarge {
                packet_type,
                len: 65,
                max: 64,
            },
            too_large,
            &["Ping", "65 bytes", "64 bytes"],
        ),
        (
            DecodeError::ControlWithExtHeader {
                packet_type,
                len: 3,
            },
            protocol,
            &["Ping", "extended header", "3 bytes"],
        ),
        (
            DecodeError::ControlCompressed { packet_type },
            protocol,
            &["Ping", "compressed"],
        ),
        (
            DecodeError::AckLength { len: 7 },
            protocol,
            &["Ack", "7 bytes", "8"],
        ),
        (
            DecodeError::UnreliableNotOneWay { packet_type },
            protocol,
            &["unreliable", "Ping"],
        ),
        (
            DecodeError::NotOneFrame { len: 20, frame: 19 },
            protocol,
            &["20 bytes", "19 bytes"],
        ),
        (
            DecodeError::MetaTruncated { len: 1 },
            protocol,
            &["META", "1 bytes"],
        ),
        (
            DecodeError::TlvOverrun {
                tag: 6,
                len: 9,
                left: 8,
            },
            protocol,
            &["field 6", "9 bytes", "8 bytes"],
        ),
        (
            DecodeError::TlvDuplicate { tag: 6 },
            protocol,
            &["field 6", "twice"],
        ),
        (
            DecodeError::TlvLength { tag: 6, len: 9 },
            protocol,
            &["field 6", "9 bytes"],
        ),
        (
            DecodeError::TlvNotText { tag: 6 },
            protocol,
            &["field 6", "UTF-8"],
        ),
        (
            DecodeError::TlvMissing {
                tag: 7,
                name: "session",
            },
            protocol,
            &["field 7", "session"],
        ),
        (
            DecodeError::MaxFrameTooSmall { value: 5, min: 6 },
            protocol,
            &["max_frame", "5 bytes", "6 bytes"],
        ),
        (
            DecodeError::OutOfPlace {
                packet_type,
                why: "before Hello",
            },
            protocol,
            &["Ping", "before Hello"],
        ),
        (
            DecodeError::Decompress {
                why: "bad magic".into(),
            },
            protocol,
            &["decompress", "bad magic"],
        ),
        (
            DecodeError::DecompressedTooLarge { max: 10 },
            too_large,
            &["10 bytes"],
        ),
        (
            DecodeError::Json { why: "eof".into() },
            protocol,
            &["JSON", "eof"],
        ),
        (
            DecodeError::Framing {
                what: "mask".into(),
                too_large: false,
            },
            protocol,
            &["mask"],
        ),
        (
            DecodeError::Framing {
                what: "length".into(),
                too_large: true,
            },
            too_large,
            &["length"],
        ),
    ]
}

fn encode_errors() -> Vec<(EncodeError, &'static [&'static str])> {
    let packet_type = PacketType::Failure;
    vec![
        (
            EncodeError::PayloadTooLarge { len: 11, max: 10 },
            &["payload", "11 bytes", "10 bytes"],
        ),
        (
            EncodeError::ExtHeaderTooLarge { len: 11, max: 10 },
            &["extended header", "11 bytes", "10 bytes"],
        ),
        (
            EncodeError::FrameTooLarge { len: 11, max: 10 },
            &["frame", "11 bytes", "10 bytes"],
        ),
        (
            EncodeError::ControlTooLarge {
                packet_type,
                len: 11,
                max: 10,
            },
            &["Failure", "11 bytes", "10 bytes"],
        ),
        (
            EncodeError::ControlWithExtHeader {
                packet_type,
                len: 3,
            },
            &["Failure", "3 bytes"],
        ),
        (
            EncodeError::UnreliableNotOneWay { packet_type },
            &["unreliable", "Failure"],
        ),
        (
            EncodeError::NotInVersion {
                packet_type,
                compression: Compression::Lz4,
                version: WireVersion::V1,
            },
            &["Failure", "Lz4", "V1"],
        ),
        (
            EncodeError::MetaTooLong {
                field: "key",
                len: 11,
                max: 10,
            },
            &["key", "11 bytes", "10 bytes"],
        ),
        (
            EncodeError::NotForApplications { packet_type },
            &["Failure"],
        ),
        (
            EncodeError::CompressionUnavailable {
                compression: Compression::Zstd,
            },
            &["Zstd"],
        ),
        (
            EncodeError::Compress {
                why: "memory".into(),
            },
            &["memory"],
        ),
        (EncodeError::Json { why: "keys".into() }, &["JSON", "keys"]),
    ]
}

#[test]
fn messages_name_the_field_the_value_and_the_bound() {
    let check = |text: String, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        assert!(!text.ends_with('.') && text.len() < 120, "{text:?}");
    };
    for (error, code, parts) in decode_errors() {
        assert_eq!(error.code(), code, "{error}");
        check(error.to_string(), parts);
    }
    for (error, parts) in encode_errors() {
        check(error.to_string(), parts);
    }
    let config = ConfigError::new("idle_timeout", "0s", "must be at least 1 s");
    check(config.to_string(), &["idle_timeout", "0s", "at least 1 s"]);
    assert_eq!(config.field(), "idle_timeout");
}

fn io_error(kind: io::ErrorKind) -> io::Error {
    kind.into()
}

fn refused(code: Code) -> TransportError {
    let reason = CloseReason::peer(code, "");
    ConnectError::Refused {
        endpoint: "tcp://host:1".into(),
        reason,
        retry_after: None,
    }
    .into()
}

fn handshake(retryable: bool) -> TransportError {
    ConnectError::Handshake {
        endpoint: "tls://host:1".into(),
        stage: "tls",
        what: "certificate expired".into(),
        retryable,
    }
    .into()
}

fn send(kind: SendErrorKind) -> TransportError {
    SendError::new(kind, Packet::text("x")).into()
}

fn request(error: RequestError) -> TransportError {
    error.into()
}

#[test]
fn every_error_has_a_code_a_severity_and_an_answer_to_retry() {
    use Severity::{Critical, Expected, Recoverable};
    let endpoint = || "tcp://host:1".to_owned();
    let second = Duration::from_secs(1);
    let closed = || CloseReason::normal();
    let config = || ConfigError::new("field", 0, "must not be 0");
    let connect_io = |kind| ConnectError::Io {
        endpoint: endpoint(),
        source: io_error(kind),
    };
    let failed = |code| {
        request(RequestError::Failed {
            code,
            message: "m".into(),
        })
    };
    let cases: Vec<(TransportError, &str, Severity, bool)> = vec![
        (config().into(), "config", Critical, false),
        (
            BindError {
                endpoint: endpoint(),
                source: io_error(io::ErrorKind::AddrInUse),
            }
            .into(),
            "bind",
            Critical,
            false,
        ),
        (
            ConnectError::Config(config()).into(),
            "config",
            Critical,
            false,
        ),
        (
            ConnectError::Resolve {
                host: "host".into(),
                source: io_error(io::ErrorKind::NotFound),
            }
            .into(),
            "resolve",
            Recoverable,
            true,
        ),
        (
            connect_io(io::ErrorKind::ConnectionRefused).into(),
            "connect",
            Recoverable,
            true,
        ),
        (
            connect_io(io::ErrorKind::PermissionDenied).into(),
            "connect",
            Critical,
            false,
        ),
        (
            connect_io(io::ErrorKind::InvalidInput).into(),
            "connect",
            Critical,
            false,
        ),
        (
            connect_io(io::ErrorKind::Unsupported).into(),
            "connect",
            Critical,
            false,
        ),
        (handshake(true), "handshake", Recoverable, true),
        (handshake(false), "handshake", Critical, false),
        (
            ConnectError::Timeout {
                endpoint: endpoint(),
                after: second,
            }
            .into(),
            "connect_timeout",
            Recoverable,
            true,
        ),
        (refused(Code::GOING_AWAY), "refused", Recoverable, true),
        (refused(Code::OVERLOADED), "refused", Recoverable, true),
        (refused(Code::RATE_LIMITED), "refused", Recoverable, true),
        (refused(Code::TIMEOUT), "refused", Recoverable, true),
        (refused(Code::INTERNAL), "refused", Recoverable, true),
        (refused(Code::UNAUTHORIZED), "refused", Critical, false),
        (refused(Code::UNSUPPORTED), "refused", Critical, false),
        (refused(Code(1000)), "refused", Critical, false),
        (
            ConnectError::State {
                what: "connected already",
            }
            .into(),
            "state",
            Critical,
            false,
        ),
        (
            send(SendErrorKind::Closed(closed())),
            "closed",
            Expected,
            false,
        ),
        (
            send(SendErrorKind::NoSession(SessionId::new(1))),
            "no_session",
            Expected,
            false,
        ),
        (
            send(SendErrorKind::Full { queued: 9, max: 9 }),
            "full",
            Recoverable,
            true,
        ),
        (
            send(SendErrorKind::Timeout(second)),
            "send_timeout",
            Recoverable,
            true,
        ),
        (
            send(EncodeError::PayloadTooLarge { len: 9, max: 8 }.into()),
            "encode",
            Expected,
            false,
        ),
        (
            send(SendErrorKind::Refused("no".into())),
            "refused",
            Expected,
            false,
        ),
        (
            send(SendErrorKind::Unconfirmed),
            "unconfirmed",
            Expected,
            false,
        ),
        (
            request(SendError::taken(SendErrorKind::Full { queued: 9, max: 9 }).into()),
            "request_not_sent",
            Recoverable,
            true,
        ),
        (
            request(SendError::taken(SendErrorKind::Closed(closed())).into()),
            "request_not_sent",
            Expected,
            false,
        ),
        (
            request(RequestError::Timeout { after: second }),
            "request_timeout",
            Expected,
            false,
        ),
        (
            request(RequestError::Closed(closed())),
            "closed",
            Expected,
            false,
        ),
        (
            failed(Code::OVERLOADED),
            "request_failed",
            Recoverable,
            true,
        ),
        (
            failed(Code::RATE_LIMITED),
            "request_failed",
            Recoverable,
            true,
        ),
        (
            failed(Code::HANDLER_FAILED),
            "request_failed",
            Expected,
            false,
        ),
        (
            request(RequestError::TooManyPending { max: 9 }),
            "too_many_pending",
            Recoverable,
            true,
        ),
        (
            request(RequestError::BadDeadline(Duration::ZERO)),
            "bad_deadline",
            Expected,
            false,
        ),
        (
            DecodeError::UnknownVersion { version: 3 }.into(),
            "protocol_error",
            Expected,
            false,
        ),
        (
            io_error(io::ErrorKind::ConnectionReset).into(),
            "io",
            Recoverable,
            true,
        ),
        (TransportError::Closed(closed()), "closed", Expected, false),
        (
            TransportError::Handler(HandlerError::new("no")),
            "handler",
            Expected,
            false,
        ),
        (
            TransportError::Handler(HandlerError::with_code(Code::INTERNAL, "panic")),
            "handler",
            Critical,
            false,
        ),
    ];
    for (error, code, severity, retryable) in cases {
        assert_eq!(error.code(), code, "{error:?}");
        assert_eq!(error.severity(), severity, "{error:?}");
        assert_eq!(error.is_retryable(), retryable, "{error:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn a_packet_that_was_not_sent_comes_back() {
    let error = SendError::new(SendErrorKind::Unconfirmed, Packet::text("precious"));
    assert_eq!(error.kind(), &SendErrorKind::Unconfirmed);
    let packet = error.into_packet().expect("the packet");
    assert_eq!(packet.payload, "precious");
    let (kind, packet) = SendError::taken(SendErrorKind::Unconfirmed).into_parts();
    assert_eq!((kind, packet), (SendErrorKind::Unconfirmed, None));
}

#[test]
fn a_full_queue_names_its_numbers() {
    let full = SendErrorKind::Full {
        queued: 70,
        max: 64,
    };
    assert_eq!(
        full.to_string(),
        "the outbound queue holds 70 of 64 bytes and has no room"
    );
    let pending = RequestError::TooManyPending { max: 12 };
    assert!(pending.to_string().contains("12"));
}

#[test]
fn every_error_becomes_a_handler_error() {
    fn handler() -> Result<(), HandlerError> {
        "x".parse::<u32>()?;
        Ok(())
    }
    let error = handler().expect_err("not a number");
    assert_eq!(error.code(), Code::HANDLER_FAILED);
    assert_eq!(error.to_string(), "invalid digit found in string");
    let own = HandlerError::with_code(Code(1234), "insufficient funds");
    assert_eq!(
        format!("{own:?}"),
        "HandlerError(application (1234), insufficient funds)"
    );
}
