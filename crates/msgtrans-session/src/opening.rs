//! The handshake's decisions, without I/O: what a Hello and a Welcome settle.
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

use std::time::Duration;

use msgtrans_core::{
    ConnectError, DecodeError, Features, Hello, Limits, PacketType, Welcome, WireVersion,
    WireVersions,
};
use msgtrans_transport::Connection;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::compress;
use crate::config::SessionConfig;
use crate::handler::{ConnectRequest, Refusal};
use crate::service::BoxFuture;
use crate::session::Session;

/// What this build can do on every session.
pub(crate) const FEATURES: Features = Features::CANCEL.with(compress::supported());
const HEARTBEAT_MIN: Duration = Duration::from_millis(5_000);
const HEARTBEAT_MAX: Duration = Duration::from_millis(300_000);
/// How a Hello and a Welcome name this software.
pub(crate) const AGENT: &str = concat!("msgtrans/", env!("CARGO_PKG_VERSION"));

/// Why a dialled connection did not become a session.
#[derive(Debug)]
pub struct OpenError {
    /// What to tell the user.
    pub error: ConnectError,
    /// Whether the connection ended after the Hello without a single byte, as a version 1 server ends it.
    pub silent: bool,
}

/// What a dialling side hears about its session.
pub(crate) type Opened = oneshot::Sender<Result<Session, OpenError>>;

/// A session before it is one.
pub(crate) struct Opening {
    pub(crate) role: Role,
    pub(crate) deadline: Instant,
    /// When a silent peer counts as one that listens first.
    pub(crate) silence: Option<Instant>,
    /// The authenticator at work; nothing is read meanwhile. Boxed for a moment, as what ten thousand openings hold at once
    /// stays as holes between their sessions.
    pub(crate) decision: Option<Box<Decision>>,
}

pub(crate) enum Role {
    Server,
    Client {
        endpoint: String,
        opened: Option<Opened>,
        said_hello: bool,
    },
}

/// An authenticator at work, and what follows if it agrees.
pub(crate) struct Decision {
    pub(crate) future: BoxFuture<'static, Result<(), Refusal>>,
    pub(crate) terms: Terms,
    /// The first frame of a version 1 peer.
    pub(crate) first: Option<msgtrans_core::Packet>,
    /// Whether the peer has said which version it speaks, not just nothing.
    pub(crate) settled: bool,
}

/// What both sides keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) version: WireVersion,
    pub(crate) features: Features,
    pub(crate) heartbeat: Duration,
    pub(crate) peer_max_frame: u32,
}

impl Terms {
    /// A version 1 peer has announced nothing: what it takes are the limits that both have by default.
    pub(crate) fn v1(config: &SessionConfig) -> Self {
        let peer_max_frame = Limits::default().max_frame();
        Self {
            version: WireVersion::V1,
            features: Features::NONE,
            heartbeat: config.heartbeat,
            peer_max_frame,
        }
    }

    /// What a server makes of a Hello.
    pub(crate) fn of_hello(hello: &Hello) -> Self {
        Self {
            version: WireVersion::V2,
            features: FEATURES.intersection(hello.features),
            heartbeat: hello.heartbeat.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX),
            peer_max_frame: hello.max_frame,
        }
    }

    /// What a client makes of a Welcome.
    pub(crate) fn of_welcome(welcome: &Welcome) -> Self {
        Self {
            version: WireVersion::V2,
            features: FEATURES.intersection(welcome.features),
            heartbeat: welcome.heartbeat.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX),
            peer_max_frame: welcome.max_frame,
        }
    }
}

/// The Hello of a client that does not resume.
pub(crate) fn hello(config: &SessionConfig) -> Hello {
    Hello {
        max_frame: config.limits.max_frame(),
        features: FEATURES,
        heartbeat: config.heartbeat,
        auth: config.auth.clone(),
        agent: Some(AGENT.to_owned()),
        ..Hello::default()
    }
}

/// The Welcome that tells the terms.
pub(crate) fn welcome(config: &SessionConfig, terms: &Terms, session: &Session) -> Welcome {
    Welcome {
        max_frame: config.limits.max_frame(),
        features: terms.features,
        heartbeat: terms.heartbeat,
        session: session.id(),
        agent: Some(AGENT.to_owned()),
        resume: None,
        resumed: None,
        replay_bytes: 0,
    }
}

/// What the first frame of a peer says: a Hello, or nothing where it speaks version 1. A version 2 frame other than Hello is
/// a protocol error.
pub(crate) fn first_frame(
    packet: &msgtrans_core::Packet,
    version: WireVersion,
) -> Result<Option<Hello>, DecodeError> {
    match (version, packet.packet_type) {
        (WireVersion::V1, _) => Ok(None),
        (WireVersion::V2, PacketType::Hello) => Hello::from_packet(packet).map(Some),
        (WireVersion::V2, packet_type) => Err(DecodeError::OutOfPlace {
            packet_type,
            why: "the first frame must be Hello",
        }),
    }
}

/// What is presented to the authenticator.
pub(crate) fn connect_request(hello: Option<Hello>) -> ConnectRequest {
    match hello {
        Some(hello) => ConnectRequest::new(WireVersion::V2, hello.auth, hello.agent),
        None => ConnectRequest::new(WireVersion::V1, None, None),
    }
}

/// Whether silence may mean a version 1 peer that listens first: only where the first frame decides.
pub(crate) fn may_listen_first(wire: WireVersions, connection: &dyn Connection) -> bool {
    wire.contains(WireVersion::V1) && connection.info().negotiated.is_none()
}
