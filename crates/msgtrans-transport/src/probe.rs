//! [`Probe`]: what a stream tells without a system call.

use std::fmt;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::socket::tcp_peer_gone;

/// What a stream tells without a system call; [`NONE`](Self::NONE) is told by a stream that tells nothing.
pub struct Probe<S> {
    /// Whether its peer has ended its side, where nothing is read for a while: see
    /// [`Connection::peer_gone`](crate::Connection::peer_gone).
    pub peer_gone: fn(&S) -> bool,
    /// Whether a read may bring something, stored wakers left alone. It may say yes too often.
    pub may_read: fn(&S) -> bool,
    /// The same, and where the answer is no, the waker is stored as by a read. It may say yes too often.
    pub poll_readable: fn(&S, &mut Context<'_>) -> Poll<()>,
}

impl<S> Probe<S> {
    /// Nothing is known: what there is, a read has to find out.
    pub const NONE: Self = Self {
        peer_gone: |_| false,
        may_read: |_| true,
        poll_readable: |_, _| Poll::Ready(()),
    };
}

impl<S> fmt::Debug for Probe<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

/// A TCP socket's.
pub const TCP: Probe<TcpStream> = Probe {
    peer_gone: tcp_peer_gone,
    may_read: |stream| stream.try_io(Interest::READABLE, || Ok(())).is_ok(),
    // An error is the read's to report.
    poll_readable: |stream, cx| stream.poll_read_ready(cx).map(drop),
};
