//! MsgTrans over QUIC: one bidirectional stream of frames on a connection that is always encrypted.
//!
//! [`QuicServerConfig`] listens, [`QuicClientConfig`] dials; both are also spelled as URLs
//! (`quic://0.0.0.0:8082?cert=chain.pem&key=key.pem`, `quic://example.org:8082?ca=roots.pem`). The wire version is
//! agreed by ALPN (`msgtrans/2`, `msgtrans/1`) before any frame.
//!
//! What QUIC does differently from a byte stream, and where it is done:
//! - a packet is confirmed when the peer's QUIC has acknowledged it (`outgoing.rs`);
//! - a version 1 server has a connection before it has a stream, and version 1 frames stand behind their length
//!   (`stream.rs`, `prefix.rs`);
//! - all connections of a listener, and all those of a client configuration, share one UDP socket (`socket.rs`), and
//!   handshakes run beside each other (`listener.rs`);
//! - a socket outlives its listener for the sake of its connections, and the next listener at the address takes it over,
//!   buffers of the system included (`left.rs`).
//!
//! 0-RTT, datagrams and connection migration on the client's side are not used; an unreliable packet goes on the
//! stream.
//!
//! # Features
//! - `dangerous-insecure` (off): a client may be told to believe any server.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod client;
mod congestion;
mod connection;
mod connector;
mod failure;
mod left;
mod listener;
mod offloads;
mod outgoing;
mod prefix;
mod preset;
mod server;
mod socket;
mod stream;
mod tuning;
mod udp;

#[cfg(feature = "dangerous-insecure")]
#[cfg_attr(docsrs, doc(cfg(feature = "dangerous-insecure")))]
pub use client::DangerousQuicClientConfig;
pub use client::QuicClientConfig;
pub use congestion::{QuicCongestion, UnknownCongestion};
pub use offloads::UdpOffloads;
pub use preset::{QuicPreset, UnknownPreset};
pub use server::QuicServerConfig;

/// Parts that fuzzers reach without a connection around them. Not part of the interface.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::prefix::{Unprefix, encode_prefixed};
}

use msgtrans_core::{ConfigError, WireVersion, WireVersions};
use msgtrans_transport::Endpoint;

/// The URL scheme of this protocol.
pub const SCHEME: &str = "quic";

/// What each wire version is called in ALPN.
const fn alpn(version: WireVersion) -> &'static [u8] {
    match version {
        WireVersion::V1 => b"msgtrans/1",
        WireVersion::V2 => b"msgtrans/2",
    }
}

/// The names of `wire`, the newer version first.
fn alpns(wire: WireVersions) -> Vec<&'static [u8]> {
    [WireVersion::V2, WireVersion::V1]
        .into_iter()
        .filter(|version| wire.contains(*version))
        .map(alpn)
        .collect()
}

/// The version that the handshake of `connection` agreed on.
fn negotiated(connection: &quinn::Connection) -> Option<WireVersion> {
    let data = connection.handshake_data()?;
    let data = data
        .downcast::<quinn::crypto::rustls::HandshakeData>()
        .ok()?;
    let name = data.protocol?;
    [WireVersion::V2, WireVersion::V1]
        .into_iter()
        .find(|version| alpn(*version) == name)
}

/// The address as an endpoint without options.
fn parse_address(address: &str) -> Result<Endpoint, ConfigError> {
    Endpoint::from_address(SCHEME, address)
}

/// The endpoint of an address, or one that shows an address that is none.
fn display_address(address: &str) -> Endpoint {
    parse_address(address).unwrap_or_else(|_| Endpoint::new(SCHEME, address, None))
}

/// `host:port` of a URL that has nothing else in front of its options.
fn address_of(endpoint: &Endpoint) -> Result<String, ConfigError> {
    if endpoint.scheme() != SCHEME {
        let expected = format!("must be {SCHEME}:// here");
        return Err(ConfigError::new("scheme", endpoint.scheme(), expected));
    }
    if !matches!(endpoint.path(), "" | "/") {
        let expected = format!("{SCHEME}:// has no paths");
        return Err(ConfigError::new("path", endpoint.path(), expected));
    }
    endpoint.authority()
}

fn put_wire(endpoint: Endpoint, wire: Option<WireVersions>) -> Endpoint {
    match wire {
        None => endpoint,
        Some(WireVersions::V1) => endpoint.with_option("wire", "v1"),
        Some(WireVersions::V2) => endpoint.with_option("wire", "v2"),
        Some(WireVersions::Any) => endpoint.with_option("wire", "auto"),
    }
}

/// What went wrong, with its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
