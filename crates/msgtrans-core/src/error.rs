//! Errors, one enum per operation, split by who is to blame; [`TransportError`] is their sum.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::close_reason::Words;
use crate::packet::{Compression, Packet, PacketType};
use crate::{CloseReason, Code, WireVersion};

/// What the peer got wrong about the bytes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each variant and its fields are said by its message"
)]
pub enum DecodeError {
    #[error("unknown wire version {version}")]
    UnknownVersion { version: u8 },
    #[error("wire version {version:?} is not accepted here")]
    VersionRefused { version: WireVersion },
    #[error("frame of wire version {got:?} in a session of {expected:?}")]
    VersionMismatch {
        expected: WireVersion,
        got: WireVersion,
    },
    #[error("unknown packet type {packet_type} in wire version {version:?}")]
    UnknownPacketType {
        packet_type: u8,
        version: WireVersion,
    },
    #[error("unknown compression {compression} in wire version {version:?}")]
    UnknownCompression {
        compression: u8,
        version: WireVersion,
    },
    #[error("payload of {len} bytes exceeds the limit of {max} bytes")]
    PayloadTooLarge { len: u32, max: u32 },
    #[error("extended header of {len} bytes exceeds the limit of {max} bytes")]
    ExtHeaderTooLarge { len: u16, max: u32 },
    #[error("{packet_type:?} frame of {len} bytes exceeds its limit of {max} bytes")]
    ControlTooLarge {
        packet_type: PacketType,
        len: u32,
        max: u32,
    },
    #[error("{packet_type:?} frame with an extended header of {len} bytes")]
    ControlWithExtHeader { packet_type: PacketType, len: u16 },
    #[error("{packet_type:?} frame with a compressed payload")]
    ControlCompressed { packet_type: PacketType },
    #[error("Ack of {len} bytes instead of 8")]
    AckLength { len: u32 },
    #[error("unreliable flag on a {packet_type:?} frame")]
    UnreliableNotOneWay { packet_type: PacketType },
    #[error("a message of {len} bytes does not hold exactly one frame of {frame} bytes")]
    NotOneFrame { len: usize, frame: usize },
    #[error("META block does not fit its extended header of {len} bytes")]
    MetaTruncated { len: usize },
    #[error("field {tag} of {len} bytes overruns the {left} bytes left in its frame")]
    TlvOverrun { tag: u8, len: usize, left: usize },
    #[error("field {tag} appears twice")]
    TlvDuplicate { tag: u8 },
    #[error("field {tag} has a wrong length of {len} bytes")]
    TlvLength { tag: u8, len: usize },
    #[error("field {tag} is not UTF-8")]
    TlvNotText { tag: u8 },
    #[error("field {tag} ({name}) is missing")]
    TlvMissing { tag: u8, name: &'static str },
    #[error("max_frame of {value} bytes is below the minimum of {min} bytes")]
    MaxFrameTooSmall { value: u32, min: u32 },
    #[error("{packet_type:?} frame where it is not allowed: {why}")]
    OutOfPlace {
        packet_type: PacketType,
        why: &'static str,
    },
    #[error("payload does not decompress: {why}")]
    Decompress { why: String },
    #[error("payload decompresses to more than {max} bytes")]
    DecompressedTooLarge { max: usize },
    #[error("payload is not the expected JSON: {why}")]
    Json { why: String },
    #[error("protocol framing: {what}")]
    Framing { what: String, too_large: bool },
}

impl DecodeError {
    /// The code for the Goodbye: too large, or protocol error.
    pub fn code(&self) -> Code {
        match self {
            Self::PayloadTooLarge { .. }
            | Self::ExtHeaderTooLarge { .. }
            | Self::ControlTooLarge { .. }
            | Self::DecompressedTooLarge { .. }
            | Self::Framing {
                too_large: true, ..
            } => Code::TOO_LARGE,
            _ => Code::PROTOCOL_ERROR,
        }
    }
}

/// What this side asked for that cannot be put on the wire.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "each variant and its fields are said by its message"
)]
pub enum EncodeError {
    #[error("payload of {len} bytes exceeds the limit of {max} bytes")]
    PayloadTooLarge { len: usize, max: u32 },
    #[error("extended header of {len} bytes exceeds the limit of {max} bytes")]
    ExtHeaderTooLarge { len: usize, max: u32 },
    #[error("{packet_type:?} frame of {len} bytes exceeds its limit of {max} bytes")]
    ControlTooLarge {
        packet_type: PacketType,
        len: usize,
        max: u32,
    },
    #[error("{packet_type:?} frame with an extended header of {len} bytes")]
    ControlWithExtHeader { packet_type: PacketType, len: usize },
    #[error("unreliable flag on a {packet_type:?} frame")]
    UnreliableNotOneWay { packet_type: PacketType },
    #[error("frame of {len} bytes exceeds the peer's limit of {max} bytes")]
    FrameTooLarge { len: usize, max: u32 },
    #[error(
        "{packet_type:?} with compression {compression:?} does not exist in wire version {version:?}"
    )]
    NotInVersion {
        packet_type: PacketType,
        compression: Compression,
        version: WireVersion,
    },
    #[error("{field} of {len} bytes exceeds the limit of {max} bytes")]
    MetaTooLong {
        field: &'static str,
        len: usize,
        max: usize,
    },
    #[error("applications do not send {packet_type:?} frames")]
    NotForApplications { packet_type: PacketType },
    #[error("compression {compression:?} is not agreed with the peer or not compiled in")]
    CompressionUnavailable { compression: Compression },
    #[error("payload could not be compressed: {why}")]
    Compress { why: String },
    #[error("value has no JSON form: {why}")]
    Json { why: String },
}

/// A setting that cannot be: names the field, its value and what it must be.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field} of {value}: {expected}")]
pub struct ConfigError {
    field: String,
    value: String,
    expected: String,
}

impl ConfigError {
    /// `field` has `value`, which breaks what is `expected` of it.
    pub fn new(
        field: impl Into<String>,
        value: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            value: value.to_string(),
            expected: expected.into(),
        }
    }

    /// The setting.
    pub fn field(&self) -> &str {
        &self.field
    }
}

/// A listener that cannot be: the address is used, unknown or forbidden.
#[derive(Debug, Error)]
#[error("cannot listen on {endpoint}")]
pub struct BindError {
    /// The URL.
    pub endpoint: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// A connection that did not come to be.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The settings forbid it.
    #[error("invalid configuration")]
    Config(#[from] ConfigError),
    /// The host name has no address.
    #[error("cannot resolve {host}")]
    Resolve {
        /// The host.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The network refused.
    #[error("cannot connect to {endpoint}")]
    Io {
        /// The URL.
        endpoint: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A layer's handshake failed: TLS, the HTTP upgrade, QUIC, Hello.
    #[error("{stage} handshake with {endpoint} failed: {what}")]
    Handshake {
        /// The URL.
        endpoint: String,
        /// `"tls"`, `"upgrade"`, `"quic"`, `"hello"`.
        stage: &'static str,
        /// What went wrong.
        what: String,
        /// Whether the same attempt may succeed later.
        retryable: bool,
    },
    /// The deadline over the whole attempt passed.
    #[error("{endpoint} did not answer within {after:?}")]
    Timeout {
        /// The URL.
        endpoint: String,
        /// The deadline.
        after: Duration,
    },
    /// The server said Goodbye instead of Welcome.
    #[error("{endpoint} refused the session: {reason}")]
    Refused {
        /// The URL.
        endpoint: String,
        /// The server's reason.
        reason: CloseReason,
        /// When the server wants to see this client again.
        retry_after: Option<Duration>,
    },
    /// Something that a client may do once, or only while it is not connected.
    #[error("{what}")]
    State {
        /// What.
        what: &'static str,
    },
}

impl ConnectError {
    /// Whether the same attempt may succeed later. Refusals for what the client is, not how busy the server is, are
    /// final.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Config(_) | Self::State { .. } => false,
            Self::Resolve { .. } | Self::Timeout { .. } => true,
            Self::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::InvalidInput
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::Unsupported
            ),
            Self::Handshake { retryable, .. } => *retryable,
            Self::Refused { reason, .. } => matches!(
                reason.code,
                Code::GOING_AWAY
                    | Code::OVERLOADED
                    | Code::RATE_LIMITED
                    | Code::TIMEOUT
                    | Code::INTERNAL
            ),
        }
    }
}

/// Why a packet was not taken.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// The session has ended.
    #[error("the session is closed ({0})")]
    Closed(CloseReason),
    /// There is no such session.
    #[error("no session {0}")]
    NoSession(crate::SessionId),
    /// The queue is full and the caller did not want to wait.
    #[error("the outbound queue holds {queued} of {max} bytes and has no room")]
    Full {
        /// Bytes queued.
        queued: usize,
        /// The bound.
        max: usize,
    },
    /// No room appeared in time: the peer does not read.
    #[error("no room in the outbound queue within {0:?}: the peer reads too slowly")]
    Timeout(Duration),
    /// The packet cannot be put on the wire.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A middleware refused it.
    #[error("refused by middleware: {0}")]
    Refused(String),
    /// Written, but the connection was lost before the protocol had taken it.
    #[error("the connection was lost before the packet was confirmed")]
    Unconfirmed,
}

/// A packet that was not sent, and why. The packet comes back.
#[derive(Error)]
#[error("{}", self.0.kind)]
pub struct SendError(Box<Unsent>);

/// Boxed as a whole: what every send returns is one word.
struct Unsent {
    kind: SendErrorKind,
    packet: Option<Packet>,
}

impl SendError {
    /// `packet` was not taken because of `kind`.
    #[cold]
    pub fn new(kind: impl Into<SendErrorKind>, packet: Packet) -> Self {
        Self(Box::new(Unsent {
            kind: kind.into(),
            packet: Some(packet),
        }))
    }

    /// A packet that was taken but not delivered, so that there is none to give back.
    pub fn taken(kind: impl Into<SendErrorKind>) -> Self {
        Self(Box::new(Unsent {
            kind: kind.into(),
            packet: None,
        }))
    }

    /// Why.
    pub fn kind(&self) -> &SendErrorKind {
        &self.0.kind
    }

    /// The packet, unless it had already been taken.
    pub fn into_packet(self) -> Option<Packet> {
        self.0.packet
    }

    /// Both parts.
    pub fn into_parts(self) -> (SendErrorKind, Option<Packet>) {
        (self.0.kind, self.0.packet)
    }

    /// Whether the same packet may be taken later by the same session.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.0.kind,
            SendErrorKind::Full { .. } | SendErrorKind::Timeout(_)
        )
    }
}

impl fmt::Debug for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError")
            .field("kind", &self.0.kind)
            .field("packet", &self.0.packet)
            .finish()
    }
}

/// A request without a response.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The request was not sent.
    #[error("the request was not sent: {0}")]
    Send(#[from] SendError),
    /// No answer in time; the peer was told to stop where the wire version has a word for it.
    #[error("no response within {after:?}")]
    Timeout {
        /// The deadline.
        after: Duration,
    },
    /// The session ended while the answer was awaited; whether the peer acted on the request is unknown.
    #[error("the session ended before the response: {0}")]
    Closed(CloseReason),
    /// The peer answered with a Failure.
    #[error("the peer failed the request: {code}: {}", Words(.message))]
    Failed {
        /// Why, for programs.
        code: Code,
        /// Why, for people.
        message: String,
    },
    /// Too many requests await their answers.
    #[error("{max} requests are pending already")]
    TooManyPending {
        /// The bound.
        max: usize,
    },
    /// A deadline that is no time at all.
    #[error("a request deadline of {0:?} is not a time to wait")]
    BadDeadline(Duration),
}

impl RequestError {
    /// Whether the same request may succeed later on the same session. A lost session is not retryable: the peer may
    /// have acted.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Send(error) => error.is_retryable(),
            Self::TooManyPending { .. } => true,
            Self::Failed { code, .. } => matches!(*code, Code::OVERLOADED | Code::RATE_LIMITED),
            Self::Timeout { .. } | Self::Closed(_) | Self::BadDeadline(_) => false,
        }
    }
}

/// What a handler returns when it cannot go on. Every error converts into it with `?`.
pub struct HandlerError(Box<Failed>);

/// Boxed as a whole: what every handler returns is one word.
struct Failed {
    code: Code,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl HandlerError {
    /// A failure with words.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_code(Code::HANDLER_FAILED, message)
    }

    /// A failure with a code that the peer sees: one of ours, or the application's own from 1 000 up.
    pub fn with_code(code: Code, message: impl Into<String>) -> Self {
        let source = message.into().into();
        Self(Box::new(Failed { code, source }))
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The error as one of the transport's, for event streams and logs.
    pub fn into_transport(self) -> TransportError {
        TransportError::Handler(self)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    #[cold]
    fn from(error: E) -> Self {
        Self(Box::new(Failed {
            code: Code::HANDLER_FAILED,
            source: Box::new(error),
        }))
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.source.fmt(f)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HandlerError({}, {})", self.0.code, self.0.source)
    }
}

/// How grave an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Part of life: count it and go on.
    Expected,
    /// Retry with backoff.
    Recoverable,
    /// Close, and tell an operator.
    Critical,
}

/// Every error that users meet, in one type.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A dialled connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A packet on its way out.
    #[error(transparent)]
    Send(#[from] SendError),
    /// A request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The peer's bytes.
    #[error("the peer broke the wire format: {0}")]
    Decode(#[from] DecodeError),
    /// A connection that was lost.
    #[error("connection lost")]
    Io(#[from] io::Error),
    /// A session that has ended.
    #[error("{0}")]
    Closed(CloseReason),
    /// A handler.
    #[error("handler failed: {0:?}")]
    Handler(HandlerError),
}

impl TransportError {
    /// How grave it is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Config(_) | Self::Bind(_) => Severity::Critical,
            Self::Handler(error) if error.code() == Code::INTERNAL => Severity::Critical,
            Self::Connect(error) if error.is_retryable() => Severity::Recoverable,
            Self::Connect(_) => Severity::Critical,
            Self::Send(error) if error.is_retryable() => Severity::Recoverable,
            Self::Request(error) if error.is_retryable() => Severity::Recoverable,
            Self::Io(_) => Severity::Recoverable,
            Self::Send(_)
            | Self::Request(_)
            | Self::Decode(_)
            | Self::Closed(_)
            | Self::Handler(_) => Severity::Expected,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_retryable(),
            Self::Send(error) => error.is_retryable(),
            Self::Request(error) => error.is_retryable(),
            Self::Io(_) => true,
            Self::Config(_)
            | Self::Bind(_)
            | Self::Decode(_)
            | Self::Closed(_)
            | Self::Handler(_) => false,
        }
    }

    /// A stable word for logs, metrics and programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "config",
            Self::Bind(_) => "bind",
            Self::Connect(error) => match error {
                ConnectError::Config(_) => "config",
                ConnectError::Resolve { .. } => "resolve",
                ConnectError::Io { .. } => "connect",
                ConnectError::Handshake { .. } => "handshake",
                ConnectError::Timeout { .. } => "connect_timeout",
                ConnectError::Refused { .. } => "refused",
                ConnectError::State { .. } => "state",
            },
            Self::Send(error) => match error.kind() {
                SendErrorKind::Closed(_) => "closed",
                SendErrorKind::NoSession(_) => "no_session",
                SendErrorKind::Full { .. } => "full",
                SendErrorKind::Timeout(_) => "send_timeout",
                SendErrorKind::Encode(_) => "encode",
                SendErrorKind::Refused(_) => "refused",
                SendErrorKind::Unconfirmed => "unconfirmed",
            },
            Self::Request(error) => match error {
                RequestError::Send(_) => "request_not_sent",
                RequestError::Timeout { .. } => "request_timeout",
                RequestError::Closed(_) => "closed",
                RequestError::Failed { .. } => "request_failed",
                RequestError::TooManyPending { .. } => "too_many_pending",
                RequestError::BadDeadline(_) => "bad_deadline",
            },
            Self::Decode(_) => "protocol_error",
            Self::Io(_) => "io",
            Self::Closed(_) => "closed",
            Self::Handler(_) => "handler",
        }
    }
}
