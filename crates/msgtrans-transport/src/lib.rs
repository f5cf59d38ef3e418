//! The seam that every protocol implements.
//!
//! A protocol gives a [`ServerProtocol`] that binds a [`Listener`], a [`Connector`] that dials, and a [`Connection`]
//! that moves packets in batches. Everything above it is the same for all protocols; everything below is its own.
//! Anything that is an `AsyncRead + AsyncWrite` becomes a [`Connection`] through [`StreamConnection`].
//!
//! # A packet's way through a connection
//! `poll_recv` fills a [`PacketBatch`](msgtrans_core::PacketBatch) from one read; the session handles it and pushes
//! replies into an [`OutboundBatch`]; `poll_send` writes that batch in one go. Both are called once per batch, never
//! per packet, so dynamic dispatch costs nothing that can be measured.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod connection;
mod endpoint;
mod listener;
mod outbound;
pub mod probe;
mod protocol;
mod shared_stream;
mod shortcut;
pub mod socket;
mod stream;

pub use connection::{Connection, ConnectionError, OwnInfo, Progress, Received};
pub use endpoint::{Endpoint, EndpointOptions, ParseEndpointError};
pub use listener::{AcceptError, Handshake, Incoming, Listener};
pub use outbound::{Confirmation, Confirmed, Encoder, Framing, OutboundBatch};
pub use probe::Probe;
pub use protocol::{
    BoxFuture, Connector, DialContext, IntoConnector, IntoServerProtocol, ListenContext,
    ProtocolConfig, Schemes, ServerProtocol,
};
pub use shared_stream::SharedTcp;
#[cfg(unix)]
pub use shared_stream::SharedUnix;
pub use shortcut::{ByteWay, Inlet, Shortcut};
pub use stream::StreamConnection;
