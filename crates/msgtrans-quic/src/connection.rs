//! [`QuicConnection`]: one stream of frames over a QUIC connection, as the seam wants it.
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

use std::future::Future;
use std::io;
use std::iter;
use std::pin::{Pin, pin};
use std::slice;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use msgtrans_core::{
    CloseReason, Code, ConnectionInfo, Decoder, Initiator, Limits, PacketBatch, PeerAddress,
    ReadTarget, WireVersion, WireVersions,
};
use msgtrans_mempool::worker;
use msgtrans_transport::{Connection, ConnectionError, Framing, OutboundBatch, Progress, Received};
use quinn::{SendStream, VarInt};
use tokio::time::Sleep;
use tokio_util::io::poll_read_buf;

use crate::outgoing::Outgoing;
use crate::prefix::{Unprefix, encode_prefixed};
use crate::stream::{Delivered, Pair, Side, Streams};
use crate::{SCHEME, congestion, failure};

/// Reads that bring no whole packet before a call lets others run: a peer that trickles must not hold the thread.
const READS_MAX: usize = 16;
/// How long a version 1 client that says nothing leaves its stream invisible to the server.
const VISIBLE_AFTER: Duration = Duration::from_millis(50);

/// A QUIC connection with its one stream. Holds no buffer while idle.
#[derive(Debug)]
pub(crate) struct QuicConnection {
    /// Declared, and so dropped, before the connection's own handle: the last handle closes the connection.
    streams: Streams,
    connection: quinn::Connection,
    decoder: Decoder,
    /// Version 1 alone: takes the lengths out of what arrives.
    prefix: Option<Box<Unprefix>>,
    outgoing: Outgoing,
    visible: Visible,
    info: ConnectionInfo,
    progress: Progress,
    ended: bool,
    closing: Option<Box<Closing>>,
}

/// What a version 1 client does so that the server sees its stream.
#[derive(Debug)]
enum Visible {
    /// Nothing has been written; when this passes, the first byte of the first length goes out.
    After(Pin<Box<Sleep>>),
    /// It went out: the first frame's length goes on behind it.
    Begun,
    /// The stream has carried something, or need not.
    Yes,
}

#[derive(Debug)]
struct Closing {
    code: VarInt,
    reason: String,
    /// The wait until the peer has what was written; none where there is nothing to wait for.
    delivered: Option<Delivered>,
    done: bool,
}

impl QuicConnection {
    /// The client's end, the stream opened.
    pub(crate) fn dialled(
        connection: quinn::Connection,
        pair: Pair,
        version: WireVersion,
        limits: Limits,
    ) -> Self {
        let mut this = Self::new(connection, Streams::Open(pair), version, limits);
        if version == WireVersion::V1 {
            this.visible = Visible::After(Box::pin(tokio::time::sleep(VISIBLE_AFTER)));
        }
        this
    }

    /// The server's end.
    pub(crate) fn accepted(
        connection: quinn::Connection,
        streams: Streams,
        version: WireVersion,
        limits: Limits,
    ) -> Self {
        Self::new(connection, streams, version, limits)
    }

    fn new(
        connection: quinn::Connection,
        streams: Streams,
        version: WireVersion,
        limits: Limits,
    ) -> Self {
        let accept = match version {
            WireVersion::V1 => WireVersions::V1,
            WireVersion::V2 => WireVersions::V2,
        };
        let peer = peer_address(&connection);
        Self {
            streams,
            connection,
            decoder: Decoder::new(accept, limits).with_memory(worker::make_room),
            prefix: (version == WireVersion::V1).then(|| Box::new(Unprefix::new(limits))),
            outgoing: Outgoing::default(),
            visible: Visible::Yes,
            info: ConnectionInfo::new(SCHEME, peer)
                .secure()
                .negotiated(version),
            progress: Progress::default(),
            ended: false,
            closing: None,
        }
    }

    /// Decodes what has been read.
    fn decode(
        &mut self,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Result<(), ConnectionError> {
        match &mut self.prefix {
            Some(prefix) => prefix.decode(&mut self.decoder, budget_bytes, into)?,
            None => {
                self.decoder.decode(budget_bytes, into)?;
            }
        }
        Ok(())
    }

    /// One read to where the decoder wants it; 0 at the end of the stream. A packet that comes by itself goes into `into`.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut PacketBatch,
    ) -> Poll<Result<usize, ConnectionError>> {
        let pair = ready!(self.streams.poll_open(cx, Side::Reader)).map_err(failure::lost)?;
        let stream = Pin::new(&mut pair.recv);
        // Copied out of quinn's chunks, of which one is a datagram: frames rarely end where datagrams do, and each
        // that does not would cost a buffer of its own.
        let count = match self.decoder.read_target() {
            ReadTarget::Direct(max) => {
                let mut buffer = self.decoder.direct_buffer().limit(max);
                let count =
                    ready!(poll_read_buf(stream, cx, &mut buffer)).map_err(failure::read)?;
                if let Some(prefix) = &mut self.prefix {
                    prefix.read_directly(count);
                }
                count
            }
            ReadTarget::Shared => {
                let read = worker::with_read_buffer(|buffer| {
                    let read = ready!(poll_read_buf(stream, cx, buffer));
                    Poll::Ready(read.map(|count| (count, worker::split_filled(buffer).freeze())))
                });
                let (count, bytes) = ready!(read).map_err(failure::read)?;
                match &mut self.prefix {
                    Some(prefix) => prefix.push(bytes),
                    None => self.decoder.push_lone(bytes, into),
                }
                count
            }
        };
        self.progress.read = self.progress.read.saturating_add(count as u64);
        Poll::Ready(Ok(count))
    }

    /// Whether the stream may end here without cutting a frame.
    fn is_at_boundary(&self) -> bool {
        self.decoder.is_at_boundary()
            && self
                .prefix
                .as_ref()
                .is_none_or(|prefix| prefix.is_at_boundary())
    }

    fn held_bytes(&self) -> usize {
        let prefix = self.prefix.as_ref().map_or(0, |prefix| prefix.held_bytes());
        self.decoder.held_bytes().saturating_add(prefix)
    }

    /// An orderly close in the middle of a frame is none.
    fn cut(&self, error: ConnectionError) -> ConnectionError {
        match error {
            ConnectionError::Closed(reason) if reason.is_clean() && !self.is_at_boundary() => {
                ConnectionError::Truncated {
                    held: self.held_bytes(),
                }
            }
            other => other,
        }
    }

    /// Makes a version 1 client's stream visible when it is time.
    fn poll_visible(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        if let Visible::After(timer) = &mut self.visible
            && timer.as_mut().poll(cx).is_ready()
        {
            self.visible = Visible::Begun;
            self.outgoing.push(Bytes::from_static(&[0]));
            let mut nothing = OutboundBatch::new(self.framing(), WireVersion::V1);
            // Pending has stored the waker; whoever polls next goes on.
            if let Poll::Ready(Err(error)) = self.poll_write(cx, &mut nothing) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Takes off the first byte of the first frame's length where it has gone out already.
    fn continue_first(&mut self, from: &mut OutboundBatch) -> Result<(), ConnectionError> {
        if from.is_empty() {
            return Ok(());
        }
        if let Visible::Begun = self.visible {
            if from.bytes_mut().chunk().first() != Some(&0) {
                let what = "the first frame has 2^24 bytes or more, but its length has begun with \
                            the zero that made the stream visible";
                let error = io::Error::new(io::ErrorKind::InvalidInput, what);
                return Err(ConnectionError::Io(error));
            }
            from.bytes_mut().advance(1);
        }
        self.visible = Visible::Yes;
        Ok(())
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        let pair = ready!(self.streams.poll_open(cx, Side::Writer)).map_err(failure::lost)?;
        while let Some(mut piece) = self.outgoing.take(from) {
            let written = if self.outgoing.is_empty(from) {
                let written = poll_write_chunks(&mut pair.send, cx, slice::from_mut(&mut piece));
                self.outgoing.put_back(iter::once(piece));
                written
            } else {
                let mut pieces = self.outgoing.gather(piece, from);
                let written = poll_write_chunks(&mut pair.send, cx, &mut pieces);
                self.outgoing.put_back(pieces.into_iter());
                written
            };
            self.progress.written = self
                .progress
                .written
                .saturating_add(ready!(written)? as u64);
        }
        Poll::Ready(Ok(()))
    }

    /// Closes the connection at once.
    fn close_now(&mut self, code: VarInt, reason: &str) {
        self.outgoing.forsake();
        congestion::unbound(&self.connection);
        self.connection.close(code, reason.as_bytes());
    }
}

/// Hands pieces to quinn, which takes as many bytes as its windows allow. A future of its own for each poll loses
/// nothing: it holds no state, and quinn keeps the waker by stream.
fn poll_write_chunks(
    send: &mut SendStream,
    cx: &mut Context<'_>,
    pieces: &mut [Bytes],
) -> Poll<Result<usize, ConnectionError>> {
    let written = ready!(pin!(send.write_chunks(pieces)).poll(cx));
    Poll::Ready(written.map(|written| written.bytes).map_err(failure::write))
}

/// Where the peer is, an IPv4 peer of a dual-stack socket by its own name.
pub(crate) fn peer_address(connection: &quinn::Connection) -> PeerAddress {
    PeerAddress::Socket(canonical(connection.remote_address()))
}

pub(crate) fn canonical(address: std::net::SocketAddr) -> std::net::SocketAddr {
    std::net::SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Connection for QuicConnection {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        self.poll_visible(cx)?;
        let before = into.len();
        for _ in 0..READS_MAX {
            self.decode(budget_bytes, into)?;
            if into.len() > before {
                return Poll::Ready(Ok(Received::Packets));
            }
            if self.ended {
                return Poll::Ready(if self.is_at_boundary() {
                    Ok(Received::End)
                } else {
                    Err(ConnectionError::Truncated {
                        held: self.held_bytes(),
                    })
                });
            }
            match ready!(self.poll_read(cx, into)) {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(self.cut(error))),
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
        self.continue_first(from)?;
        self.poll_visible(cx)?;
        self.poll_write(cx, from)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        reason: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        if self.closing.is_none() {
            let delivered = match &mut self.streams {
                Streams::Open(pair) if reason.initiator != Initiator::Network => {
                    Some(Delivered::after(&mut pair.send))
                }
                _ => None,
            };
            self.closing = Some(Box::new(Closing {
                code: failure::close_code(reason.code),
                reason: reason.reason.clone(),
                delivered,
                done: false,
            }));
        }
        let Some(closing) = &mut self.closing else {
            return Poll::Ready(Ok(()));
        };
        if let Some(delivered) = &mut closing.delivered {
            ready!(delivered.poll(cx));
            closing.delivered = None;
        }
        if !closing.done {
            closing.done = true;
            let (code, reason) = (closing.code, std::mem::take(&mut closing.reason));
            self.close_now(code, &reason);
        }
        Poll::Ready(Ok(()))
    }

    fn keeps_written(&self) -> bool {
        matches!(self.streams, Streams::Open(_))
    }

    fn set_wire(&mut self, version: WireVersion, limits: Limits) {
        self.decoder.set_wire(version, limits);
        if let Some(prefix) = &mut self.prefix {
            prefix.set_limits(limits);
        }
    }

    fn framing(&self) -> Framing {
        // What the handshake agreed on, and nothing else, is spoken.
        match self.prefix {
            Some(_) => Framing::Encode(encode_prefixed),
            None => Framing::Frames,
        }
    }

    fn progress(&self) -> Progress {
        let mut progress = self.progress;
        if self
            .prefix
            .as_ref()
            .is_some_and(|prefix| prefix.is_lone_zero())
        {
            progress.read = 0;
        }
        progress
    }

    fn peer_gone(&self) -> bool {
        self.ended || self.connection.close_reason().is_some()
    }

    fn incomplete(&self) -> Option<usize> {
        self.decoder.incomplete()
    }

    fn info(&self) -> &ConnectionInfo {
        &self.info
    }
}

impl Drop for QuicConnection {
    fn drop(&mut self) {
        match self.closing.take() {
            Some(closing) if closing.done => self.outgoing.forsake(),
            // The caller's time for closing was over.
            Some(closing) => self.close_now(closing.code, &closing.reason),
            // Left alone, quinn would close with 0, which the peer takes for an end that was intended.
            None => self.close_now(
                failure::close_code(Code::INTERNAL),
                "dropped without closing",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        let bytes = size_of::<QuicConnection>();
        assert!(
            bytes <= 448,
            "{bytes} bytes a connection, quinn's own apart"
        );
    }
}
