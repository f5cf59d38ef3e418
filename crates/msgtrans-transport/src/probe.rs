//! [`Probe`]: what a stream can do beside being polled.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use msgtrans_core::OutBuffer;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_util::io::poll_write_buf;

use crate::connection::Received;
use crate::shared_stream::SharedTcp;
use crate::shortcut::ByteWay;
use crate::socket::tcp_peer_gone;

/// More may be taken in part. A poll knows then that the socket is full, where a try has to find out.
const TRIED_MAX: usize = 4096;

/// What a stream tells without a system call, and takes without being polled; [`NONE`](Self::NONE) is a stream that does
/// neither.
pub struct Probe<S> {
    /// Whether its peer has ended its side, where nothing is read for a while: see
    /// [`Connection::peer_gone`](crate::Connection::peer_gone).
    pub peer_gone: fn(&S) -> bool,
    /// Whether a read may bring something; where the answer is no, the waker is stored as by a read. It may say yes too
    /// often.
    pub poll_readable: fn(&S, &mut Context<'_>) -> Poll<()>,
    /// Writes if it can be done now: [`WouldBlock`](io::ErrorKind::WouldBlock) says to poll, which stores the waker. It
    /// spares what a poll costs that does not have to wait.
    pub try_write: fn(&S, &[u8]) -> io::Result<usize>,
    /// The way onto the stream past its connection: see [`Connection::byte_way`](crate::Connection::byte_way).
    pub byte_way: fn(&S) -> Option<Weak<dyn ByteWay>>,
}

impl<S> Probe<S> {
    /// Nothing is known: what there is, a read has to find out.
    pub const NONE: Self = Self {
        peer_gone: |_| false,
        poll_readable: |_, _| Poll::Ready(()),
        try_write: |_, _| Err(io::ErrorKind::WouldBlock.into()),
        byte_way: |_| None,
    };

    /// Whether to read: pending where the last read was short (`drained`) and nothing has come since.
    ///
    /// The look costs less than a read that finds nothing, for which a buffer is leased. It stores the waker each time:
    /// that it is the one that lies there already says nothing, because a wake-up under way for bytes that have been
    /// read takes it. The caller forgets that the last read was short, so whoever is woken by the look reads at once; a
    /// task that was woken for something else pays for the lease, and its read stores the waker too.
    #[inline]
    pub fn poll_behind(&self, drained: bool, stream: &S, cx: &mut Context<'_>) -> Poll<()> {
        if drained {
            (self.poll_readable)(stream, cx)
        } else {
            Poll::Ready(())
        }
    }

    /// Behind a read that brought one packet and nothing else: looks for more at once where it was short (`drained`),
    /// which spares the call that would find nothing. Not behind many, whose handling takes so long that more comes
    /// meanwhile, and a look after it makes one pass of both.
    #[inline]
    pub fn lone(&self, drained: &mut bool, stream: &S, cx: &mut Context<'_>) -> Received {
        if std::mem::take(drained) && (self.poll_readable)(stream, cx).is_pending() {
            Received::Lone
        } else {
            Received::Packets
        }
    }
}

impl<S: AsyncWrite + Unpin> Probe<S> {
    /// One write of what is there, at most; returns how much was taken.
    ///
    /// # Errors
    /// The stream's own.
    #[inline]
    pub fn poll_write(
        &self,
        stream: &mut S,
        cx: &mut Context<'_>,
        out: &mut OutBuffer,
    ) -> Poll<io::Result<usize>> {
        if !out.is_contiguous() {
            return poll_write_buf(Pin::new(stream), cx, out);
        }
        let tried = if out.len() <= TRIED_MAX {
            (self.try_write)(stream, out.chunk())
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        };
        let count = match tried {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready!(Pin::new(stream).poll_write(cx, out.chunk()))?
            }
            tried => tried?,
        };
        out.advance(count);
        Poll::Ready(Ok(count))
    }
}

impl<S> fmt::Debug for Probe<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

/// A TCP socket's.
pub const TCP: Probe<TcpStream> = Probe {
    peer_gone: tcp_peer_gone,
    // An error is the read's to report.
    poll_readable: |stream, cx| stream.poll_read_ready(cx).map(drop),
    try_write: TcpStream::try_write,
    byte_way: |_| None,
};

/// The same where others may write, too.
pub const SHARED_TCP: Probe<SharedTcp> = Probe {
    peer_gone: |stream| tcp_peer_gone(stream.socket()),
    poll_readable: |stream, cx| (TCP.poll_readable)(stream.socket(), cx),
    try_write: |stream, bytes| stream.socket().try_write(bytes),
    byte_way: |stream| Some(stream.byte_way()),
};
