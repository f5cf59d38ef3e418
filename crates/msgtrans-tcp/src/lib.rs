//! MsgTrans over TCP: frames back to back on a socket, from byte 0.
//!
//! [`TcpServerConfig`] listens, [`TcpClientConfig`] dials; both are also spelled as URLs
//! (`tcp://0.0.0.0:8080?nodelay=true`). A connection is a
//! [`StreamConnection`](msgtrans_transport::StreamConnection) over the socket: this crate adds what is TCP's own, and
//! nothing else.
//!
//! With the feature `tls` both take TLS settings too, and are then spelled `tls://`. ALPN `msgtrans/2` is offered and
//! accepted, not required: a version 1 client offers none, and the first frame decides. A stream that ends without
//! close_notify is a lost connection, never a good end.
//!
//! # Features
//! - `tls` (off): `tls://`, by rustls with *ring*.
//! - `dangerous-insecure` (off): adds the URL option `insecure=true`, with which a client believes any server; each
//!   connection is warned about in the log.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
#[cfg(feature = "tls")]
mod connection;
mod connector;
mod listener;
#[cfg(feature = "tls")]
mod tls;

pub use config::{TcpClientConfig, TcpServerConfig};

/// The URL scheme of this protocol.
pub const SCHEME: &str = "tcp";
/// The URL scheme of this protocol over TLS.
pub const SCHEME_TLS: &str = "tls";
