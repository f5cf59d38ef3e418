//! [`Listener`]: where connections come from.

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use msgtrans_core::{BindError, ConnectError, PeerAddress};
use thiserror::Error;

use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::protocol::BoxFuture;

/// A handshake in progress: resolves to a connection or to how the peer failed it.
pub type Handshake = BoxFuture<'static, Result<Box<dyn Connection>, ConnectError>>;

/// A peer that has come in.
pub enum Incoming {
    /// The protocol has no handshake below the session.
    Connection(Box<dyn Connection>),
    /// A handshake that the server drives beside others, under one deadline and bounded in number.
    Handshake {
        /// Who it is, for admission by address.
        peer: PeerAddress,
        /// Whether the peer has said something. Where it has not, the handshake's first poll looks for its first bytes,
        /// and while they are not there it is not among the handshakes that the server bounds, so that silent peers keep
        /// nobody out. What is there it may read, and end if that is all it takes; if it takes more it is polled
        /// again, by [`poll_again`](crate::socket::poll_again) where nothing else sees to it, and has begun.
        begun: bool,
        /// The work. Dropping it drops the peer.
        handshake: Handshake,
    },
}

impl Incoming {
    /// Who has come in.
    pub fn peer(&self) -> &PeerAddress {
        match self {
            Self::Connection(connection) => &connection.info().peer,
            Self::Handshake { peer, .. } => peer,
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if matches!(self, Self::Connection(_)) {
            "Connection"
        } else {
            "Handshake"
        };
        f.debug_tuple(kind).field(self.peer()).finish()
    }
}

/// Why an accept failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The process or system is out of descriptors or memory; the server backs off and tries again.
    #[error("out of resources: {0}")]
    Exhausted(#[source] io::Error),
    /// This one peer failed; the next may succeed at once.
    #[error("a connection was lost before it was accepted: {0}")]
    Peer(#[source] io::Error),
    /// The listener is broken for good.
    #[error("the listener failed: {0}")]
    Fatal(#[source] io::Error),
}

impl AcceptError {
    /// Sorts an accept's error by what the server can do about it.
    pub fn from_io(error: io::Error) -> Self {
        // EMFILE 24, ENFILE 23, ENOBUFS 105, ENOMEM 12 on Linux; WSAEMFILE 10024, WSAENOBUFS 10055 on Windows.
        match error.raw_os_error() {
            Some(23 | 24 | 105 | 12 | 55 | 10024 | 10055) => Self::Exhausted(error),
            Some(9 | 22 | 88 | 95) => Self::Fatal(error),
            _ => Self::Peer(error),
        }
    }
}

/// Where connections come from. Dropping it stops listening.
pub trait Listener: Send {
    /// The next peer. After an [`AcceptError::Exhausted`] the caller waits before it asks again.
    ///
    /// # Errors
    /// See [`AcceptError`].
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>>;

    /// Where it listens: with port 0 asked for, the port that was given.
    fn local_endpoint(&self) -> Endpoint;

    /// One more listener of the same kind at the same place, whose sockets belong to the tokio runtime that is current:
    /// the system spreads the peers over all of them. `None`, which is the default, where a place has one listener only.
    /// Asked for where [`ListenContext::shared`](crate::ListenContext::shared) was set.
    ///
    /// # Errors
    /// The system has no more sockets, or cannot share a port.
    fn beside(&self) -> Option<Result<Box<dyn Listener>, BindError>> {
        None
    }
}

#[cfg(test)]
mod tests;
