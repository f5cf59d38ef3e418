//! Listening: a bound socket file that yields connections.
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
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use msgtrans_core::{BindError, ConnectionInfo, Limits, PeerAddress, WireVersions};
use msgtrans_transport::{
    AcceptError, BoxFuture, Endpoint, Incoming, ListenContext, Listener, ProtocolConfig,
    ServerProtocol, SharedUnix, StreamConnection,
};
use tokio::net::UnixListener;

use crate::config::endpoint_of;
use crate::socket_file::{SocketFile, listen};
use crate::{SCHEME, UnixServerConfig};

impl ServerProtocol for UnixServerConfig {
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let fail = |source| BindError {
                endpoint: self.endpoint().to_string(),
                source,
            };
            self.validate()
                .map_err(|error| fail(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            let (listener, file) = listen(self.path(), self.mode, self.backlog)
                .await
                .map_err(fail)?;
            msgtrans_mempool::descriptors::reserve(listener.as_fd());
            tracing::debug!(path = %self.path().display(), "listening");
            Ok(Box::new(UnixSocketListener {
                _file: file,
                listener,
                local: endpoint_of(self.path()),
                accept: self.wire.unwrap_or(context.wire),
                limits: context.limits,
            }) as Box<dyn Listener>)
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        self.wire
    }
}

struct UnixSocketListener {
    /// Dropped first: who comes then finds nobody instead of a socket that refuses.
    _file: SocketFile,
    listener: UnixListener,
    local: Endpoint,
    accept: WireVersions,
    limits: Limits,
}

impl Listener for UnixSocketListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        let (stream, _) = ready!(self.listener.poll_accept(cx)).map_err(AcceptError::from_io)?;
        // The other end of a Unix socket has no name of its own.
        let peer = PeerAddress::Local(self.local.path().to_owned());
        let info = ConnectionInfo::new(SCHEME, peer);
        let connection = StreamConnection::new(
            SharedUnix::new(stream),
            info,
            self.accept,
            self.limits,
            false,
        )
        .with_probe(&crate::PROBE);
        Poll::Ready(Ok(Incoming::Connection(Box::new(connection))))
    }

    fn local_endpoint(&self) -> Endpoint {
        self.local.clone()
    }
}
