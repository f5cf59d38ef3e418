//! [`Gone`]: what stands in a session's task where its connection was.
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
    Connection, ConnectionError, Framing, OutboundBatch, OwnInfo, Progress, Received,
};

/// A closed connection: descriptors and buffers are given back while the handler still hears of the end.
pub(super) struct Gone {
    info: OwnInfo,
    progress: Progress,
}

impl Gone {
    pub(super) fn new(progress: Progress) -> Self {
        Self {
            info: OwnInfo::taken(),
            progress,
        }
    }
}

fn closed<T>() -> Poll<Result<T, ConnectionError>> {
    Poll::Ready(Err(ConnectionError::Io(io::ErrorKind::NotConnected.into())))
}

impl Connection for Gone {
    fn poll_recv(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        _: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        closed()
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        _: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        closed()
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn set_wire(&mut self, _: WireVersion, _: Limits) {}

    fn framing(&self) -> Framing {
        Framing::Packets
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn info(&self) -> &ConnectionInfo {
        self.info.get()
    }
}
