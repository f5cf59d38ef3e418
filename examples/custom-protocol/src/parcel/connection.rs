//! [`ParcelConnection`]: a pipe of messages behind the seam.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use msgtrans_core::{
    CloseReason, ConnectionInfo, DecodeError, Initiator, Limits, PacketBatch, PeerAddress,
    WireVersion,
};
use msgtrans_transport::{Connection, ConnectionError, Framing, OutboundBatch, Progress, Received};

use super::packer::Packer;
use super::pipe::Pipe;
use super::unpacker::Unpacker;
use super::{ParcelConfig, SCHEME, kind};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct ParcelConnection {
    pipe: Pipe,
    packer: Packer,
    unpacker: Unpacker,
    limits: Limits,
    /// Whether `set_wire` has been called: until then one packet a call.
    opened: bool,
    /// What the peer got wrong; everything behind it is lost.
    failed: Option<DecodeError>,
    /// Whether this side has said its end.
    closed: bool,
    progress: Progress,
    info: ConnectionInfo,
}

impl ParcelConnection {
    /// Speaks over `pipe` as `config` says, within `limits` until the session sets its own.
    pub(super) fn new(pipe: Pipe, config: &ParcelConfig, limits: Limits) -> Self {
        let peer = PeerAddress::Local(config.name.clone());
        Self {
            pipe,
            packer: Packer::new(config.message_bytes, config.pack),
            unpacker: Unpacker::default(),
            limits,
            opened: false,
            failed: None,
            closed: false,
            progress: Progress::default(),
            // There is no version 1 of this protocol: as if negotiated.
            info: ConnectionInfo::new(SCHEME, peer).negotiated(WireVersion::V2),
        }
    }

    /// One message into the unpacker, or the end.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, ConnectionError>> {
        if self.unpacker.has_ended() {
            return Poll::Ready(Ok(Received::End));
        }
        let Some(message) = ready!(self.pipe.poll_recv(cx)) else {
            // Gone without a word.
            return Poll::Ready(Err(match self.unpacker.held_bytes() {
                Some(held) => ConnectionError::Truncated { held },
                None => ConnectionError::Io(io::ErrorKind::ConnectionReset.into()),
            }));
        };
        self.progress.read += message.len() as u64;
        self.unpacker.push(message, &self.limits)?;
        Poll::Ready(Ok(Received::Packets))
    }

    /// Decodes up to the budget from what has come.
    fn decode(&mut self, budget_bytes: usize, into: &mut PacketBatch) -> Result<(), DecodeError> {
        while let Some(packet) = self.unpacker.next(&self.limits)? {
            into.push(packet, WireVersion::V2);
            if !self.opened || into.bytes() >= budget_bytes {
                break;
            }
        }
        Ok(())
    }
}

impl Connection for ParcelConnection {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        let before = into.len();
        // Ends by itself while a writer keeps up with this reader: tokio's channel is `Pending` now and then.
        loop {
            if let Some(error) = &self.failed {
                return Poll::Ready(Err(error.clone().into()));
            }
            // Packets in front of a broken frame are handled first; the error comes with the next call.
            self.failed = self.decode(budget_bytes, into).err();
            if into.len() > before {
                return Poll::Ready(Ok(Received::Packets));
            }
            if self.failed.is_none() {
                match ready!(self.poll_message(cx)) {
                    Ok(Received::Packets) => {}
                    Err(ConnectionError::Decode(error)) => self.failed = Some(error),
                    end => return Poll::Ready(end),
                }
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        while !from.is_empty() {
            if self.closed {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe).into()));
            }
            // Room first: a message that was made and cannot leave would have to be kept.
            let room = ready!(self.pipe.poll_room(cx))?;
            let message = self.packer.next(from).map_err(io::Error::other)?;
            self.progress.written += message.len() as u64;
            room.send(message);
            from.complete_taken();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        reason: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        // The peer of a lost connection is not told of an orderly end, and half a packet has none: both see this end
        // go without a word. What is on the way stays readable, so that there is nothing to linger for.
        let orderly = reason.initiator != Initiator::Network && !self.packer.is_inside_packet();
        if orderly && !self.closed {
            // A peer that has gone needs no word.
            if let Ok(room) = ready!(self.pipe.poll_room(cx)) {
                room.send(Bytes::from_static(&[kind::END]));
                self.progress.written += 1;
            }
        }
        self.closed = true;
        Poll::Ready(Ok(()))
    }

    fn set_wire(&mut self, version: WireVersion, limits: Limits) {
        debug_assert_eq!(version, WireVersion::V2, "there is no other here");
        self.limits = limits;
        self.opened = true;
    }

    // The packer must see where packets begin and end, to put whole ones into a message. `Framing::Encode` with a
    // function of our own would lose that: its buffer is one run of bytes. In return it encodes a broadcast once for all
    // sessions, which here each connection does for itself.
    fn framing(&self) -> Framing {
        Framing::Packets
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn info(&self) -> &ConnectionInfo {
        &self.info
    }
}
