//! The bodies of Hello, Welcome and Goodbye / GoAway (wire format, section 4).
// A peer's bytes pass here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::close_reason::{REASON_MAX, cut};
use crate::error::DecodeError;
use crate::limits::Limits;
use crate::packet::{Packet, PacketType};
use crate::tlv::{self, tag};
use crate::{CloseReason, Code, SessionId};

const AGENT_MAX: usize = 256;
const GO_TO_MAX: usize = 1024;
/// Bytes that a Hello or Welcome without secrets takes, agent included: its body is written without growing.
const USUAL_LEN: usize = 64;
const DEFAULT_HEARTBEAT: Duration = Duration::from_millis(15_000);

/// What both sides can do; a Welcome holds the intersection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Features(u32);

impl Features {
    /// Nothing beyond the base protocol.
    pub const NONE: Features = Features(0);
    /// A lost session may be resumed.
    pub const RESUME: Features = Features(1);
    /// zstd payloads are understood.
    pub const ZSTD: Features = Features(1 << 1);
    /// zlib payloads are understood.
    pub const ZLIB: Features = Features(1 << 2);
    /// LZ4 payloads are understood.
    pub const LZ4: Features = Features(1 << 3);
    /// UNRELIABLE packets may come as datagrams.
    pub const DATAGRAMS: Features = Features(1 << 4);
    /// Cancel frames are understood.
    pub const CANCEL: Features = Features(1 << 5);
    /// Large messages may come in chunks.
    pub const CHUNKS: Features = Features(1 << 6);

    /// The bits of the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Features from the bits of the wire.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Whether every bit of `other` is set.
    pub const fn contains(self, other: Features) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    #[must_use]
    pub const fn with(self, other: Features) -> Self {
        Self(self.0 | other.0)
    }

    /// What both have.
    #[must_use]
    pub const fn intersection(self, other: Features) -> Self {
        Self(self.0 & other.0)
    }
}

/// A client's wish to go on with an earlier session.
#[derive(Clone, PartialEq, Eq)]
pub struct Resume {
    /// The session's name.
    pub session: SessionId,
    /// The secret of its last Welcome.
    pub token: [u8; 16],
    /// Data frames that the client has received.
    pub received: u64,
}

impl Resume {
    fn parse(value: &[u8]) -> Option<Self> {
        let (session, rest) = value.split_first_chunk()?;
        let (token, received) = rest.split_first_chunk()?;
        Some(Self {
            session: SessionId::new(u64::from_be_bytes(*session)),
            token: *token,
            received: u64::from_be_bytes(received.try_into().ok()?),
        })
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume")
            .field("session", &self.session)
            .field("token", &"<redacted>")
            .field("received", &self.received)
            .finish()
    }
}

/// A v2 client's first frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Hello {
    /// The largest frame that the client accepts; at least 81 920.
    pub max_frame: u32,
    /// What the client can do.
    pub features: Features,
    /// The heartbeat that the client asks for.
    pub heartbeat: Duration,
    /// What the authenticator is to judge; empty is not the same as absent.
    pub auth: Option<Bytes>,
    /// The session to go on with.
    pub resume: Option<Resume>,
    /// Name and version of the client's software; cut at 256 bytes on the wire.
    pub agent: Option<String>,
    /// How many bytes the client keeps for replay.
    pub replay_bytes: u32,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            max_frame: Limits::MIN_FRAME,
            features: Features::NONE,
            heartbeat: DEFAULT_HEARTBEAT,
            auth: None,
            resume: None,
            agent: None,
            replay_bytes: 0,
        }
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            max_frame,
            features,
            heartbeat,
            auth,
            resume,
            agent,
            replay_bytes,
        } = self;
        f.debug_struct("Hello")
            .field("max_frame", max_frame)
            .field("features", features)
            .field("heartbeat", heartbeat)
            .field(
                "auth",
                &auth
                    .as_ref()
                    .map(|token| format!("<{} bytes, redacted>", token.len())),
            )
            .field("resume", resume)
            .field("agent", agent)
            .field("replay_bytes", replay_bytes)
            .finish()
    }
}

impl Hello {
    /// The frame.
    pub fn to_packet(&self) -> Packet {
        let mut out = Vec::with_capacity(USUAL_LEN);
        tlv::put(&mut out, tag::MAX_FRAME, &self.max_frame.to_be_bytes());
        tlv::put(&mut out, tag::FEATURES, &self.features.0.to_be_bytes());
        tlv::put(
            &mut out,
            tag::HEARTBEAT_MS,
            &millis(self.heartbeat).to_be_bytes(),
        );
        if let Some(auth) = &self.auth {
            tlv::put(&mut out, tag::AUTH, auth);
        }
        if let Some(resume) = &self.resume {
            let session = resume.session.as_u64().to_be_bytes();
            let received = resume.received.to_be_bytes();
            let value = [&session[..], &resume.token, &received].concat();
            tlv::put(&mut out, tag::RESUME, &value);
        }
        put_agent(&mut out, self.agent.as_deref());
        if self.replay_bytes != 0 {
            tlv::put(
                &mut out,
                tag::REPLAY_BYTES,
                &self.replay_bytes.to_be_bytes(),
            );
        }
        Packet::numbered(PacketType::Hello, 0, out)
    }

    /// Reads the body of a Hello.
    ///
    /// # Errors
    /// A malformed, overrunning or duplicate field, a `max_frame` below 81 920.
    pub fn from_packet(packet: &Packet) -> Result<Self, DecodeError> {
        let mut hello = Self::default();
        tlv::parse(&packet.payload, |field| {
            match field.tag {
                tag::MAX_FRAME => hello.max_frame = max_frame(field.u32()?)?,
                tag::FEATURES => hello.features = Features(field.u32()?),
                tag::HEARTBEAT_MS => {
                    hello.heartbeat = Duration::from_millis(u64::from(field.u32()?))
                }
                tag::AUTH => hello.auth = Some(field.bytes(usize::from(u16::MAX))?),
                tag::RESUME => {
                    let resume = Resume::parse(field.value);
                    hello.resume = Some(resume.ok_or_else(|| field.wrong_length())?);
                }
                tag::AGENT => hello.agent = Some(field.text(AGENT_MAX)?),
                tag::REPLAY_BYTES => hello.replay_bytes = field.u32()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(hello)
    }
}

/// A v2 server's first frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The largest frame that the server accepts.
    pub max_frame: u32,
    /// What both sides can do.
    pub features: Features,
    /// The heartbeat that both sides keep.
    pub heartbeat: Duration,
    /// The session's name.
    pub session: SessionId,
    /// Name and version of the server's software; cut at 256 bytes on the wire.
    pub agent: Option<String>,
    /// The secret that resumes the session, and for how long.
    pub resume: Option<([u8; 16], Duration)>,
    /// Data frames that the server had received, where the session was resumed.
    pub resumed: Option<u64>,
    /// How many bytes the server keeps for replay.
    pub replay_bytes: u32,
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            max_frame,
            features,
            heartbeat,
            session,
            agent,
            resume,
            resumed,
            replay_bytes,
        } = self;
        f.debug_struct("Welcome")
            .field("max_frame", max_frame)
            .field("features", features)
            .field("heartbeat", heartbeat)
            .field("session", session)
            .field("agent", agent)
            .field("resume_window", &resume.as_ref().map(|(_, window)| *window))
            .field("resumed", resumed)
            .field("replay_bytes", replay_bytes)
            .finish()
    }
}

impl Welcome {
    /// The frame.
    pub fn to_packet(&self) -> Packet {
        let mut out = Vec::with_capacity(USUAL_LEN);
        tlv::put(&mut out, tag::MAX_FRAME, &self.max_frame.to_be_bytes());
        tlv::put(&mut out, tag::FEATURES, &self.features.0.to_be_bytes());
        tlv::put(
            &mut out,
            tag::HEARTBEAT_MS,
            &millis(self.heartbeat).to_be_bytes(),
        );
        put_agent(&mut out, self.agent.as_deref());
        tlv::put(&mut out, tag::SESSION, &self.session.as_u64().to_be_bytes());
        if let Some((token, window)) = &self.resume {
            tlv::put(&mut out, tag::RESUME_TOKEN, token);
            tlv::put(
                &mut out,
                tag::RESUME_WINDOW_MS,
                &millis(*window).to_be_bytes(),
            );
        }
        if let Some(received) = self.resumed {
            tlv::put(&mut out, tag::RESUMED, &received.to_be_bytes());
        }
        if self.replay_bytes != 0 {
            tlv::put(
                &mut out,
                tag::REPLAY_BYTES,
                &self.replay_bytes.to_be_bytes(),
            );
        }
        Packet::numbered(PacketType::Welcome, 0, out)
    }

    /// Reads the body of a Welcome.
    ///
    /// # Errors
    /// A malformed, overrunning or duplicate field, a `max_frame` below 81 920, no session.
    pub fn from_packet(packet: &Packet) -> Result<Self, DecodeError> {
        let mut welcome = Self {
            max_frame: Limits::MIN_FRAME,
            features: Features::NONE,
            heartbeat: DEFAULT_HEARTBEAT,
            session: SessionId::new(0),
            agent: None,
            resume: None,
            resumed: None,
            replay_bytes: 0,
        };
        let (mut session, mut token, mut window) = (None, None, Duration::ZERO);
        tlv::parse(&packet.payload, |field| {
            match field.tag {
                tag::MAX_FRAME => welcome.max_frame = max_frame(field.u32()?)?,
                tag::FEATURES => welcome.features = Features(field.u32()?),
                tag::HEARTBEAT_MS => {
                    welcome.heartbeat = Duration::from_millis(u64::from(field.u32()?))
                }
                tag::AGENT => welcome.agent = Some(field.text(AGENT_MAX)?),
                tag::SESSION => session = Some(SessionId::new(field.u64()?)),
                tag::RESUME_TOKEN => token = Some(field.array()?),
                tag::RESUME_WINDOW_MS => window = Duration::from_millis(u64::from(field.u32()?)),
                tag::RESUMED => welcome.resumed = Some(field.u64()?),
                tag::REPLAY_BYTES => welcome.replay_bytes = field.u32()?,
                _ => {}
            }
            Ok(())
        })?;
        welcome.session = session.ok_or(DecodeError::TlvMissing {
            tag: tag::SESSION,
            name: "session",
        })?;
        welcome.resume = token.map(|token| (token, window));
        Ok(welcome)
    }
}

/// The body of a Goodbye or a GoAway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub reason: String,
    /// When to come back at the earliest.
    pub retry_after: Option<Duration>,
    /// Where to go instead.
    pub go_to: Option<String>,
}

impl Goodbye {
    /// A Goodbye with a code and words.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: CloseReason::local(code, reason).reason,
            retry_after: None,
            go_to: None,
        }
    }

    /// The frame, of type Goodbye or GoAway. A reason above 1 024 bytes is cut at a character boundary, a `go_to` above
    /// 1 024 bytes is left out.
    pub fn to_packet(&self, packet_type: PacketType) -> Packet {
        let mut out = Vec::new();
        tlv::put(&mut out, tag::CODE, &self.code.0.to_be_bytes());
        if !self.reason.is_empty() {
            let reason = cut(&self.reason, REASON_MAX);
            tlv::put(&mut out, tag::REASON, reason.as_bytes());
        }
        if let Some(retry_after) = self.retry_after {
            tlv::put(
                &mut out,
                tag::RETRY_AFTER_MS,
                &millis(retry_after).to_be_bytes(),
            );
        }
        // Half a URL would lead somewhere else.
        if let Some(go_to) = self.go_to.as_ref().filter(|url| url.len() <= GO_TO_MAX) {
            tlv::put(&mut out, tag::GO_TO, go_to.as_bytes());
        }
        Packet::numbered(packet_type, 0, out)
    }

    /// Reads the body; an absent code is 0.
    ///
    /// # Errors
    /// A malformed, overrunning or duplicate field.
    pub fn from_packet(packet: &Packet) -> Result<Self, DecodeError> {
        let mut goodbye = Self {
            code: Code::NORMAL,
            reason: String::new(),
            retry_after: None,
            go_to: None,
        };
        tlv::parse(&packet.payload, |field| {
            match field.tag {
                tag::CODE => goodbye.code = Code(field.u16()?),
                tag::REASON => goodbye.reason = field.text(REASON_MAX)?,
                tag::RETRY_AFTER_MS => {
                    goodbye.retry_after = Some(Duration::from_millis(u64::from(field.u32()?)))
                }
                tag::GO_TO => goodbye.go_to = Some(field.text(GO_TO_MAX)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(goodbye)
    }
}

fn put_agent(out: &mut Vec<u8>, agent: Option<&str>) {
    if let Some(agent) = agent {
        tlv::put(out, tag::AGENT, cut(agent, AGENT_MAX).as_bytes());
    }
}

fn max_frame(value: u32) -> Result<u32, DecodeError> {
    if value < Limits::MIN_FRAME {
        return Err(DecodeError::MaxFrameTooSmall {
            value,
            min: Limits::MIN_FRAME,
        });
    }
    Ok(value)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
