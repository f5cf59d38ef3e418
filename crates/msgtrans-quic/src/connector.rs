//! Dialling: one UDP socket for all connections of a configuration, and the addresses of a name raced.
// Reached by what a peer does: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use msgtrans_core::{ConfigError, ConnectError, WireVersions};
use msgtrans_transport::socket::resolve;
use msgtrans_transport::{BoxFuture, Connection, Connector, DialContext, ProtocolConfig};
use quinn::crypto::rustls::QuicClientConfig as Crypto;
use quinn::{ClientConfig, Connecting};

use crate::connection::QuicConnection;
use crate::socket::Bound;
use crate::stream::Pair;
use crate::{
    QuicClientConfig, SCHEME, UdpOffloads, alpns, failure, negotiated, socket, with_causes,
};

/// How long an address has to answer before the next one is tried beside it. Nobody says that a UDP port is closed.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// What a configuration keeps between dials.
#[derive(Default)]
pub(crate) struct Dialer(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    bound: Option<Bound>,
    /// By the versions offered. TLS sessions are resumed within one of these.
    configs: Vec<(WireVersions, Configs)>,
}

/// What quinn is told, by where the server is.
#[derive(Clone)]
struct Configs {
    network: ClientConfig,
    loopback: ClientConfig,
}

impl Clone for Dialer {
    /// A clone may be changed and must not find what was made for the original.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Dialer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dialer")
    }
}

impl Dialer {
    /// Does `work` on what is kept. Never held across a wait.
    fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn endpoint(&self, config: &QuicClientConfig) -> io::Result<quinn::Endpoint> {
        self.with(|kept| match &kept.bound {
            Some(bound) => Ok(bound.endpoint.clone()),
            None => {
                let bound = socket::dial(&config.tuning)?;
                let endpoint = bound.endpoint.clone();
                kept.bound = Some(bound);
                Ok(endpoint)
            }
        })
    }

    /// What the system does for the socket, once there is one.
    pub(crate) fn offloads(&self) -> Option<UdpOffloads> {
        self.with(|kept| kept.bound.as_ref()?.offloads)
    }

    fn configs(
        &self,
        config: &QuicClientConfig,
        wire: WireVersions,
    ) -> Result<Configs, ConfigError> {
        self.with(|kept| {
            if let Some((_, configs)) = kept.configs.iter().find(|(known, _)| *known == wire) {
                return Ok(configs.clone());
            }
            let invalid = |what: String| ConfigError::new("tls", "configuration", what);
            let tls = config
                .tls()?
                .build(&alpns(wire))
                .map_err(|error| invalid(with_causes(&error)))?;
            let crypto = Crypto::try_from(tls).map_err(|error| invalid(error.to_string()))?;
            let mut network = ClientConfig::new(Arc::new(crypto));
            let mut loopback = network.clone();
            network.transport_config(config.tuning.transport(false));
            loopback.transport_config(config.tuning.transport(true));
            let configs = Configs { network, loopback };
            kept.configs.push((wire, configs.clone()));
            Ok(configs)
        })
    }
}

impl Connector for QuicClientConfig {
    fn connect<'a>(
        &'a self,
        context: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            self.validate()?;
            let address = self.address()?;
            let endpoint = address.to_string();
            // The context says which versions this attempt is for.
            let wire = match self.wire {
                None | Some(WireVersions::Any) => context.wire,
                Some(one) => one,
            };
            let tls = self.tls()?;
            if tls.skips_verification() {
                tracing::warn!(%endpoint, "the server's certificate is not verified");
            }
            let name = tls
                .name_for(address.host())
                .map_err(|error| ConfigError::new("server_name", "", with_causes(&error)))?;
            let attempt = Attempt {
                config: self,
                configs: self.dialer.configs(self, wire)?,
                endpoint: &endpoint,
                name: name.to_str().into_owned(),
            };
            let addresses = resolve(&address)
                .await
                .map_err(|source| ConnectError::Resolve {
                    host: address.host().to_owned(),
                    source,
                })?;
            let connection = attempt.race(addresses).await?;
            let version = negotiated(&connection).ok_or_else(|| ConnectError::Handshake {
                endpoint: endpoint.clone(),
                stage: "quic",
                what: "no wire version was negotiated by ALPN".to_owned(),
                retryable: false,
            })?;
            let (send, recv) = connection
                .open_bi()
                .await
                .map_err(|error| failure::handshake(&endpoint, error))?;
            let pair = Pair { send, recv };
            let connection = QuicConnection::dialled(connection, pair, version, context.limits);
            Ok(Box::new(connection) as Box<dyn Connection>)
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        self.wire
    }
}

/// One call of `connect`.
struct Attempt<'a> {
    config: &'a QuicClientConfig,
    configs: Configs,
    endpoint: &'a str,
    name: String,
}

impl Attempt<'_> {
    /// The first address that answers. A second one is tried beside the first when that fails or takes its time.
    async fn race(&self, addresses: Vec<SocketAddr>) -> Result<quinn::Connection, ConnectError> {
        let mut last = None;
        let mut running: Vec<Connecting> = Vec::new();
        let mut addresses = addresses.into_iter().peekable();
        loop {
            if let Some(address) = addresses.next() {
                match self.start(address) {
                    Ok(connecting) => running.push(connecting),
                    Err(error) => last = Some(error),
                }
            }
            if running.is_empty() && addresses.peek().is_none() {
                let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                let endpoint = self.endpoint.to_owned();
                return Err(last.unwrap_or(ConnectError::Io { endpoint, source }));
            }
            let more = addresses.peek().is_some();
            match first_of(&mut running, more.then_some(NEXT_ADDRESS_AFTER)).await {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(error)) => last = Some(failure::handshake(self.endpoint, error)),
                None => {}
            }
        }
    }

    fn start(&self, address: SocketAddr) -> Result<Connecting, ConnectError> {
        let config = if address.ip().is_loopback() {
            &self.configs.loopback
        } else {
            &self.configs.network
        };
        let fail = |source| ConnectError::Io {
            endpoint: self.endpoint.to_owned(),
            source,
        };
        let dialer = &self.config.dialer;
        let endpoint = dialer.endpoint(self.config).map_err(fail)?;
        let dialled = match endpoint.connect_with(config.clone(), address, &self.name) {
            // Its runtime has ended, or its socket failed: a new one may do.
            Err(quinn::ConnectError::EndpointStopping) => {
                dialer.with(|kept| kept.bound = None);
                let endpoint = dialer.endpoint(self.config).map_err(fail)?;
                endpoint.connect_with(config.clone(), address, &self.name)
            }
            dialled => dialled,
        };
        dialled.map_err(|error| ConnectError::Handshake {
            endpoint: self.endpoint.to_owned(),
            stage: SCHEME,
            what: error.to_string(),
            retryable: false,
        })
    }
}

/// The first attempt that ends, taken out of `running`; `None` when `patience` is over or there is nothing to wait for.
async fn first_of(
    running: &mut Vec<Connecting>,
    patience: Option<Duration>,
) -> Option<Result<quinn::Connection, quinn::ConnectionError>> {
    let ended = poll_fn(|cx| {
        if running.is_empty() {
            return Poll::Ready(None);
        }
        for (index, connecting) in running.iter_mut().enumerate() {
            if let Poll::Ready(result) = Pin::new(connecting).poll(cx) {
                running.swap_remove(index);
                return Poll::Ready(Some(result));
            }
        }
        Poll::Pending
    });
    let mut ended = pin!(ended);
    match patience {
        None => ended.await,
        Some(patience) => tokio::time::timeout(patience, ended.as_mut())
            .await
            .unwrap_or(None),
    }
}
