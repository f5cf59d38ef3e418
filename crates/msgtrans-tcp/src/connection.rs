//! [`TlsConnection`]: a byte stream whose end must be said, not only seen.
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
use std::task::{Context, Poll};

use msgtrans_core::{CloseReason, ConnectionInfo, Limits, PacketBatch, WireVersion};
use msgtrans_transport::{
    Connection, ConnectionError, Framing, OutboundBatch, Progress, Received, StreamConnection,
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Frames on a TLS stream. A peer that goes without close_notify is an error while reading, wherever it goes: anybody
/// on the way could have cut the stream. While closing, it is gone, which is what was waited for.
pub(crate) struct TlsConnection<S: 'static>(pub(crate) StreamConnection<S>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for TlsConnection<S> {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        self.0.poll_recv(cx, budget_bytes, into)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        self.0.poll_send(cx, from)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        reason: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        self.0.poll_close(cx, reason).map(|closed| match closed {
            Err(ConnectionError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(())
            }
            closed => closed,
        })
    }

    fn set_wire(&mut self, version: WireVersion, limits: Limits) {
        self.0.set_wire(version, limits);
    }

    fn framing(&self) -> Framing {
        self.0.framing()
    }

    fn progress(&self) -> Progress {
        self.0.progress()
    }

    fn incomplete(&self) -> Option<usize> {
        self.0.incomplete()
    }

    fn peer_gone(&self) -> bool {
        self.0.peer_gone()
    }

    fn info(&self) -> &ConnectionInfo {
        self.0.info()
    }

    fn take_info(&mut self) -> Box<ConnectionInfo> {
        self.0.take_info()
    }
}
