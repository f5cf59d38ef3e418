//! [`ConnectionInfo`]: which protocol, which peer, since when.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

/// Where the other end of a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerAddress {
    /// A socket address.
    Socket(SocketAddr),
    /// This very machine, by a path (Unix sockets) or a name (in process).
    Local(String),
}

impl PeerAddress {
    /// The IP address that admission rules count by; `None` for loopback and local peers, which are never capped.
    pub fn capped_ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(address) => {
                let ip = address.ip().to_canonical();
                (!ip.is_loopback()).then_some(ip)
            }
            Self::Local(_) => None,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Local(name) => name.fmt(f),
        }
    }
}

/// What is known about a connection from the moment it exists; it never changes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The URL scheme of the protocol: `"tcp"`, `"ws"`, `"quic"` …
    pub protocol: &'static str,
    /// The other end.
    pub peer: PeerAddress,
    /// When the connection was accepted or dialled.
    pub since: SystemTime,
    /// Whether bytes on the way are encrypted.
    pub secure: bool,
    /// The wire version that the protocol itself negotiated (ALPN, subprotocol), before any frame.
    pub negotiated: Option<crate::WireVersion>,
}

impl ConnectionInfo {
    /// Of nobody, over no protocol: what stands where there is nothing to tell.
    pub const fn unknown() -> Self {
        Self {
            protocol: "",
            peer: PeerAddress::Local(String::new()),
            since: SystemTime::UNIX_EPOCH,
            secure: false,
            negotiated: None,
        }
    }

    /// An unencrypted connection of `protocol` to `peer`, from now on, with no version negotiated.
    pub fn new(protocol: &'static str, peer: PeerAddress) -> Self {
        Self {
            protocol,
            peer,
            since: SystemTime::now(),
            secure: false,
            negotiated: None,
        }
    }

    /// Marks the connection as encrypted.
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    /// Notes the wire version that the protocol negotiated.
    #[must_use]
    pub fn negotiated(mut self, version: crate::WireVersion) -> Self {
        self.negotiated = Some(version);
        self
    }
}
