//! [`Peer`]: a connection with the least around it that a test needs, and no session.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use msgtrans_core::{
    CloseReason, ConnectionInfo, EncodeError, Limits, Packet, PacketBatch, WireVersion,
};
use msgtrans_transport::{
    Confirmation, Confirmed, Connection, ConnectionError, Incoming, Listener, OutboundBatch,
    Progress, Received,
};

use crate::failure::Failure;

/// Drives one connection as a session would: packets in, packets out, nothing answered by itself.
pub struct Peer {
    connection: Box<dyn Connection>,
    version: WireVersion,
    /// Made with the first packet: a connection knows its framing once its wire is set.
    out: Option<OutboundBatch>,
    inbox: PacketBatch,
    ended: bool,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("info", self.connection.info())
            .field("version", &self.version)
            .field("queued_bytes", &self.queued_bytes())
            .field("inbox", &self.inbox.len())
            .finish()
    }
}

impl Peer {
    /// Speaks `version` over `connection`, whose wire is not yet set.
    pub fn new(connection: Box<dyn Connection>, version: WireVersion) -> Self {
        Self {
            connection,
            version,
            out: None,
            inbox: PacketBatch::new(),
            ended: false,
        }
    }

    /// Sets the connection's wire, as a session does once it knows the version.
    pub fn set_wire(&mut self, limits: Limits) {
        self.connection.set_wire(self.version, limits);
    }

    /// Adds a packet to what the next flush writes.
    ///
    /// # Errors
    /// The packet cannot be put on this wire.
    pub fn queue(&mut self, packet: Packet) -> Result<(), EncodeError> {
        self.batch().push(&packet)
    }

    /// Like [`queue`](Self::queue), and says when the protocol has taken the packet.
    ///
    /// # Errors
    /// The packet cannot be put on this wire.
    pub fn queue_confirmed(&mut self, packet: Packet) -> Result<Confirmed, EncodeError> {
        self.queue(packet)?;
        let (confirmation, confirmed) = Confirmation::new();
        self.batch().confirm(confirmation);
        Ok(confirmed)
    }

    fn batch(&mut self) -> &mut OutboundBatch {
        let (connection, version) = (&self.connection, self.version);
        self.out
            .get_or_insert_with(|| OutboundBatch::new(connection.framing(), version))
    }

    /// Bytes queued and not yet taken.
    pub fn queued_bytes(&self) -> usize {
        self.out.as_ref().map_or(0, OutboundBatch::len)
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// As [`Connection::poll_send`].
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.batch();
        match &mut self.out {
            Some(batch) => self.connection.poll_send(cx, batch),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// As [`Connection::poll_send`].
    ///
    /// # Cancel safety
    /// What was not written stays queued.
    pub async fn flush(&mut self) -> Result<(), ConnectionError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Queues and flushes one packet.
    ///
    /// # Errors
    /// The packet cannot be put on this wire, or the connection was lost.
    pub async fn send(&mut self, packet: Packet) -> Result<(), Failure> {
        self.queue(packet)?;
        self.flush().await?;
        Ok(())
    }

    /// One call of the connection into the inbox.
    ///
    /// # Errors
    /// As [`Connection::poll_recv`].
    pub fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
    ) -> Poll<Result<Received, ConnectionError>> {
        self.connection.poll_recv(cx, budget_bytes, &mut self.inbox)
    }

    /// Packets received and not yet taken.
    pub fn inbox(&mut self) -> &mut PacketBatch {
        &mut self.inbox
    }

    /// The next packet; `None` at the end of the stream.
    ///
    /// # Errors
    /// As [`Connection::poll_recv`].
    pub fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Packet>, ConnectionError>> {
        /// As much as a session takes in one go.
        const BUDGET_BYTES: usize = 256 * 1024;
        if let Some(packet) = self.inbox.pop() {
            return Poll::Ready(Ok(Some(packet)));
        }
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        self.poll_fill(cx, BUDGET_BYTES).map(|received| {
            self.ended = received? == Received::End;
            Ok(self.inbox.pop())
        })
    }

    /// The next packet; `None` at the end of the stream.
    ///
    /// # Errors
    /// As [`Connection::poll_recv`].
    ///
    /// # Cancel safety
    /// May be dropped; no packet is lost by it.
    pub async fn recv(&mut self) -> Result<Option<Packet>, ConnectionError> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next packet, where the end of the stream is a failure.
    ///
    /// # Errors
    /// The connection was lost, or its stream ended.
    pub async fn expect(&mut self) -> Result<Packet, Failure> {
        let packet = self.recv().await?;
        packet.ok_or_else(|| Failure::new("the stream ended where a packet was expected"))
    }

    /// Closes in good order.
    ///
    /// # Errors
    /// As [`Connection::poll_close`].
    pub fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        reason: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        self.connection.poll_close(cx, reason)
    }

    /// Closes in good order.
    ///
    /// # Errors
    /// As [`Connection::poll_close`].
    pub async fn close(&mut self, reason: &CloseReason) -> Result<(), ConnectionError> {
        poll_fn(|cx| self.connection.poll_close(cx, reason)).await
    }

    /// Bytes that have passed.
    pub fn progress(&self) -> Progress {
        self.connection.progress()
    }

    /// Who is at the other end.
    pub fn info(&self) -> &ConnectionInfo {
        self.connection.info()
    }
}

/// The next connection of a listener, its handshake done.
///
/// # Errors
/// The listener failed, or the peer failed its handshake.
pub async fn accept(listener: &mut dyn Listener) -> Result<Box<dyn Connection>, Failure> {
    match poll_fn(|cx| listener.poll_accept(cx)).await? {
        Incoming::Connection(connection) => Ok(connection),
        Incoming::Handshake { handshake, .. } => Ok(handshake.await?),
    }
}
