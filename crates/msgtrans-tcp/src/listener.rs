//! Listening: a bound socket that yields connections with the configured options.
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
use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use msgtrans_core::{BindError, ConnectionInfo, Limits, PeerAddress, WireVersions};
#[cfg(feature = "tls")]
use msgtrans_tls::rustls::ServerConfig;
use msgtrans_transport::probe;
use msgtrans_transport::socket::{TcpOptions, listen, listen_beside};
use msgtrans_transport::{
    AcceptError, BoxFuture, Endpoint, Incoming, ListenContext, Listener, ProtocolConfig,
    ServerProtocol, SharedTcp, StreamConnection,
};
use tokio::net::{TcpListener, TcpStream};

use crate::{SCHEME, TcpServerConfig};

impl ServerProtocol for TcpServerConfig {
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let fail = |source| BindError {
                endpoint: self.endpoint().to_string(),
                source,
            };
            let invalid = |error| fail(io::Error::new(io::ErrorKind::InvalidInput, error));
            self.validate().map_err(invalid)?;
            let address = self.address().map_err(invalid)?;
            let accept = self.wire.unwrap_or(context.wire);
            #[cfg(feature = "tls")]
            let tls = self
                .tls
                .as_ref()
                .map(|tls| tls.build(accept, &address))
                .transpose()
                .map_err(fail)?;
            let listener = listen(&address, &self.options, context.shared).await?;
            let local = listener.local_addr().map_err(fail)?;
            tracing::debug!(%local, "listening");
            Ok(Box::new(SocketListener {
                listener,
                local: Endpoint::new(self.scheme(), local.ip().to_string(), Some(local.port())),
                options: self.options.clone(),
                accept,
                limits: context.limits,
                #[cfg(feature = "tls")]
                tls,
            }) as Box<dyn Listener>)
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        self.wire
    }
}

struct SocketListener {
    listener: TcpListener,
    local: Endpoint,
    options: TcpOptions,
    accept: WireVersions,
    limits: Limits,
    #[cfg(feature = "tls")]
    tls: Option<Arc<ServerConfig>>,
}

/// The next socket of `listener`, with its options set.
pub(crate) fn poll_socket(
    listener: &TcpListener,
    options: &TcpOptions,
    cx: &mut Context<'_>,
) -> Poll<Result<(TcpStream, SocketAddr), AcceptError>> {
    let (stream, address) = ready!(listener.poll_accept(cx)).map_err(AcceptError::from_io)?;
    // A socket that takes no options is one whose peer is gone already.
    options.apply_accepted(&stream).map_err(AcceptError::Peer)?;
    Poll::Ready(Ok((stream, address)))
}

impl Listener for SocketListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        let (stream, address) = ready!(poll_socket(&self.listener, &self.options, cx))?;
        let peer = PeerAddress::Socket(address);
        #[cfg(feature = "tls")]
        if let Some(config) = &self.tls {
            let (config, accept, limits) = (config.clone(), self.accept, self.limits);
            let handshake = crate::tls::accept(config, stream, peer.clone(), accept, limits);
            let handshake = Box::pin(handshake);
            return Poll::Ready(Ok(Incoming::Handshake {
                peer,
                begun: false,
                handshake,
            }));
        }
        let info = ConnectionInfo::new(SCHEME, peer);
        let connection = StreamConnection::new(
            SharedTcp::new(stream),
            info,
            self.accept,
            self.limits,
            false,
        )
        .with_probe(&probe::SHARED_TCP);
        Poll::Ready(Ok(Incoming::Connection(Box::new(connection))))
    }

    fn local_endpoint(&self) -> Endpoint {
        self.local.clone()
    }

    fn beside(&self) -> Option<Result<Box<dyn Listener>, BindError>> {
        let fail = |source| BindError {
            endpoint: self.local.to_string(),
            source,
        };
        let listener = listen_beside(&self.listener, &self.options).map_err(fail);
        Some(listener.map(|listener| {
            Box::new(Self {
                listener,
                local: self.local.clone(),
                options: self.options.clone(),
                accept: self.accept,
                limits: self.limits,
                #[cfg(feature = "tls")]
                tls: self.tls.clone(),
            }) as Box<dyn Listener>
        }))
    }
}

#[cfg(test)]
mod tests;
