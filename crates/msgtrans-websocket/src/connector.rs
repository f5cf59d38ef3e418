//! The client's side of the seam: dial, TLS where asked for, upgrade.

use msgtrans_core::{ConnectError, ConnectionInfo, PeerAddress, WireVersions};
use msgtrans_transport::probe::{self, Probe};
use msgtrans_transport::socket::dial;
#[cfg(feature = "tls")]
use msgtrans_transport::socket::tcp_peer_gone;
use msgtrans_transport::{BoxFuture, Connection, Connector, DialContext, ProtocolConfig};
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(feature = "tls")]
use crate::SCHEME_TLS;
use crate::frame::Role;
use crate::upgrade;
use crate::{SCHEME, WebSocketClientConfig, WebSocketConnection};

impl Connector for WebSocketClientConfig {
    fn connect<'a>(
        &'a self,
        context: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            self.validate()?;
            let address = self.address()?;
            let stream = dial(&address, &self.options).await?;
            let peer = stream.peer_addr().map_err(|source| ConnectError::Io {
                endpoint: self.endpoint().to_string(),
                source,
            })?;
            let peer = PeerAddress::Socket(peer);
            #[cfg(feature = "tls")]
            if let Some(tls) = &self.tls {
                let stream = tls.connect(stream, &address).await?;
                let info = ConnectionInfo::new(SCHEME_TLS, peer).secure();
                return upgrade(
                    self,
                    stream,
                    info,
                    context,
                    true,
                    &Probe {
                        peer_gone: |stream| tcp_peer_gone(stream.get_ref().0),
                        ..Probe::NONE
                    },
                )
                .await;
            }
            upgrade(
                self,
                stream,
                ConnectionInfo::new(SCHEME, peer),
                context,
                false,
                &probe::TCP,
            )
            .await
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        self.wire
    }
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    config: &WebSocketClientConfig,
    mut stream: S,
    info: ConnectionInfo,
    context: &DialContext,
    buffered: bool,
    probe: &'static Probe<S>,
) -> Result<Box<dyn Connection>, ConnectError> {
    // A client that offers both versions says in the context which one this attempt is for.
    let wire = match config.wire {
        None | Some(WireVersions::Any) => context.wire,
        Some(one) => one,
    };
    let request = config.upgrade(wire)?;
    let upgraded = upgrade::request(&mut stream, &config.endpoint(), request).await?;
    let info = match upgraded.negotiated {
        Some(version) => info.negotiated(version),
        None => info,
    };
    let connection = WebSocketConnection::new(
        stream,
        Role::Client,
        upgraded.early,
        info,
        wire,
        context.limits,
        buffered,
    );
    Ok(Box::new(connection.with_probe(probe)))
}
