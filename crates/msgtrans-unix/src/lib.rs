//! MsgTrans over Unix sockets: frames back to back between processes of one machine.
//!
//! [`UnixServerConfig`] listens at a path, [`UnixClientConfig`] dials it; both are also spelled as URLs
//! (`unix:///run/app.sock?mode=660`). A connection is a [`StreamConnection`](msgtrans_transport::StreamConnection) over
//! the socket. Who may connect is what the socket file's permission bits say.
//!
//! On systems without Unix sockets this crate is empty.
#![cfg(unix)]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod connector;
mod listener;
mod socket_file;

pub use config::{UnixClientConfig, UnixServerConfig};

/// The URL scheme of this protocol.
pub const SCHEME: &str = "unix";

/// Whether the peer of `stream` has ended its side, however much of what it sent lies unread.
fn peer_gone(stream: &tokio::net::UnixStream) -> bool {
    msgtrans_transport::socket::read_closed(stream.ready(tokio::io::Interest::READABLE))
}
