//! Listening: one UDP socket, from which handshakes come that run beside each other.
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

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use msgtrans_core::{
    BindError, Code, ConnectError, Limits, PeerAddress, WireVersion, WireVersions,
};
use msgtrans_transport::socket::resolve;
use msgtrans_transport::{
    AcceptError, BoxFuture, Connection, Endpoint, Incoming, ListenContext, Listener,
    ProtocolConfig, ServerProtocol,
};
use quinn::ServerConfig;
use quinn::crypto::rustls::QuicServerConfig as Crypto;

use crate::connection::{QuicConnection, canonical};
use crate::socket::Bound;
use crate::stream::{Pair, Streams};
use crate::{QuicServerConfig, alpns, failure, left, negotiated, socket, with_causes};

/// Bytes that are kept of what a client sends before it is accepted.
const EARLY_BYTES: u64 = 16 * 1024;
/// Clients told to prove their address in one call, before others run.
const RETRIES_MAX: usize = 64;

impl ServerProtocol for QuicServerConfig {
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let fail = |source| BindError {
                endpoint: self.endpoint().to_string(),
                source,
            };
            let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
            self.validate().map_err(|error| fail(invalid(error)))?;
            let address = self.address().map_err(|error| fail(invalid(error)))?;
            let wire = self.wire.unwrap_or(context.wire);
            let configs = Configs::new(self, wire).map_err(fail)?;
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for candidate in resolve(&address).await.map_err(fail)? {
                let network = configs.network.as_ref().clone();
                let bound = match left::take(candidate) {
                    Some(bound) => {
                        bound.endpoint.set_server_config(Some(network));
                        Ok(bound)
                    }
                    None => socket::listen(candidate, &self.tuning, network),
                };
                let bound =
                    bound.and_then(|bound| Ok((bound.endpoint.local_addr()?.port(), bound)));
                match bound {
                    Ok((port, bound)) => {
                        self.note(bound.offloads);
                        return Ok(Box::new(QuicListener {
                            accept: Box::pin(next(bound.endpoint.clone())),
                            bound,
                            address: address.with_port(port),
                            configs,
                            limits: context.limits,
                            retry_above: self.retry_above as usize,
                            unproved: Arc::new(AtomicUsize::new(0)),
                        }) as Box<dyn Listener>);
                    }
                    Err(error) => last = error,
                }
            }
            Err(fail(last))
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        self.wire
    }
}

/// What quinn is told, by where the client is.
struct Configs {
    network: Arc<ServerConfig>,
    loopback: Arc<ServerConfig>,
}

impl Configs {
    fn new(config: &QuicServerConfig, wire: WireVersions) -> io::Result<Self> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let tls = config
            .tls()
            .and_then(|tls| tls.build(&alpns(wire)))
            .map_err(|error| invalid(with_causes(&error)))?;
        let crypto = Crypto::try_from(tls).map_err(|error| invalid(error.to_string()))?;
        let mut server = ServerConfig::with_crypto(Arc::new(crypto));
        server
            .migration(config.migration)
            .max_incoming(config.backlog as usize)
            .incoming_buffer_size(EARLY_BYTES)
            .incoming_buffer_size_total(EARLY_BYTES.saturating_mul(u64::from(config.backlog)))
            .transport_config(config.tuning.transport(false));
        let mut loopback = server.clone();
        loopback.transport_config(config.tuning.transport(true));
        Ok(Self {
            network: Arc::new(server),
            loopback: Arc::new(loopback),
        })
    }
}

type Next = Pin<Box<dyn Future<Output = Option<quinn::Incoming>> + Send>>;

/// The wait for the next client; boxed, because quinn's own wait borrows the endpoint and must not be started anew.
async fn next(endpoint: quinn::Endpoint) -> Option<quinn::Incoming> {
    endpoint.accept().await
}

struct QuicListener {
    accept: Next,
    bound: Bound,
    address: Endpoint,
    configs: Configs,
    limits: Limits,
    retry_above: usize,
    /// Open handshakes of clients that have not proved their address.
    unproved: Arc<AtomicUsize>,
}

impl Listener for QuicListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        for _ in 0..RETRIES_MAX {
            let incoming = ready!(self.accept.as_mut().poll(cx));
            self.accept = Box::pin(next(self.bound.endpoint.clone()));
            let Some(incoming) = incoming else {
                let what = "the socket failed, or its runtime has ended";
                return Poll::Ready(Err(AcceptError::Fatal(io::Error::other(what))));
            };
            // Relaxed: a number of its own; who counts a moment later asks one client more or less for a proof.
            let unproved = self.unproved.load(Ordering::Relaxed);
            if !incoming.remote_address_validated()
                && unproved >= self.retry_above
                && incoming.may_retry()
            {
                // The error gives back a client that must not be asked twice, which was ruled out.
                let _ = incoming.retry();
                continue;
            }
            return Poll::Ready(Ok(self.handshake(incoming)));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn local_endpoint(&self) -> Endpoint {
        self.address.clone()
    }
}

impl QuicListener {
    fn handshake(&self, incoming: quinn::Incoming) -> Incoming {
        let address = canonical(incoming.remote_address());
        let unproved = (!incoming.remote_address_validated()).then(|| Counted::new(&self.unproved));
        let config = if address.ip().is_loopback() {
            self.configs.loopback.clone()
        } else {
            self.configs.network.clone()
        };
        let limits = self.limits;
        Incoming::Handshake {
            peer: PeerAddress::Socket(address),
            // There is nobody before the first datagram.
            begun: true,
            handshake: Box::pin(async move {
                let endpoint = format!("quic://{address}");
                accept(incoming, config, limits, unproved)
                    .await
                    .map_err(|error| match error {
                        Refusal::Lost(error) => failure::handshake(&endpoint, error),
                        Refusal::NoVersion => ConnectError::Handshake {
                            endpoint,
                            stage: "quic",
                            what: "no wire version was negotiated by ALPN".to_owned(),
                            retryable: false,
                        },
                    })
            }),
        }
    }
}

impl Drop for QuicListener {
    fn drop(&mut self) {
        left::leave(self.bound.clone());
    }
}

enum Refusal {
    Lost(quinn::ConnectionError),
    NoVersion,
}

impl From<quinn::ConnectionError> for Refusal {
    fn from(error: quinn::ConnectionError) -> Self {
        Self::Lost(error)
    }
}

/// The QUIC handshake, and for version 2 the client's stream, which it shows by writing Hello.
async fn accept(
    incoming: quinn::Incoming,
    config: Arc<ServerConfig>,
    limits: Limits,
    unproved: Option<Counted>,
) -> Result<Box<dyn Connection>, Refusal> {
    let connection = incoming.accept_with(config)?.await?;
    drop(unproved);
    let version = negotiated(&connection).ok_or(Refusal::NoVersion)?;
    let streams = match version {
        WireVersion::V1 => Streams::accept(&connection),
        WireVersion::V2 => {
            let mut unfinished = Unfinished(Some(connection.clone()));
            let (send, recv) = connection.accept_bi().await?;
            unfinished.0 = None;
            Streams::Open(Pair { send, recv })
        }
    };
    Ok(Box::new(QuicConnection::accepted(
        connection, streams, version, limits,
    )))
}

/// Tells a client that was dropped in the middle of its handshake why.
struct Unfinished(Option<quinn::Connection>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            connection.close(failure::close_code(Code::TIMEOUT), b"no stream in time");
        }
    }
}

/// One of a number for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
