//! [`TcpAcceptor`]: a listening socket whose connections are read once something has come.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::{Context, Poll, ready};

#[cfg(unix)]
use tokio::io::unix::AsyncFd as Watched;
#[cfg(not(unix))]
use tokio::net::TcpListener as Watched;
use tokio::net::TcpStream;

use crate::listener::AcceptError;
use crate::socket::{TcpOptions, listen_at};

/// A socket of [`listen`](crate::socket::listen) and the options of what it accepts.
///
/// Tokio's own listener takes each new socket for readable, so that the first poll of each connection is a read, and in a
/// burst of peers one that finds nothing: a lease, a system call and a poll of the session for nothing, a tenth of what
/// opening a connection costs. Here a connection is readable when the system says so, and
/// [`TcpStream::readable`] can be relied on.
#[derive(Debug)]
pub struct TcpAcceptor {
    #[cfg(unix)]
    socket: Watched<TcpListener>,
    #[cfg(not(unix))]
    socket: Watched,
    options: TcpOptions,
}

impl TcpAcceptor {
    /// `listener` does not block.
    pub(crate) fn new(listener: TcpListener, options: TcpOptions) -> io::Result<Self> {
        #[cfg(unix)]
        #[expect(
            deprecated,
            reason = "sound for what owns its descriptor and gives no other; what replaces it is unsafe"
        )]
        let socket = Watched::with_interest(listener, tokio::io::Interest::READABLE)?;
        #[cfg(not(unix))]
        let socket = Watched::from_std(listener)?;
        Ok(Self { socket, options })
    }

    /// The next connection, its options set, and its peer.
    ///
    /// # Errors
    /// As [`AcceptError`] tells them apart: this peer's, or the system's.
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(TcpStream, SocketAddr), AcceptError>> {
        let (stream, address) = ready!(self.poll_stream(cx)).map_err(AcceptError::from_io)?;
        // A socket that takes no options is one whose peer is gone already.
        self.options
            .apply_accepted(&stream)
            .map_err(AcceptError::Peer)?;
        Poll::Ready(Ok((stream, address)))
    }

    #[cfg(unix)]
    fn poll_stream(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        loop {
            let mut ready = ready!(self.socket.poll_read_ready(cx))?;
            let Ok(accepted) = ready.try_io(|socket| socket.get_ref().accept()) else {
                continue;
            };
            let (stream, address) = accepted?;
            stream.set_nonblocking(true)?;
            return Poll::Ready(Ok((TcpStream::from_std(stream)?, address)));
        }
    }

    #[cfg(not(unix))]
    fn poll_stream(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let (stream, address) = ready!(self.socket.poll_accept(cx))?;
        let stream = TcpStream::from_std(stream.into_std()?)?;
        Poll::Ready(Ok((stream, address)))
    }

    /// One more socket where this one listens, which was made shared: the system spreads the peers over them.
    ///
    /// # Errors
    /// The system has no more sockets, or cannot share a port.
    pub fn beside(&self) -> io::Result<Self> {
        let listener = listen_at(self.local_addr()?, &self.options, true, true)?;
        Self::new(listener, self.options.clone())
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        #[cfg(unix)]
        return self.socket.get_ref().local_addr();
        #[cfg(not(unix))]
        return self.socket.local_addr();
    }
}

#[cfg(test)]
mod tests;
