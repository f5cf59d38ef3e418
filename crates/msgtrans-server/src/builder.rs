//! [`TransportServerBuilder`]: everything a server can be told, checked in one place.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use msgtrans_actor::{Bounds, TaskGroup};
use msgtrans_core::{BindError, ConfigError, Limits, TransportError, WireVersions};
use msgtrans_session::{
    CompressionConfig, EventSink, Handler, Handlers, Middleware, RateLimiterConfig, Service,
    SessionConfig, service,
};
use msgtrans_transport::{IntoServerProtocol, ListenContext, Schemes, ServerProtocol};

use crate::control;
use crate::cores::{Cores, End, ThreadPerCore};
use crate::listening::Listening;
use crate::server::{ServerParts, TransportServer};

/// Bounds of a server beside those of its sessions.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_address: usize,
    pub(crate) max_handshakes: usize,
    pub(crate) drain_timeout: Duration,
    pub(crate) events: Bounds,
    pub(crate) control_interval: Duration,
    /// `None`: a quarter of the memory that there is.
    pub(crate) memory_budget: Option<usize>,
    /// `None`: on the runtime of whoever starts the server.
    pub(crate) thread_per_core: Option<ThreadPerCore>,
}

/// Builds a [`TransportServer`]. [`build`](Self::build) checks everything and binds.
pub struct TransportServerBuilder<S> {
    protocols: Vec<Result<Box<dyn ServerProtocol>, ConfigError>>,
    config: ServerConfig,
    session: SessionConfig,
    middleware: Vec<Arc<dyn Middleware>>,
    handler: Option<Arc<dyn Service>>,
    schemes: PhantomData<fn() -> S>,
}

impl<S: Schemes> Default for TransportServerBuilder<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Schemes> TransportServerBuilder<S> {
    /// A server without protocols; add at least one.
    pub fn new() -> Self {
        Self {
            protocols: Vec::new(),
            config: ServerConfig {
                max_connections: 1_000_000,
                max_connections_per_address: 4_096,
                max_handshakes: 1_024,
                drain_timeout: Duration::from_secs(30),
                events: Bounds {
                    items: 16_384,
                    bytes: 16 * 1024 * 1024,
                },
                control_interval: control::INTERVAL,
                memory_budget: None,
                thread_per_core: None,
            },
            session: SessionConfig::default(),
            middleware: Vec::new(),
            handler: None,
            schemes: PhantomData,
        }
    }

    /// Listens on one more protocol: a typed config or a URL such as `"tcp://0.0.0.0:8080"`. A bad URL is reported by
    /// [`build`](Self::build).
    #[must_use]
    pub fn with_protocol(mut self, protocol: impl IntoServerProtocol<S>) -> Self {
        self.protocols.push(protocol.into_server_protocol());
        self
    }

    /// Takes everything: connects, messages, requests, ends. Closures and events are for those who need less.
    #[must_use]
    pub fn with_handler(mut self, handler: impl Handler) -> Self {
        self.handler = Some(service(handler));
        self
    }

    /// Every packet passes it; middlewares run in the order they were added.
    #[must_use]
    pub fn with_middleware(mut self, middleware: impl Middleware) -> Self {
        self.middleware.push(Arc::new(middleware));
        self
    }

    /// Sessions at once, from 1; 1 000 000 by default. A peer above it gets a Goodbye "overloaded".
    #[must_use]
    pub fn max_connections(mut self, max: usize) -> Self {
        self.config.max_connections = max;
        self
    }

    /// Another name of [`max_connections`](Self::max_connections).
    #[must_use]
    pub fn with_max_connections(self, max: usize) -> Self {
        self.max_connections(max)
    }

    /// Connections of one address at once, from 1; 4 096 by default. Loopback and local peers are never counted.
    #[must_use]
    pub fn max_connections_per_address(mut self, max: usize) -> Self {
        self.config.max_connections_per_address = max;
        self
    }

    /// Protocol handshakes (TLS, HTTP upgrade, QUIC) at once, from 1; 1 024 by default. A peer that has said nothing is
    /// in none. More wait their turn, up to 16 times as many peers; the rest wait in the kernel's backlog.
    #[must_use]
    pub fn max_handshakes(mut self, max: usize) -> Self {
        self.config.max_handshakes = max;
        self
    }

    /// Slows peers that send more; off by default.
    #[must_use]
    pub fn rate_limiter(mut self, config: RateLimiterConfig) -> Self {
        self.session.rate_limit = Some(config);
        self
    }

    /// Compresses payloads from 1 KiB on with zstd, for peers that take it; off by default.
    #[must_use]
    pub fn with_data_compression(self, on: bool) -> Self {
        self.compression(on.then(CompressionConfig::default))
    }

    /// Compresses payloads as told.
    #[must_use]
    pub fn compression(mut self, config: Option<CompressionConfig>) -> Self {
        self.session.compression = config;
        self
    }

    /// How long a shutdown waits for work to be done before it closes sessions; 30 s by default.
    #[must_use]
    pub fn graceful_shutdown(mut self, timeout: Duration) -> Self {
        self.config.drain_timeout = timeout;
        self
    }

    /// The wire versions to accept, unless an endpoint narrows them; both by default.
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

    /// From accept to an open session; 10 s by default. A wait for a place among the handshakes does not count; it may
    /// last as long again.
    #[must_use]
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.session.handshake_timeout = timeout;
        self
    }

    /// How long `send` waits for room, and a write for progress; 10 s by default.
    #[must_use]
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.session.send_timeout = timeout;
        self
    }

    /// How long `request_to` waits for the response; 10 s by default.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.session.request_timeout = timeout;
        self
    }

    /// Bytes a second that must come of a packet that has begun to arrive, counted over each `window`; 256 over 30 s by
    /// default. A peer below it is cut with code 7 (timeout). Silence between packets is no concern of this, nor is what
    /// a slow handler keeps this side from reading.
    #[must_use]
    pub fn min_frame_rate(mut self, bytes_per_second: u32, window: Duration) -> Self {
        self.session.frame_rate_min = bytes_per_second;
        self.session.frame_rate_window = window;
        self
    }

    /// Every bound and deadline of a session, for what has no method of its own here.
    #[must_use]
    pub fn session_config(mut self, change: impl FnOnce(&mut SessionConfig)) -> Self {
        change(&mut self.session);
        self
    }

    /// Events that wait to be read; 16 384 and 16 MiB by default.
    #[must_use]
    pub fn events_bounds(mut self, items: usize, bytes: usize) -> Self {
        self.config.events = Bounds { items, bytes };
        self
    }

    /// Bytes that the sessions of the whole process may hold: packets queued to be written or handled, and those of which
    /// not all has come. From 1 MiB; by default a quarter of the machine's memory, or of the control group's limit.
    ///
    /// From 80 % on idle buffers are given back. From 90 % on nobody new comes in (code 6, "overloaded", with a time to
    /// come back). From 95 % on this server cuts its sessions that hold the most, counted as
    /// [`Rejections::memory`](msgtrans_session::Rejections). What a session holds below 32 KiB is not counted, nor what
    /// handlers keep.
    #[must_use]
    pub fn memory_budget(mut self, bytes: usize) -> Self {
        self.config.memory_budget = Some(bytes);
        self
    }

    /// How often the control loop gives idle memory back and samples the process, from 100 ms to 1 h; 10 s by default.
    /// See [`TransportServer::process_stats`].
    #[must_use]
    pub fn control_interval(mut self, interval: Duration) -> Self {
        self.config.control_interval = interval;
        self
    }

    /// Threads for this server alone, each with a runtime of one thread: `thread_per_core(2)`, or
    /// `thread_per_core(ThreadPerCore::default())` for one on each processor. By default the server runs on the runtime
    /// of whoever starts it, whose threads take work from one another.
    ///
    /// TCP and WebSocket, under TLS too, listen with one socket on each thread, all on one port (`SO_REUSEPORT`), over
    /// which the system spreads the peers, blindly: with few peers a thread may get none. (Linux spreads them; on macOS
    /// and some BSDs one of the sockets gets them all.) QUIC, Unix sockets, in-process
    /// and protocols whose [`Listener::beside`](msgtrans_transport::Listener::beside) gives nothing listen on one
    /// thread: those of the first protocol on the first, of the second on the second, and round again. A session lives
    /// and ends on the thread that accepted it, with its handlers and what they `tokio::spawn`. Everything else is as
    /// ever and for all threads together: limits, sessions, events, figures, shutdown.
    ///
    /// A handler that blocks its thread holds up every session there, and nobody else takes them over. Tasks that
    /// handlers have spawned end with the server, and `block_in_place` panics there, as on every runtime of one thread. Where a system has no `SO_REUSEPORT`, TCP and WebSocket on more than one
    /// thread are an error of [`build`](Self::build). Threads are bound to no processor; `taskset` does that for the
    /// process.
    ///
    /// A lone message takes some 10 % fewer instructions. Beyond that it is for many sessions whose work is short and
    /// alike; it gains nothing with few busy or unequal ones, and leaves each QUIC listener one thread. Measure both: what
    /// was measured is in docs/RESULTS.md.
    #[must_use]
    pub fn thread_per_core(mut self, threads: impl Into<ThreadPerCore>) -> Self {
        self.config.thread_per_core = Some(threads.into());
        self
    }

    /// Checks everything and binds every protocol.
    ///
    /// # Errors
    /// A setting out of bounds, by name; a URL that is none; an address that cannot be had; no threads where some were
    /// asked for. Nothing is left bound, and no thread is left.
    pub async fn build(self) -> Result<TransportServer<S>, TransportError> {
        self.check()?;
        let events = EventSink::new(self.config.events);
        let mut handlers = Handlers::new(events.clone());
        if let Some(handler) = self.handler {
            handlers.set_handler(handler);
        }
        let mut protocols = Vec::new();
        for protocol in self.protocols {
            let protocol = protocol?;
            protocol.validate()?;
            protocols.push(protocol);
        }
        let context = ListenContext::new(self.session.wire, self.session.limits);
        let tasks = TaskGroup::new();
        let cores = match self.config.thread_per_core {
            Some(config) => Some(Cores::start(config, &tasks).await?),
            None => None,
        };
        let listeners = match bind_all(protocols, context, cores.as_ref()).await {
            Ok(listeners) => listeners,
            Err(error) => {
                if let Some(cores) = &cores {
                    cores.end(End::Now);
                    cores.ended().await;
                }
                return Err(error.into());
            }
        };
        let parts = ServerParts {
            config: self.config,
            session: self.session,
            middleware: self.middleware,
            handlers,
            events,
            tasks,
            cores,
            listeners,
        };
        Ok(TransportServer::new(parts))
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.protocols.is_empty() {
            return Err(ConfigError::new(
                "protocols",
                "none",
                "add at least one with `with_protocol`",
            ));
        }
        let ServerConfig {
            max_connections,
            max_connections_per_address,
            max_handshakes,
            drain_timeout,
            events,
            control_interval,
            memory_budget,
            thread_per_core,
        } = &self.config;
        for (field, value) in [
            ("max_connections", *max_connections),
            ("max_connections_per_address", *max_connections_per_address),
            ("max_handshakes", *max_handshakes),
            ("events.items", events.items),
            ("events.bytes", events.bytes),
        ] {
            if value == 0 || value > 1 << 40 {
                return Err(ConfigError::new(
                    field,
                    value,
                    "must be from 1 to 1099511627776",
                ));
            }
        }
        if let Some(bytes) = memory_budget.filter(|bytes| !(1 << 20..=1 << 40).contains(bytes)) {
            return Err(ConfigError::new(
                "memory_budget",
                bytes,
                "must be from 1048576 to 1099511627776",
            ));
        }
        if drain_timeout.is_zero() || *drain_timeout > Duration::from_secs(24 * 3600) {
            let value = format!("{drain_timeout:?}");
            return Err(ConfigError::new(
                "graceful_shutdown",
                value,
                "must be above 0 s and at most 24 h",
            ));
        }
        if !(control::INTERVAL_MIN..=control::INTERVAL_MAX).contains(control_interval) {
            let value = format!("{control_interval:?}");
            return Err(ConfigError::new(
                "control_interval",
                value,
                "must be from 100 ms to 1 h",
            ));
        }
        if let Some(threads) = thread_per_core {
            threads.validate()?;
        }
        self.session.validate()
    }
}

async fn bind_all(
    protocols: Vec<Box<dyn ServerProtocol>>,
    context: ListenContext,
    cores: Option<&Cores>,
) -> Result<Vec<Listening>, BindError> {
    let mut listeners = Vec::with_capacity(protocols.len());
    for protocol in protocols {
        listeners.push(Listening::bind(protocol, context, cores).await?);
    }
    Ok(listeners)
}

impl<S> std::fmt::Debug for TransportServerBuilder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportServerBuilder")
            .field("protocols", &self.protocols)
            .field("config", &self.config)
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}
