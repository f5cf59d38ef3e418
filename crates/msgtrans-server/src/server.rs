//! [`TransportServer`]: one business code, any number of protocols.

use std::future::{Future, IntoFuture, Ready, ready};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use msgtrans_actor::{BellGuard, TaskGroup, Timers};
use msgtrans_core::{
    CloseReason, Code, ConfigError, HandlerError, Packet, RequestError, SendError, SendErrorKind,
    SessionId, TransportError,
};
use msgtrans_lockfree::{Counter, LockFreeHashMap};
use msgtrans_session::{
    EventSink, EventStream, Handler, Handlers, MessageFn, Middleware, RateLimiter, Refusal,
    RequestFn, RuntimeStats, Session, SessionConfig, SessionHooks, SessionRuntime, TransportStats,
    in_handler, ring_when_held, service,
};
use msgtrans_transport::{Endpoint, IntoServerProtocol, ListenContext, Schemes};
use tokio::sync::{Semaphore, watch};

use crate::accept;
use crate::admission::Addresses;
use crate::broadcast::{BroadcastReport, Broadcasts, broadcast};
use crate::builder::{ServerConfig, TransportServerBuilder};
use crate::control::{self, Control, Ebb, ProcessStats};
use crate::cores::{Cores, End};
use crate::listening::{Closing, Listening};
use crate::memory::MemoryBudget;
use crate::shutdown::{Shutdown, ShutdownReport};

/// A server. Cheap to clone; every clone is the same server.
///
/// Made by [`TransportServerBuilder`]; [`serve`](Self::serve) runs it. Handlers may call anything here from inside.
pub struct TransportServer<S> {
    inner: Arc<Inner>,
    owner: Arc<Owner>,
    schemes: PhantomData<fn() -> S>,
}

/// Shared by every handle, not by the server's own tasks: when the last handle is gone the server stops.
struct Owner(Arc<Inner>);

/// When a peer that finds no memory may come back.
const COME_BACK: Duration = Duration::from_secs(1);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.stopping.store(true, Ordering::Release);
        drop(self.0.stop_listening());
        self.0.close_sessions("the server was dropped");
        self.0.events.finish();
        self.0.control.stop();
        *lock(&self.0.bell) = None;
        if let Some(cores) = &self.0.cores {
            // Not waited for: a handle may be dropped anywhere, in a handler on one of the threads too.
            cores.end(End::Empty);
        }
    }
}

pub(crate) struct ServerParts {
    pub(crate) config: ServerConfig,
    pub(crate) session: SessionConfig,
    pub(crate) middleware: Vec<Arc<dyn Middleware>>,
    pub(crate) handlers: Handlers,
    pub(crate) events: EventSink,
    pub(crate) tasks: TaskGroup,
    pub(crate) cores: Option<Cores>,
    pub(crate) listeners: Vec<Listening>,
}

pub(crate) struct Inner {
    pub(crate) config: ServerConfig,
    session: SessionConfig,
    middleware: Vec<Arc<dyn Middleware>>,
    handlers: Mutex<Handlers>,
    /// What a builder method could not say at once: a second consumer of one kind.
    mistake: Mutex<Option<ConfigError>>,
    runtime: OnceLock<Arc<SessionRuntime>>,
    pub(crate) events: EventSink,
    listeners: Mutex<Vec<Listening>>,
    pub(crate) sessions: LockFreeHashMap<SessionId, Session>,
    broadcasts: Broadcasts,
    next_session: AtomicU64,
    /// Sessions that are open or about to open. Relaxed: the number is all there is.
    places: AtomicUsize,
    ebb: Ebb,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) handshakes: Arc<Semaphore>,
    /// Peers that came in and have neither a connection nor gone: their handshakes of TLS, WebSocket and QUIC, and those that
    /// have not begun. A peer over plain TCP or a socket of Unix has its connection at once, and a silent one is bounded by
    /// the connections of its address and the descriptors.
    pub(crate) arrivals: Arc<Semaphore>,
    /// Sessions and handshakes; listeners are apart, because they end first.
    pub(crate) tasks: TaskGroup,
    /// The server's own threads, where it was told to have some.
    cores: Option<Cores>,
    stats: Arc<RuntimeStats>,
    pub(crate) listener_counters: ListenerCounters,
    control: Control,
    pub(crate) memory: MemoryBudget,
    /// Rings while too much is held; kept as long as the control loop runs.
    bell: Mutex<Option<BellGuard>>,
    stopping: AtomicBool,
    done: watch::Sender<Option<ShutdownReport>>,
}

#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub(crate) accepted: Counter,
    pub(crate) refused_address: Counter,
    pub(crate) lost: Counter,
    pub(crate) exhausted: Counter,
}

/// What the listeners of a server have seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerStats {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed at once because their address had too many.
    pub refused_address: u64,
    /// Peers lost before they were accepted.
    pub lost: u64,
    /// Times that accepting paused for want of descriptors or memory.
    pub exhausted: u64,
}

/// What [`TransportServer::on_message`] and [`on_request`](TransportServer::on_request) return: awaiting it tells
/// whether the closure was taken. [`serve`](TransportServer::serve) tells it too.
#[derive(Debug)]
pub struct Registered(Result<(), ConfigError>);

impl IntoFuture for Registered {
    type Output = Result<(), TransportError>;
    type IntoFuture = Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        ready(self.0.map_err(TransportError::from))
    }
}

impl<S> Clone for TransportServer<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            owner: self.owner.clone(),
            schemes: PhantomData,
        }
    }
}

impl<S> std::fmt::Debug for TransportServer<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportServer")
            .field("sessions", &self.inner.sessions.len())
            .finish_non_exhaustive()
    }
}

impl<S: Schemes> TransportServer<S> {
    /// The start of every server.
    pub fn builder() -> TransportServerBuilder<S> {
        TransportServerBuilder::new()
    }

    pub(crate) fn new(parts: ServerParts) -> Self {
        let ServerParts {
            config,
            session,
            middleware,
            handlers,
            events,
            tasks,
            cores,
            listeners,
        } = parts;
        let loops_beside: usize = listeners.iter().map(Listening::loops_beside).sum();
        let memory = config
            .memory_budget
            .map_or_else(MemoryBudget::quarter, MemoryBudget);
        let inner = Inner {
            addresses: Arc::new(Addresses::new(
                config.max_connections_per_address,
                session.rate_limit,
            )),
            handshakes: semaphore(config.max_handshakes),
            arrivals: semaphore(accept::arrivals_max(config.max_handshakes) + loops_beside),
            config,
            session,
            middleware,
            handlers: Mutex::new(handlers),
            mistake: Mutex::new(None),
            runtime: OnceLock::new(),
            events,
            listeners: Mutex::new(listeners),
            sessions: LockFreeHashMap::new(),
            broadcasts: Broadcasts::new(),
            next_session: AtomicU64::new(1),
            places: AtomicUsize::new(0),
            ebb: Ebb::default(),
            tasks,
            cores,
            stats: Arc::new(RuntimeStats::new("server")),
            listener_counters: ListenerCounters::default(),
            control: Control::new(),
            memory,
            bell: Mutex::new(None),
            stopping: AtomicBool::new(false),
            done: watch::Sender::new(None),
        };
        {
            let inner = Arc::new(inner);
            Self {
                owner: Arc::new(Owner(inner.clone())),
                inner,
                schemes: PhantomData,
            }
        }
    }

    /// Takes one-way messages: `server.on_message(|session_id, packet| async move { Ok(()) })`, with or without
    /// awaiting it. Set before [`serve`](Self::serve); requests and everything else go to [`events`](Self::events).
    pub fn on_message<F, Fut>(&self, function: F) -> Registered
    where
        F: Fn(SessionId, Packet) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        self.register("on_message", |handlers| {
            handlers.set_messages(service(MessageFn::new(function)))
        })
    }

    /// Answers requests: `server.on_request(|session_id, request| async move { Ok(Packet::response("…")) })`.
    pub fn on_request<F, Fut>(&self, function: F) -> Registered
    where
        F: Fn(SessionId, Packet) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Packet, HandlerError>> + Send + 'static,
    {
        self.register("on_request", |handlers| {
            handlers.set_requests(service(RequestFn::new(function)))
        })
    }

    fn register(&self, what: &'static str, set: impl FnOnce(&mut Handlers) -> bool) -> Registered {
        let late = self.inner.runtime.get().is_some();
        let taken = !late && set(&mut lock(&self.inner.handlers));
        if taken {
            return Registered(Ok(()));
        }
        let why = if late {
            "must be set before `serve`"
        } else {
            "something else takes the same packets already"
        };
        let error = ConfigError::new(what, "a closure", why);
        lock(&self.inner.mistake).get_or_insert_with(|| error.clone());
        Registered(Err(error))
    }

    /// The events that no closure or handler takes. May be taken at any time, once; what came before waits within the
    /// bound. A second call gives a stream with one error in it.
    pub fn events(&self) -> EventStream {
        self.inner.events.take().unwrap_or_else(|| {
            let error = ConfigError::new(
                "events",
                "a second stream",
                "the events of a server are taken once",
            );
            EventStream::failed(error.into())
        })
    }

    /// Accepts connections until the server has shut down.
    ///
    /// # Errors
    /// Serving twice, a closure that could not be set.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the server serving; [`shutdown`](Self::shutdown) ends it, and so does dropping the
    /// last handle.
    pub async fn serve(&self) -> Result<(), TransportError> {
        self.start()?;
        self.stopped().await;
        Ok(())
    }

    /// Serves with `handler`, which takes everything.
    ///
    /// # Errors
    /// As [`serve`](Self::serve); something takes packets already.
    pub async fn serve_with(&self, handler: impl Handler) -> Result<(), TransportError> {
        self.register("serve_with", |handlers| {
            handlers.set_handler(service(handler))
        })
        .await?;
        self.serve().await
    }

    /// Accepts connections from here on, in the background.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    pub fn start(&self) -> Result<(), TransportError> {
        if let Some(mistake) = lock(&self.inner.mistake).clone() {
            return Err(mistake.into());
        }
        let mut fresh = false;
        let runtime = self.inner.runtime.get_or_init(|| {
            fresh = true;
            Arc::new(SessionRuntime {
                config: self.inner.session.clone(),
                service: Arc::new(lock(&self.inner.handlers).clone()),
                events: self.inner.events.clone(),
                middleware: self.inner.middleware.clone(),
                timers: Timers::start(),
                hooks: Arc::new(Hooks(Arc::downgrade(&self.inner))),
                stats: self.inner.stats.clone(),
            })
        });
        if !fresh || self.inner.stopping.load(Ordering::Acquire) {
            return Err(ConfigError::new("serve", "a second call", "a server serves once").into());
        }
        for listening in lock(&self.inner.listeners).iter_mut() {
            listening.start(&self.inner, runtime);
        }
        self.inner.start_control();
        Ok(())
    }

    /// Listens on one more protocol while serving; returns where.
    ///
    /// # Errors
    /// A URL that is none, a setting out of bounds, an address that cannot be had, a server that has stopped.
    pub async fn add_protocol(
        &self,
        protocol: impl IntoServerProtocol<S>,
    ) -> Result<Endpoint, TransportError> {
        let protocol = protocol.into_server_protocol()?;
        protocol.validate()?;
        let context = ListenContext::new(self.inner.session.wire, self.inner.session.limits);
        let mut listening = Listening::bind(protocol, context, self.inner.cores.as_ref()).await?;
        let endpoint = listening.endpoint.clone();
        let mut listeners = lock(&self.inner.listeners);
        if self.inner.stopping.load(Ordering::Acquire) {
            return Err(
                ConfigError::new("add_protocol", &endpoint, "the server has stopped").into(),
            );
        }
        self.inner.arrivals.add_permits(listening.loops_beside());
        if let Some(runtime) = self.inner.runtime.get() {
            listening.start(&self.inner, runtime);
        }
        listeners.push(listening);
        Ok(endpoint)
    }

    /// Stops listening at `endpoint`, as [`local_endpoints`](Self::local_endpoints) spells it. Its sessions live on.
    ///
    /// # Errors
    /// Nothing listens there.
    pub async fn remove_protocol(&self, endpoint: &Endpoint) -> Result<(), TransportError> {
        let listening = {
            let mut listeners = lock(&self.inner.listeners);
            let index = listeners
                .iter()
                .position(|listening| listening.endpoint == *endpoint);
            index.map(|index| listeners.swap_remove(index))
        };
        let Some(listening) = listening else {
            return Err(ConfigError::new("endpoint", endpoint, "nothing listens there").into());
        };
        let loops_beside = listening.loops_beside();
        listening.stop().closed().await;
        self.inner.arrivals.forget_permits(loops_beside);
        Ok(())
    }

    /// Where the server listens; port 0 has become the port that was given.
    pub fn local_endpoints(&self) -> Vec<Endpoint> {
        lock(&self.inner.listeners)
            .iter()
            .map(|listening| listening.endpoint.clone())
            .collect()
    }

    /// Sends a one-way message to one session; see [`Session::send`].
    ///
    /// # Errors
    /// As [`Session::send`]; no such session. The packet comes back.
    pub async fn send_to(
        &self,
        session: impl Into<SessionId>,
        packet: Packet,
    ) -> Result<(), SendError> {
        let id = session.into();
        match self.session(id) {
            Some(session) => session.send(packet).await,
            None => Err(SendError::new(SendErrorKind::NoSession(id), packet)),
        }
    }

    /// Another name of [`send_to`](Self::send_to).
    ///
    /// # Errors
    /// As [`send_to`](Self::send_to).
    pub async fn send(
        &self,
        session: impl Into<SessionId>,
        packet: Packet,
    ) -> Result<(), SendError> {
        self.send_to(session, packet).await
    }

    /// Makes a request of one session and waits for the response; see [`Session::request`].
    ///
    /// # Errors
    /// As [`Session::request`]; no such session.
    pub async fn request_to(
        &self,
        session: impl Into<SessionId>,
        packet: impl Into<Packet>,
    ) -> Result<Packet, RequestError> {
        let id = session.into();
        match self.session(id) {
            Some(session) => session.request(packet).await,
            None => Err(SendError::new(SendErrorKind::NoSession(id), packet.into()).into()),
        }
    }

    /// Sends a one-way message to every session, encoded once per protocol. Waits for nobody: see
    /// [`BroadcastReport`]. What one task sends to a session and what it broadcasts arrives in that order.
    ///
    /// # Errors
    /// The packet cannot be encoded.
    ///
    /// # Cancel safety
    /// Dropping the future leaves out the sessions that have not had their turn.
    ///
    /// # Cost
    /// Idle sessions of TCP and Unix sockets: one write each, by this task, which lets others run between every 64 of
    /// them. Others, and all in a run of broadcasts: a short lock and a wake; each session writes what has gathered.
    pub async fn broadcast(&self, mut packet: Packet) -> Result<BroadcastReport, TransportError> {
        packet.assign_id(|| 0);
        let inner = &*self.inner;
        broadcast(
            &inner.broadcasts,
            &inner.sessions,
            &inner.stats,
            packet.clone(),
        )
        .await
        .map_err(|error| SendError::new(error, packet).into())
    }

    /// The sessions that are open, in no order.
    pub async fn active_sessions(&self) -> Vec<SessionId> {
        let mut sessions = Vec::with_capacity(self.inner.sessions.len());
        self.inner.sessions.for_each(|id, _| sessions.push(*id));
        sessions
    }

    /// How many sessions are open.
    pub fn session_count(&self) -> usize {
        self.inner.sessions.len()
    }

    /// The handle of one session.
    pub fn session(&self, id: impl Into<SessionId>) -> Option<Session> {
        self.inner.sessions.get(&id.into())
    }

    /// Ends one session in good order: what is queued is written, then Goodbye. Returns at once, so that a handler may
    /// close its own session; [`Session::closed`] waits for the end.
    ///
    /// # Errors
    /// No such session.
    pub async fn close_session(&self, id: impl Into<SessionId>) -> Result<(), TransportError> {
        let id = id.into();
        match self.session(id) {
            Some(session) => {
                session.close(Code::NORMAL, "");
                Ok(())
            }
            None => Err(SendError::taken(SendErrorKind::NoSession(id)).into()),
        }
    }

    /// What all sessions have done so far.
    pub fn stats(&self) -> TransportStats {
        self.inner.stats.snapshot()
    }

    /// Memory, processor time, descriptors and threads of the process, as the control loop last saw them. The loop
    /// runs from [`start`](Self::start) until the server has stopped, on a thread of its own, so that the figures stay
    /// fresh while the runtime is saturated.
    pub fn process_stats(&self) -> ProcessStats {
        self.inner.control.stats()
    }

    /// As [`process_stats`](Self::process_stats), of now: asks the control loop for a sample and waits for it, some
    /// 50 µs. The last one comes back where the loop does not run.
    ///
    /// # Cancel safety
    /// The sample is taken all the same.
    pub async fn sample_process(&self) -> ProcessStats {
        self.inner.control.sample().await
    }

    /// Gives memory back that nothing uses now, instead of after an idle [`control_interval`] or when a crowd of
    /// sessions has gone: the threads' read and out buffers, sessions that were removed, and what the heap keeps of
    /// them. Returns at once; the control loop does it.
    ///
    /// [`control_interval`]: TransportServerBuilder::control_interval
    pub fn trim_memory(&self) {
        self.inner.control.trim();
    }

    /// What the listeners have seen so far.
    pub fn listener_stats(&self) -> ListenerStats {
        let ListenerCounters {
            accepted,
            refused_address,
            lost,
            exhausted,
        } = &self.inner.listener_counters;
        ListenerStats {
            accepted: accepted.get(),
            refused_address: refused_address.get(),
            lost: lost.get(),
            exhausted: exhausted.get(),
        }
    }

    /// Stops accepting, tells every peer, waits for work at hand up to the drain timeout, closes what is left.
    ///
    /// Called from inside a handler it only begins, because a handler is work at hand; the report is then empty.
    ///
    /// # Cancel safety
    /// Once begun a shutdown goes on; calling it again waits for the same one.
    pub async fn shutdown(&self) -> ShutdownReport {
        if !self.inner.stopping.swap(true, Ordering::AcqRel) {
            tokio::spawn(Shutdown::new(self.inner.clone()).run());
        }
        if in_handler() {
            return ShutdownReport::default();
        }
        self.stopped().await
    }

    /// Another name of [`shutdown`](Self::shutdown).
    pub async fn graceful_shutdown(&self) -> ShutdownReport {
        self.shutdown().await
    }

    async fn stopped(&self) -> ShutdownReport {
        let mut done = self.inner.done.subscribe();
        let report = done.wait_for(Option::is_some).await.map(|report| *report);
        if let Some(cores) = &self.inner.cores {
            cores.ended().await;
        }
        report.ok().flatten().unwrap_or_default()
    }
}

impl Inner {
    /// The clock of the sessions, or, where none was served, one like it.
    pub(crate) fn timers(&self) -> Timers {
        let runtime = self.runtime.get();
        runtime.map_or_else(Timers::start, |runtime| runtime.timers.clone())
    }

    pub(crate) fn next_session_id(&self) -> SessionId {
        SessionId::new(self.next_session.fetch_add(1, Ordering::Relaxed))
    }

    fn start_control(self: &Arc<Self>) {
        // Weak: the loop does not keep a server alive that everybody has dropped.
        let (upkeep, sessions) = (Arc::downgrade(self), Arc::downgrade(self));
        let (ringing, shedding) = (Arc::downgrade(self), Arc::downgrade(self));
        *lock(&self.bell) = Some(ring_when_held(self.memory.tight(), move || {
            if let Some(inner) = ringing.upgrade() {
                inner.control.press();
            }
        }));
        self.control.start(
            self.config.control_interval,
            self.memory,
            move || {
                shedding.upgrade().is_some_and(|inner| {
                    inner
                        .memory
                        .shed(|each| inner.sessions.for_each(|_, session| each(session)))
                })
            },
            move || {
                if let Some(inner) = upkeep.upgrade() {
                    control::drop_removed(&inner.sessions);
                }
            },
            move || sessions.upgrade().map_or(0, |inner| inner.sessions.len()),
        );
    }

    /// Begins to close every listening socket.
    pub(crate) fn stop_listening(&self) -> Closing {
        let mut all = Closing::default();
        for listening in lock(&self.listeners).drain(..) {
            all.add(listening.stop());
        }
        all
    }

    pub(crate) fn close_sessions(&self, reason: &str) {
        self.sessions
            .for_each(|_, session| session.close(Code::GOING_AWAY, reason));
    }

    /// The server has stopped: everybody who waits for it hears of it.
    pub(crate) fn stopped_with(&self, report: ShutdownReport, threads: End) {
        self.control.stop();
        if let Some(cores) = &self.cores {
            cores.end(threads);
        }
        self.done.send_replace(Some(report));
    }
}

fn semaphore(permits: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server as its sessions see it. Weak: sessions do not keep a server alive that everybody has dropped.
struct Hooks(std::sync::Weak<Inner>);

impl SessionHooks for Hooks {
    fn admit(&self, _: &Session) -> Result<(), Refusal> {
        let Some(inner) = self.0.upgrade() else {
            return Err(Refusal::new(Code::GOING_AWAY, "the server shuts down"));
        };
        if inner.stopping.load(Ordering::Acquire) {
            return Err(Refusal::new(Code::GOING_AWAY, "the server shuts down"));
        }
        if inner.memory.is_full() {
            return Err(Refusal {
                retry_after: Some(COME_BACK),
                ..Refusal::new(Code::OVERLOADED, "too many bytes are held already")
            });
        }
        // A place is taken before the handler decides: it may think about any number of peers at once.
        let max = inner.config.max_connections;
        let taken = inner
            .places
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |places| {
                (places < max).then_some(places + 1)
            });
        match taken {
            Ok(before) => {
                inner.ebb.rise(before + 1);
                Ok(())
            }
            Err(_) => Err(Refusal::new(
                Code::OVERLOADED,
                format!("{max} sessions are open already"),
            )),
        }
    }

    fn left(&self, _: &Session) {
        if let Some(inner) = self.0.upgrade() {
            let before = inner.places.fetch_sub(1, Ordering::Relaxed);
            if inner.ebb.fall(before.saturating_sub(1)) {
                inner.control.ebb();
            }
        }
    }

    fn opened(&self, session: &Session) {
        let Some(inner) = self.0.upgrade() else {
            return;
        };
        inner
            .sessions
            .insert_with(session.id(), session.clone(), |_| ());
        if inner.stopping.load(Ordering::Acquire) {
            // Too late to be among those that the shutdown told.
            session.close(Code::GOING_AWAY, "the server shuts down");
        }
    }

    fn closed(&self, session: &Session, _: &CloseReason) {
        if let Some(inner) = self.0.upgrade() {
            inner.sessions.remove_with(&session.id(), |_| ());
        }
    }

    fn address_limiter(&self, session: &Session) -> Option<Arc<RateLimiter>> {
        self.0.upgrade()?.addresses.limiter(&session.info().peer)
    }
}
