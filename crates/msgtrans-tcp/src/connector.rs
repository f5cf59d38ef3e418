//! Dialling: a connected socket with the configured options.
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

use msgtrans_core::{ConnectError, ConnectionInfo, PeerAddress, WireVersions};
use msgtrans_transport::probe;
use msgtrans_transport::socket::dial;
use msgtrans_transport::{
    BoxFuture, Connection, Connector, DialContext, ProtocolConfig, SharedTcp, StreamConnection,
};
use tokio::net::TcpStream;

use crate::{SCHEME, TcpClientConfig};

impl TcpClientConfig {
    /// A connected socket with its options set.
    pub(crate) async fn dial_socket(&self) -> Result<TcpStream, ConnectError> {
        self.validate()?;
        dial(&self.address()?, &self.options).await
    }
}

impl Connector for TcpClientConfig {
    fn connect<'a>(
        &'a self,
        context: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            let stream = self.dial_socket().await?;
            let peer = stream.peer_addr().map_err(|source| ConnectError::Io {
                endpoint: self.endpoint().to_string(),
                source,
            })?;
            // A client that offers both versions says in the context which one this attempt is for.
            let accept = match self.wire {
                None | Some(WireVersions::Any) => context.wire,
                Some(one) => one,
            };
            let peer = PeerAddress::Socket(peer);
            #[cfg(feature = "tls")]
            if let Some(tls) = &self.tls {
                let address = self.address()?;
                return tls
                    .connect(stream, &address, peer, accept, context.limits)
                    .await;
            }
            let info = ConnectionInfo::new(SCHEME, peer);
            let connection =
                StreamConnection::new(SharedTcp::new(stream), info, accept, context.limits, false)
                    .with_probe(&probe::SHARED_TCP);
            Ok(Box::new(connection) as Box<dyn Connection>)
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        self.wire
    }
}
