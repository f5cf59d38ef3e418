//! [`TransportClientBuilder`]: everything a client can be told, checked in one place.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use msgtrans_actor::Bounds;
use msgtrans_core::{ConfigError, HandlerError, Limits, TransportError, WireVersions};
use msgtrans_session::{CompressionConfig, Handler, Middleware, SessionConfig, service};
use msgtrans_transport::{Connector, IntoConnector, Schemes};

use crate::backoff::{ReconnectConfig, RetryConfig};
use crate::client::TransportClient;
use crate::dial::AUTH_MAX;
use crate::inner::{AuthProvider, Consumers, Settings};

/// Builds a [`TransportClient`]. [`build`](Self::build) checks everything.
pub struct TransportClientBuilder<S> {
    protocol: Option<Result<Box<dyn Connector>, ConfigError>>,
    session: SessionConfig,
    connect_timeout: Duration,
    retry: RetryConfig,
    reconnect: Option<ReconnectConfig>,
    auth_provider: Option<AuthProvider>,
    middleware: Vec<Arc<dyn Middleware>>,
    events: Bounds,
    consumers: Consumers,
    schemes: PhantomData<fn() -> S>,
}

impl<S: Schemes> Default for TransportClientBuilder<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Schemes> TransportClientBuilder<S> {
    /// A client without a protocol; [`with_protocol`](Self::with_protocol) says where to dial.
    pub fn new() -> Self {
        let mut session = SessionConfig::default();
        session.wire = WireVersions::V2;
        Self {
            protocol: None,
            session,
            connect_timeout: Duration::from_secs(10),
            retry: RetryConfig::none(),
            reconnect: Some(ReconnectConfig::new()),
            auth_provider: None,
            middleware: Vec::new(),
            events: Bounds {
                items: 16_384,
                bytes: 16 * 1024 * 1024,
            },
            consumers: Consumers::default(),
            schemes: PhantomData,
        }
    }

    /// Where to dial, required: a typed config or a URL such as `"tcp://localhost:8080"`. A bad URL and a second
    /// protocol are reported by [`build`](Self::build).
    #[must_use]
    pub fn with_protocol(mut self, protocol: impl IntoConnector<S>) -> Self {
        let protocol = protocol.into_connector();
        self.protocol = Some(match self.protocol {
            None => protocol,
            Some(Err(error)) => Err(error),
            Some(Ok(first)) => Err(ConfigError::new(
                "protocol",
                first.endpoint(),
                "a client has one protocol and was given a second",
            )),
        });
        self
    }

    /// How long one attempt may take: resolving, connecting and all handshakes together; 10 s by default, from 10 ms
    /// to 24 h.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Whether [`connect`](TransportClient::connect) tries again; [`RetryConfig::none`] by default.
    #[must_use]
    pub fn retry_strategy(mut self, retry: RetryConfig) -> Self {
        self.retry = retry;
        self
    }

    /// How a lost session is dialled again.
    #[must_use]
    pub fn reconnect(mut self, reconnect: ReconnectConfig) -> Self {
        self.reconnect = Some(reconnect);
        self
    }

    /// Whether a lost session is dialled again; on by default, as [`ReconnectConfig::new`] says.
    #[must_use]
    pub fn auto_reconnect(mut self, on: bool) -> Self {
        self.reconnect = on.then(|| self.reconnect.unwrap_or_default());
        self
    }

    /// The token for the server's authenticator, at most 12 288 bytes; version 2 alone has a place for it.
    #[must_use]
    pub fn auth(mut self, token: impl Into<Bytes>) -> Self {
        self.session.auth = Some(token.into());
        self
    }

    /// Asks for a fresh token before each attempt, instead of [`auth`](Self::auth): a client that reconnects with an
    /// expired one would be refused for good. The time it takes counts into the connect timeout; an error fails the
    /// attempt like a lost connection.
    #[must_use]
    pub fn auth_provider<F, Fut>(mut self, provider: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
    {
        self.auth_provider = Some(Arc::new(move || Box::pin(provider())));
        self
    }

    /// The wire version to speak, unless the endpoint says so: version 2 by default. [`WireVersions::Any`] dials again
    /// with version 1, once an attempt, where an unencrypted server closes after the Hello without a byte, as version
    /// 1 servers do; never with a token.
    #[must_use]
    pub fn wire(mut self, wire: WireVersions) -> Self {
        self.session.wire = wire;
        self
    }

    /// What one frame may be; 16 MiB of payload by default.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.session.limits = limits;
        self
    }

    /// How long [`request`](TransportClient::request) waits for the response; 10 s by default, from 1 ms to 24 h.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.session.request_timeout = timeout;
        self
    }

    /// How long `send` waits for room, and a write for progress; 10 s by default, from 10 ms to 24 h.
    #[must_use]
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.session.send_timeout = timeout;
        self
    }

    /// The heartbeat to ask for: a server silent for three of them is gone; 15 s by default, from 5 s to 300 s.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.session.heartbeat = interval;
        self
    }

    /// Compresses payloads with the defaults of [`CompressionConfig`] where the server takes it; off by default.
    #[must_use]
    pub fn with_data_compression(self, on: bool) -> Self {
        self.compression(on.then(CompressionConfig::default))
    }

    /// Compresses payloads as told.
    #[must_use]
    pub fn compression(mut self, config: impl Into<Option<CompressionConfig>>) -> Self {
        self.session.compression = config.into();
        self
    }

    /// Every packet passes it; middlewares run in the order they were added.
    #[must_use]
    pub fn with_middleware(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Arc::new(middleware));
        self
    }

    /// Takes everything that comes in. Closures and events are for those who need less.
    #[must_use]
    pub fn with_handler(mut self, handler: impl Handler) -> Self {
        self.consumers.whole = Some(service(handler));
        self
    }

    /// Another name of [`with_handler`](Self::with_handler).
    #[must_use]
    pub fn handler(self, handler: impl Handler) -> Self {
        self.with_handler(handler)
    }

    /// Packets that may wait to be written; 1 024 and 4 MiB by default.
    #[must_use]
    pub fn outbound_bounds(mut self, items: usize, bytes: usize) -> Self {
        self.session.outbound = Bounds { items, bytes };
        self
    }

    /// Requests that may await their responses; 1 024 by default. More fail at once.
    #[must_use]
    pub fn requests_pending_max(mut self, max: usize) -> Self {
        self.session.requests_pending_max = max;
        self
    }

    /// Every bound and deadline of a session, for what has no method of its own here.
    #[must_use]
    pub fn session_config(mut self, change: impl FnOnce(&mut SessionConfig)) -> Self {
        change(&mut self.session);
        self
    }

    /// Events that may wait to be read; 16 384 by default.
    #[must_use]
    pub fn events_capacity(mut self, items: usize) -> Self {
        self.events.items = items;
        self
    }

    /// Events that may wait to be read; 16 384 and 16 MiB by default.
    #[must_use]
    pub fn events_bounds(mut self, items: usize, bytes: usize) -> Self {
        self.events = Bounds { items, bytes };
        self
    }

    /// Checks everything. Nothing is dialled before [`connect`](TransportClient::connect).
    ///
    /// # Errors
    /// A missing or second protocol, a URL that is none, a setting out of bounds: each by field, value and bound.
    pub async fn build(self) -> Result<TransportClient<S>, TransportError> {
        self.check()?;
        let connector = self.protocol.unwrap_or_else(|| Err(missing()))?;
        connector.validate()?;
        let mut session = self.session;
        // The attempt's own deadline comes first.
        session.handshake_timeout = self.connect_timeout;
        session.validate()?;
        let settings = Settings {
            connector,
            session,
            connect_timeout: self.connect_timeout,
            retry: self.retry,
            reconnect: self.reconnect,
            auth_provider: self.auth_provider,
            middleware: self.middleware,
            events: self.events,
        };
        Ok(TransportClient::new(settings, self.consumers))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let (min, max) = (Duration::from_millis(10), Duration::from_secs(24 * 3600));
        if !(min..=max).contains(&self.connect_timeout) {
            return Err(ConfigError::new(
                "connect_timeout",
                format_args!("{:?}", self.connect_timeout),
                format!("must be from {min:?} to {max:?}"),
            ));
        }
        self.retry.validate()?;
        if let Some(reconnect) = &self.reconnect {
            reconnect.validate()?;
        }
        if self.session.auth.is_some() && self.auth_provider.is_some() {
            return Err(ConfigError::new(
                "auth_provider",
                "a closure",
                "must not stand beside `auth`",
            ));
        }
        let auth = self.session.auth.as_ref().map_or(0, Bytes::len);
        if auth > AUTH_MAX {
            return Err(ConfigError::new(
                "auth",
                format_args!("{auth} bytes"),
                format!("must be at most {AUTH_MAX} bytes"),
            ));
        }
        let has_auth = self.session.auth.is_some() || self.auth_provider.is_some();
        let wire = match &self.protocol {
            Some(Ok(connector)) => connector.wire().unwrap_or(self.session.wire),
            _ => self.session.wire,
        };
        if has_auth && wire == WireVersions::V1 {
            let expected = "must be v2 or auto where there is auth: version 1 has no place for it";
            return Err(ConfigError::new("wire", "v1", expected));
        }
        for (field, value) in [
            ("events.items", self.events.items),
            ("events.bytes", self.events.bytes),
        ] {
            if value == 0 || value > 1 << 30 {
                let expected = "must be from 1 to 1073741824";
                return Err(ConfigError::new(field, value, expected));
            }
        }
        Ok(())
    }
}

fn missing() -> ConfigError {
    ConfigError::new("protocol", "none", "say where to dial with `with_protocol`")
}

impl<S> std::fmt::Debug for TransportClientBuilder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the session's configuration: the token is in it.
        f.debug_struct("TransportClientBuilder")
            .field("protocol", &self.protocol)
            .field("connect_timeout", &self.connect_timeout)
            .field("retry", &self.retry)
            .field("reconnect", &self.reconnect)
            .finish_non_exhaustive()
    }
}
