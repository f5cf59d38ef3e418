//! MsgTrans in process: packets change hands in memory, never encoded.
//!
//! This is the smallest protocol there is and the one to read before writing another. A protocol has four parts, one
//! file each here:
//!
//! 1. **Configurations** (`config.rs`), one that listens and one that dials, each also spelled as a URL. They
//!    implement [`ProtocolConfig`](msgtrans_transport::ProtocolConfig): show yourself as a URL, check yourself.
//! 2. **A listener** (`listener.rs`): [`ServerProtocol::bind`](msgtrans_transport::ServerProtocol::bind) makes it, so
//!    that an address in use is an error at once, and the server polls it for connections. A protocol with handshakes
//!    of its own (TLS, an HTTP upgrade) yields them as futures that the server drives under its deadline and bounds.
//! 3. **A connector** (`connector.rs`): [`Connector::connect`](msgtrans_transport::Connector::connect) dials, again
//!    and again while a client reconnects.
//! 4. **A connection** (`connection.rs`): moves packets in batches for one session. A protocol over bytes rarely needs
//!    one of its own: anything that is an `AsyncRead + AsyncWrite` becomes one through
//!    [`StreamConnection`](msgtrans_transport::StreamConnection), as in `msgtrans-tcp`.
//!
//! Beside them stand one line in the facade's table of schemes, one feature, and one call of the conformance suite of
//! `msgtrans-testkit`, which says what is still wrong. Nothing below or beside the protocol changes.
//!
//! In process there is no wire, but everything else is as elsewhere: limits, authentication, heartbeat, resume. Only
//! wire version 2 is spoken.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
mod connection;
mod connector;
mod listener;

pub use config::{InprocClientConfig, InprocServerConfig};

/// The URL scheme of this protocol.
pub const SCHEME: &str = "inproc";
