//! MsgTrans over TCP: frames back to back on a socket, from byte 0.
//!
//! [`TcpServerConfig`] listens, [`TcpClientConfig`] dials; both are also spelled as URLs
//! (`tcp://0.0.0.0:8080?nodelay=true`). A connection is a
//! [`StreamConnection`](msgtrans_transport::StreamConnection) over the socket: this crate adds what is TCP's own, and
//! nothing else.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod connector;
mod listener;

pub use config::{TcpClientConfig, TcpServerConfig};

/// The URL scheme of this protocol.
pub const SCHEME: &str = "tcp";
