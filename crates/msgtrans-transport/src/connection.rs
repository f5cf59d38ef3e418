//! [`Connection`]: one established pipe to a peer, moving packets in batches.

use std::io;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use msgtrans_core::{CloseReason, ConnectionInfo, DecodeError, Limits, PacketBatch, WireVersion};
use thiserror::Error;

use crate::outbound::{Framing, OutboundBatch};
use crate::shortcut::{ByteWay, Inlet, Shortcut};

/// What a [`Connection::poll_recv`] brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// At least one packet.
    Packets,
    /// One packet, and nothing has come behind it: the waker is stored, as by another call that is `Pending`.
    Lone,
    /// The peer ended its stream between two frames; nothing more will come.
    End,
}

/// How many bytes have passed, whole frames or not: a large frame on a slow link shows life here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read since the connection exists.
    pub read: u64,
    /// Bytes written since the connection exists.
    pub written: u64,
}

/// What a connection knows about its peer, until its session takes it to keep it.
#[derive(Debug)]
pub struct OwnInfo(Option<Box<ConnectionInfo>>);

/// What is left in its place.
static TAKEN: ConnectionInfo = ConnectionInfo::unknown();

impl OwnInfo {
    /// To be taken.
    pub fn new(info: ConnectionInfo) -> Self {
        Self(Some(Box::new(info)))
    }

    /// Of a connection that never tells.
    pub const fn taken() -> Self {
        Self(None)
    }

    /// For [`Connection::info`].
    pub fn get(&self) -> &ConnectionInfo {
        self.0.as_deref().unwrap_or(&TAKEN)
    }

    /// For [`Connection::take_info`].
    pub fn take(&mut self) -> Box<ConnectionInfo> {
        self.0.take().unwrap_or_else(|| Box::new(TAKEN.clone()))
    }
}

/// How a connection failed. Each ends the session.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer's bytes are not frames.
    #[error("the peer broke the wire format: {0}")]
    Decode(#[from] DecodeError),
    /// The pipe broke.
    #[error("the connection was lost: {0}")]
    Io(#[from] io::Error),
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame, after {held} bytes of it")]
    Truncated {
        /// Bytes of the incomplete frame.
        held: usize,
    },
    /// The protocol itself carried a reason: a WebSocket or QUIC close.
    #[error("{0}")]
    Closed(CloseReason),
}

/// One established pipe to a peer.
///
/// Object-safe and poll-based: the session calls it once per batch from its one task, so a connection needs no lock,
/// no task and no buffer of its own while nothing moves. A poll that returns `Pending` has stored the waker of `cx`;
/// reading and writing wait independently of each other.
pub trait Connection: Send {
    /// Waits until [`poll_recv`](Self::poll_recv) has something to look at: bytes of the first packet, the end, an error.
    ///
    /// Asked before everything else, if at all, and not again once it was ready. What it reads it keeps. Ready at once,
    /// which is the default, where there is nothing to gain from a session that is made later, or where it has to be asked
    /// for something before the first poll.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// Reads and decodes at least one packet into `into`, or says how the stream ended.
    ///
    /// Stops once `into` holds `budget_bytes` (by [`PacketBatch::bytes`]); whole frames that are left are decoded by
    /// the next call, which then returns at once. Until the first [`set_wire`](Self::set_wire) exactly one packet a
    /// call, because it decides how the rest is read. While `Pending` no empty buffer is held, and an incomplete frame
    /// keeps its own bytes alone, in memory that grows as they arrive.
    ///
    /// # Errors
    /// The connection can only be closed afterwards. Packets in front of a broken frame are delivered first.
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>>;

    /// Writes `from`.
    ///
    /// `Ready`: everything was taken and flushed, through TLS too. `Pending`: call again when woken, also with an
    /// empty batch; what was not taken stays in `from`. Confirmations are completed once the protocol has taken their
    /// bytes; dropping one is its failure.
    ///
    /// # Errors
    /// The connection can only be closed afterwards; what was not taken stays in `from`.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>>;

    /// Closes in good order after the session's last `poll_send`: shuts down writing, reads and discards at most
    /// 64 KiB until the peer has closed too. The caller bounds the time and drops the connection when it is over.
    ///
    /// # Errors
    /// The connection was lost on the way; it counts as closed.
    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        reason: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>>;

    /// Whether what was written is this connection's own to bring to the peer, and lost if the connection is dropped
    /// before: then a close may take as long as a write. `false` where the system goes on by itself.
    ///
    /// Asked once, when everything has been written and the connection is about to be closed.
    fn keeps_written(&self) -> bool {
        false
    }

    /// From here on every frame is of `version` and what arrives is within `limits`.
    fn set_wire(&mut self, version: WireVersion, limits: Limits);

    /// How packets become bytes of this protocol. Asked once, after [`set_wire`](Self::set_wire).
    fn framing(&self) -> Framing;

    /// Bytes that have passed so far.
    fn progress(&self) -> Progress;

    /// What is held of a packet of which not all has come, in bytes; `None` between two packets.
    ///
    /// Asked once a pass that has read. A session cuts a peer that lets a packet dawdle, and counts these bytes as its
    /// own; where packets arrive whole there is nothing to say.
    fn incomplete(&self) -> Option<usize> {
        None
    }

    /// Whether the peer is known to have ended its side or gone, though what it sent before may not have been read.
    ///
    /// Asked while a session does not read because its handler is busy: the end itself would be seen only behind
    /// everything that came before it. `false` where nothing is known.
    fn peer_gone(&self) -> bool {
        false
    }

    /// The way into the peer's queue for tasks other than the session's, where the peer is in this process. Asked once,
    /// before the first poll.
    fn shortcut(&self) -> Option<Arc<dyn Shortcut>> {
        None
    }

    /// The way onto the socket past the session's task, where whatever [`poll_send`](Self::poll_send) takes is on the
    /// socket when it says so, and the connection writes nothing by itself. Asked once, before the first poll.
    fn byte_way(&self) -> Option<Weak<dyn ByteWay>> {
        None
    }

    /// Lets the connection leave plain packets with `inlet`, and with `None` no longer: when this returns no delivery is
    /// under way. A connection that keeps it lets it go when it is dropped.
    fn set_inlet(&mut self, inlet: Option<Arc<dyn Inlet>>) {
        let _ = inlet;
    }

    /// Who is at the other end, over which protocol. Asked until it is [taken](Self::take_info).
    fn info(&self) -> &ConnectionInfo;

    /// [`info`](Self::info), for the session to keep. Taken once, before the first poll: a connection whose own it is
    /// ([`OwnInfo`]) then holds it no longer.
    fn take_info(&mut self) -> Box<ConnectionInfo> {
        Box::new(self.info().clone())
    }
}
