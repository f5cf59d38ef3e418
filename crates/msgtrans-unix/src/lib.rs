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

use msgtrans_transport::socket::read_closed;
use msgtrans_transport::{Probe, SharedUnix};
use tokio::io::Interest;

pub use config::{UnixClientConfig, UnixServerConfig};

/// The URL scheme of this protocol.
pub const SCHEME: &str = "unix";

/// What a socket tells.
const PROBE: Probe<SharedUnix> = Probe {
    peer_gone: |stream| read_closed(stream.socket().ready(Interest::READABLE)),
    poll_readable: |stream, cx| stream.socket().poll_read_ready(cx).map(drop),
    try_write: |stream, bytes| stream.socket().try_write(bytes),
    byte_way: |stream| Some(stream.byte_way()),
};
