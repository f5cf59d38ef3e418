//! The server's side of the seam: sockets accepted here, upgraded beside one another.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use msgtrans_core::{BindError, ConnectError, ConnectionInfo, Limits, PeerAddress, WireVersions};
#[cfg(feature = "tls")]
use msgtrans_tls::rustls::ServerConfig;
use msgtrans_transport::probe::{self, Probe};
use msgtrans_transport::socket::{TcpOptions, listen, listen_beside};
#[cfg(feature = "tls")]
use msgtrans_transport::socket::{first_bytes, tcp_peer_gone};
use msgtrans_transport::{
    AcceptError, BoxFuture, Connection, Endpoint, Incoming, ListenContext, Listener,
    ProtocolConfig, ServerProtocol,
};
use tokio::net::{TcpListener, TcpStream};

#[cfg(feature = "tls")]
use crate::SCHEME_TLS;
use crate::frame::Role;
use crate::handshake::UpgradePolicy;
#[cfg(feature = "tls")]
use crate::tls::ServerTlsSource;
use crate::upgrade::{self, subprotocols};
use crate::{SCHEME, WebSocketConnection, WebSocketServerConfig};

impl ServerProtocol for WebSocketServerConfig {
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
            #[cfg(feature = "tls")]
            let tls = self
                .tls
                .as_ref()
                .map(ServerTlsSource::build)
                .transpose()
                .map_err(fail)?;
            let wire = self.wire.unwrap_or(context.wire);
            let path = address.path();
            let shared = Shared {
                policy: UpgradePolicy {
                    path: (!path.is_empty()).then(|| path.to_owned()),
                    origins: self.origins.clone(),
                    tls: self.secure(),
                    subprotocols: subprotocols(wire).to_vec(),
                },
                wire,
                limits: context.limits,
                options: self.options.clone(),
                #[cfg(feature = "tls")]
                tls,
            };
            let listener = listen(&address, &self.options, context.shared).await?;
            let local = listener.local_addr().map_err(fail)?;
            tracing::debug!(%local, "listening");
            let listener: Box<dyn Listener> = Box::new(WebSocketListener {
                listener,
                local: Endpoint::new(address.scheme(), local.ip().to_string(), Some(local.port()))
                    .with_path(path),
                shared: Arc::new(shared),
            });
            Ok(listener)
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        self.wire
    }
}

/// What every handshake of a listener needs.
struct Shared {
    policy: UpgradePolicy,
    wire: WireVersions,
    limits: Limits,
    options: TcpOptions,
    #[cfg(feature = "tls")]
    tls: Option<Arc<ServerConfig>>,
}

struct WebSocketListener {
    listener: TcpListener,
    local: Endpoint,
    shared: Arc<Shared>,
}

impl Listener for WebSocketListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        let (stream, address) =
            ready!(self.listener.poll_accept(cx)).map_err(AcceptError::from_io)?;
        // A socket that takes no options is one whose peer is gone already.
        self.shared
            .options
            .apply_accepted(&stream)
            .map_err(AcceptError::Peer)?;
        let peer = PeerAddress::Socket(address);
        let handshake = Box::pin(accept(stream, peer.clone(), self.shared.clone()));
        Poll::Ready(Ok(Incoming::Handshake {
            peer,
            begun: false,
            handshake,
        }))
    }

    fn local_endpoint(&self) -> Endpoint {
        self.local.clone()
    }

    fn beside(&self) -> Option<Result<Box<dyn Listener>, BindError>> {
        let fail = |source| BindError {
            endpoint: self.local.to_string(),
            source,
        };
        let listener = listen_beside(&self.listener, &self.shared.options).map_err(fail);
        Some(listener.map(|listener| {
            Box::new(Self {
                listener,
                local: self.local.clone(),
                shared: self.shared.clone(),
            }) as Box<dyn Listener>
        }))
    }
}

/// From a socket to a connection. The server bounds the time and the number of these.
#[expect(
    clippy::manual_async_fn,
    reason = "an async function would hold what it was given twice, and peers that have said nothing are many"
)]
fn accept(
    mut stream: TcpStream,
    peer: PeerAddress,
    shared: Arc<Shared>,
) -> impl Future<Output = Result<Box<dyn Connection>, ConnectError>> + Send {
    async move {
        #[cfg(feature = "tls")]
        if let Some(config) = shared.tls.clone() {
            first_bytes(&stream).await;
            // Boxed: peers that have said nothing are many, and what they cost stays as holes between the sessions of a
            // burst.
            return Box::pin(accept_tls(config, stream, peer, shared)).await;
        }
        let upgraded = upgrade::accept(&mut stream, &peer, &shared.policy).await?;
        let info = ConnectionInfo::new(SCHEME, peer);
        Ok(connection(
            stream,
            upgraded,
            info,
            &shared,
            false,
            &probe::TCP,
        ))
    }
}

#[cfg(feature = "tls")]
async fn accept_tls(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    peer: PeerAddress,
    shared: Arc<Shared>,
) -> Result<Box<dyn Connection>, ConnectError> {
    let mut stream = crate::tls::accept(config, stream, &peer).await?;
    let upgraded = upgrade::accept(&mut stream, &peer, &shared.policy).await?;
    let info = ConnectionInfo::new(SCHEME_TLS, peer).secure();
    Ok(connection(
        stream,
        upgraded,
        info,
        &shared,
        true,
        &Probe {
            peer_gone: |stream| tcp_peer_gone(stream.get_ref().0),
            ..Probe::NONE
        },
    ))
}

fn connection<S>(
    stream: S,
    upgraded: upgrade::Upgraded,
    info: ConnectionInfo,
    shared: &Shared,
    buffered: bool,
    probe: &'static Probe<S>,
) -> Box<dyn Connection>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let info = match upgraded.negotiated {
        Some(version) => info.negotiated(version),
        None => info,
    };
    let connection = WebSocketConnection::new(
        stream,
        Role::Server,
        upgraded.early,
        info,
        shared.wire,
        shared.limits,
        buffered,
    );
    Box::new(connection.with_probe(probe))
}
