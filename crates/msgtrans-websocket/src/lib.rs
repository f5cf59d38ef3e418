//! MsgTrans over WebSocket, with a frame codec of its own.
//!
//! One packet is one binary message (wire format, section 8). [`WebSocketServerConfig`] listens and
//! [`WebSocketClientConfig`] dials, `ws://` and, with the feature `tls`, `wss://`.
//!
//! Below them lie the parts without I/O, usable alone: [`frame`] and [`mask`] for single frames,
//! [`message`] for messages out of any split of bytes, [`handshake`] for the HTTP upgrade. A frame that
//! lies whole in the read buffer is unmasked where it lies and shared, not copied.
//!
//! There are no extensions: packets are compressed above this layer, for every protocol alike.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;

mod config;
mod connection;
mod connector;
mod framing;
mod listener;
#[cfg(feature = "tls")]
mod tls;
mod upgrade;
mod utf8;

pub use config::{WebSocketClientConfig, WebSocketServerConfig};
pub use connection::WebSocketConnection;

/// The URL scheme of this protocol.
pub const SCHEME: &str = "ws";
/// The URL scheme of this protocol over TLS.
pub const SCHEME_TLS: &str = "wss";
