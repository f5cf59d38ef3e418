//! [`StreamConnection`]: any `AsyncRead + AsyncWrite` plus the codec is a [`Connection`].
// A peer's bytes pass here: nothing that can panic.
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
use std::pin::Pin;
use std::sync::Weak;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use msgtrans_core::{
    CloseReason, ConnectionInfo, Decoded, Decoder, Initiator, Limits, PacketBatch, ReadTarget,
    WireVersion, WireVersions,
};
use msgtrans_mempool::worker;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use crate::connection::{Connection, ConnectionError, OwnInfo, Progress, Received};
use crate::outbound::{Framing, OutboundBatch};
use crate::probe::Probe;
use crate::shortcut::ByteWay;

/// Reads that bring no whole packet before a call lets others run: a peer that trickles must not hold the thread.
const READS_MAX: usize = 16;
/// Bytes that a close reads and throws away, so that the peer's unread input does not turn the end into a reset that
/// destroys the Goodbye.
const LINGER_BYTES_MAX: u32 = 64 * 1024;

/// Frames back to back on a byte stream, as on TCP, TLS and Unix sockets.
///
/// Holds no buffer while idle: reads go into a buffer leased from the worker once the stream is readable, packets are
/// slices of it, and an incomplete frame is copied out, a large one into a buffer of the pool.
#[derive(Debug)]
pub struct StreamConnection<S: 'static> {
    stream: S,
    /// Boxed with what only moving sessions touch, so that the connection stays small in the session's task.
    decoder: Decoder,
    info: OwnInfo,
    progress: Progress,
    /// Whether the stream keeps written bytes to itself until it is flushed.
    buffered: bool,
    version: Option<WireVersion>,
    ended: bool,
    closing: Option<Closing>,
    probe: &'static Probe<S>,
    /// Whether the last read brought all that there was, and nobody has looked for more since.
    drained: bool,
    /// What the look for the first bytes met, for the next read to tell.
    failed: Option<Box<ConnectionError>>,
}

#[derive(Debug)]
enum Closing {
    Shutdown,
    Discard { left: u32 },
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> StreamConnection<S> {
    /// A connection whose first frame must be of a version in `accept`, within `limits`.
    ///
    /// `buffered` says whether written bytes reach the peer only after a flush (TLS); then confirmations wait for it.
    pub fn new(
        stream: S,
        info: ConnectionInfo,
        accept: WireVersions,
        limits: Limits,
        buffered: bool,
    ) -> Self {
        Self {
            stream,
            decoder: Decoder::new(accept, limits).with_memory(worker::make_room),
            info: OwnInfo::new(info),
            progress: Progress::default(),
            buffered,
            version: None,
            ended: false,
            closing: None,
            probe: &Probe::NONE,
            drained: false,
            failed: None,
        }
    }

    /// Asks `probe` where a system call can be spared, and the lease of a buffer with it.
    #[must_use]
    pub fn with_probe(mut self, probe: &'static Probe<S>) -> Self {
        self.probe = probe;
        self
    }

    /// One read to where the decoder wants it. A packet that comes by itself goes into `into`.
    #[inline(always)]
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut PacketBatch,
    ) -> Poll<Result<usize, ConnectionError>> {
        let drained = std::mem::take(&mut self.drained);
        ready!(self.probe.poll_behind(drained, &self.stream, cx));
        let stream = Pin::new(&mut self.stream);
        let (count, room) = match self.decoder.read_target() {
            ReadTarget::Direct(max) => {
                let buffer = &mut self.decoder.direct_buffer().limit(max);
                (ready!(poll_read_buf(stream, cx, buffer))?, max)
            }
            ReadTarget::Shared => {
                let decoder = &mut self.decoder;
                let read = worker::with_read_buffer(|buffer| {
                    let count = ready!(poll_read_buf(stream, cx, buffer))?;
                    decoder.push_lone(worker::split_filled(buffer).freeze(), into);
                    Poll::Ready(Ok::<_, io::Error>(count))
                });
                (ready!(read)?, worker::READ_BUFFER_LEN)
            }
        };
        self.drained = count < room;
        self.progress.read = self.progress.read.saturating_add(count as u64);
        Poll::Ready(Ok(count))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for StreamConnection<S> {
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // No packet comes by itself before the version is known.
        match ready!(self.poll_read(cx, &mut PacketBatch::new())) {
            Ok(count) => self.ended = count == 0,
            Err(error) => {
                // A socket tells of it once; whoever reads on hears of it.
                self.ended = true;
                self.failed = Some(Box::new(error));
            }
        }
        Poll::Ready(())
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        let before = into.len();
        for _ in 0..READS_MAX {
            let decoded = self.decoder.decode(budget_bytes, into)?;
            if into.len() > before {
                return Poll::Ready(Ok(Received::Packets));
            }
            debug_assert_eq!(
                decoded,
                Decoded::Starved,
                "a decode without a packet has nothing left to decode"
            );
            if self.ended {
                if let Some(error) = self.failed.take() {
                    return Poll::Ready(Err(*error));
                }
                return Poll::Ready(if self.decoder.is_at_boundary() {
                    Ok(Received::End)
                } else {
                    Err(ConnectionError::Truncated {
                        held: self.decoder.held_bytes(),
                    })
                });
            }
            if ready!(self.poll_read(cx, into))? == 0 {
                self.ended = true;
            } else if into.len() > before {
                // It came by itself.
                let received = self.probe.lone(&mut self.drained, &self.stream, cx);
                return Poll::Ready(Ok(received));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        while !from.bytes_mut().is_empty() {
            let count = ready!(
                self.probe
                    .poll_write(&mut self.stream, cx, from.bytes_mut())
            )?;
            if count == 0 {
                return Poll::Ready(Err(ConnectionError::Io(io::ErrorKind::WriteZero.into())));
            }
            self.progress.written = self.progress.written.saturating_add(count as u64);
            if !self.buffered {
                from.complete_taken();
            }
        }
        if self.buffered {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        }
        from.complete_taken();
        Poll::Ready(Ok(()))
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        reason: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        loop {
            match &mut self.closing {
                None => {
                    if reason.initiator == Initiator::Network {
                        return Poll::Ready(Ok(()));
                    }
                    // A version 1 peer drops what it still had to write when it sees a half-close.
                    let half_close = self.version != Some(WireVersion::V1) || self.ended;
                    self.closing = Some(if half_close {
                        Closing::Shutdown
                    } else {
                        Closing::Discard {
                            left: LINGER_BYTES_MAX,
                        }
                    });
                }
                Some(Closing::Shutdown) => {
                    ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                    self.closing = Some(Closing::Discard {
                        left: LINGER_BYTES_MAX,
                    });
                }
                Some(Closing::Discard { left }) => {
                    if self.ended || *left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let mut buffer = worker::take_read_buffer();
                    let stream = Pin::new(&mut self.stream);
                    let count = ready!(poll_read_buf(
                        stream,
                        cx,
                        &mut buffer.bytes_mut().limit(*left as usize)
                    ))?;
                    *left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
                    if count == 0 {
                        self.ended = true;
                    }
                    buffer.bytes_mut().clear();
                }
            }
        }
    }

    fn set_wire(&mut self, version: WireVersion, limits: Limits) {
        self.version = Some(version);
        self.decoder.set_wire(version, limits);
    }

    fn framing(&self) -> Framing {
        Framing::Frames
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn incomplete(&self) -> Option<usize> {
        self.decoder.incomplete()
    }

    fn peer_gone(&self) -> bool {
        self.ended || (self.probe.peer_gone)(&self.stream)
    }

    fn byte_way(&self) -> Option<Weak<dyn ByteWay>> {
        (self.probe.byte_way)(&self.stream)
    }

    fn info(&self) -> &ConnectionInfo {
        self.info.get()
    }

    fn take_info(&mut self) -> Box<ConnectionInfo> {
        self.info.take()
    }
}

#[cfg(test)]
mod tests;
