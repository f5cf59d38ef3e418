//! [`Inner`]: what all handles of one client share, and the run that it is in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use msgtrans_actor::{Bounds, Timers};
use msgtrans_core::{CloseReason, Code, ConfigError, ConnectError, HandlerError, TransportError};
use msgtrans_session::{
    BoxFuture, EventSink, EventStream, Handlers, Middleware, RateLimiter, Refusal, RuntimeStats,
    Service, Session, SessionConfig, SessionHooks, SessionRuntime,
};
use msgtrans_transport::Connector;
use tokio::sync::watch;

use crate::backoff::{ReconnectConfig, RetryConfig};

/// Asked for the token of each attempt.
pub(crate) type AuthProvider =
    Arc<dyn Fn() -> BoxFuture<'static, Result<Bytes, HandlerError>> + Send + Sync>;

/// What a client was told when it was built.
pub(crate) struct Settings {
    pub(crate) connector: Box<dyn Connector>,
    pub(crate) session: SessionConfig,
    pub(crate) connect_timeout: Duration,
    pub(crate) retry: RetryConfig,
    pub(crate) reconnect: Option<ReconnectConfig>,
    pub(crate) auth_provider: Option<AuthProvider>,
    pub(crate) middleware: Vec<Arc<dyn Middleware>>,
    pub(crate) events: Bounds,
}

/// What all handles of one client share.
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) stats: Arc<RuntimeStats>,
    state: Mutex<State>,
    /// Apart from `state`: every send reads it.
    current: RwLock<Current>,
}

struct State {
    consumers: Consumers,
    /// What a closure's registration could not say at once.
    mistake: Option<ConfigError>,
    phase: Phase,
    events: EventSink,
    /// Whether the run of `events` is over.
    finished: bool,
}

enum Phase {
    Idle,
    /// Somebody awaits `connect`.
    Connecting(Run),
    /// The supervisor has a session or dials for one.
    Supervised(Run),
}

/// The session of the moment, and which attempt may say so.
struct Current {
    attempt: u64,
    /// Whether the attempt has had its session.
    opened: bool,
    session: Option<Session>,
    reason: Option<CloseReason>,
}

/// From `connect` to the end, over any number of sessions.
#[derive(Clone)]
pub(crate) struct Run {
    /// Asks everything of this run to end.
    pub(crate) stop: Signal,
    /// Everything of this run has ended.
    pub(crate) ended: Signal,
    pub(crate) events: EventSink,
    service: Arc<dyn Service>,
    timers: Timers,
}

impl Run {
    fn is(&self, other: &Run) -> bool {
        Arc::ptr_eq(&self.ended.0, &other.ended.0)
    }
}

/// Something that happens once.
#[derive(Clone)]
pub(crate) struct Signal(Arc<watch::Sender<bool>>);

impl Signal {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn set(&self) {
        self.0.send_replace(true);
    }

    /// Resolves once it has happened.
    pub(crate) async fn wait(&self) {
        // An error would say that the sender is gone, and `self` is the sender.
        let _ = self.0.subscribe().wait_for(|set| *set).await;
    }
}

/// Who takes what comes in; the rest goes to the event stream.
#[derive(Clone, Default)]
pub(crate) struct Consumers {
    pub(crate) whole: Option<Arc<dyn Service>>,
    pub(crate) messages: Option<Arc<dyn Service>>,
    pub(crate) requests: Option<Arc<dyn Service>>,
}

impl Consumers {
    /// Everything, in the form that sessions take. `false`: two of them take the same.
    fn service(&self, events: &EventSink) -> (Handlers, bool) {
        let mut handlers = Handlers::new(events.clone());
        let mut distinct = true;
        if let Some(service) = &self.whole {
            distinct &= handlers.set_handler(service.clone());
        }
        if let Some(service) = &self.messages {
            distinct &= handlers.set_messages(service.clone());
        }
        if let Some(service) = &self.requests {
            distinct &= handlers.set_requests(service.clone());
        }
        (handlers, distinct)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while a lock is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    pub(crate) fn new(settings: Settings, consumers: Consumers) -> Self {
        let events = EventSink::new(settings.events);
        Self {
            settings,
            stats: Arc::new(RuntimeStats::new("client")),
            state: Mutex::new(State {
                consumers,
                mistake: None,
                phase: Phase::Idle,
                events,
                finished: false,
            }),
            current: RwLock::new(Current {
                attempt: 0,
                opened: false,
                session: None,
                reason: None,
            }),
        }
    }

    fn read<R>(&self, look: impl FnOnce(&Current) -> R) -> R {
        look(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<R>(&self, change: impl FnOnce(&mut Current) -> R) -> R {
        change(&mut self.current.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The URL that is dialled.
    pub(crate) fn endpoint(&self) -> String {
        self.settings.connector.endpoint().to_string()
    }

    /// The session of the moment.
    pub(crate) fn session(&self) -> Option<Session> {
        self.read(|current| current.session.clone())
    }

    /// Why the last session ended, or what a client that never had one says.
    pub(crate) fn absent(&self) -> CloseReason {
        self.close_reason()
            .unwrap_or_else(|| CloseReason::local(Code::NORMAL, "not connected yet"))
    }

    /// Why the session of the moment ends, or the last one has ended.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.read(|current| match &current.session {
            Some(session) => session.close_reason(),
            None => current.reason.clone(),
        })
    }

    /// Adds a consumer of packets.
    pub(crate) fn register(
        &self,
        what: &'static str,
        set: impl FnOnce(&mut Consumers) -> Option<Arc<dyn Service>>,
    ) -> Result<(), ConfigError> {
        let mut state = lock(&self.state);
        let error = if matches!(state.phase, Phase::Idle) {
            let mut consumers = state.consumers.clone();
            let replaced = set(&mut consumers).is_some();
            if !replaced && consumers.service(&state.events).1 {
                state.consumers = consumers;
                return Ok(());
            }
            let why = "something else takes the same packets already";
            let error = ConfigError::new(what, "a closure", why);
            state.mistake.get_or_insert_with(|| error.clone());
            error
        } else {
            ConfigError::new(what, "a closure", "must be set before `connect`")
        };
        Err(error)
    }

    /// The events of this run, or of the next one where this one's have been taken and have ended.
    pub(crate) fn events(&self) -> EventStream {
        let mut state = lock(&self.state);
        if let Some(stream) = state.events.take() {
            return stream;
        }
        if state.finished {
            self.renew_events(&mut state);
        }
        state.events.take().unwrap_or_else(|| {
            let why = "the events of a client are taken once";
            EventStream::failed(ConfigError::new("events", "a second stream", why).into())
        })
    }

    fn renew_events(&self, state: &mut State) {
        state.events = EventSink::new(self.settings.events);
        state.finished = false;
    }

    /// Begins a run, unless there is one.
    pub(crate) fn begin(self: &Arc<Self>) -> Result<Starting, TransportError> {
        let mut state = lock(&self.state);
        if let Some(mistake) = &state.mistake {
            return Err(mistake.clone().into());
        }
        let what = match &state.phase {
            Phase::Idle => None,
            Phase::Connecting(_) => Some("the client is connecting already"),
            Phase::Supervised(_) if self.session().is_some() => {
                Some("the client is connected already")
            }
            Phase::Supervised(_) => Some("the client is reconnecting by itself already"),
        };
        if let Some(what) = what {
            return Err(ConnectError::State { what }.into());
        }
        if state.finished {
            self.renew_events(&mut state);
        }
        let run = Run {
            stop: Signal::new(),
            ended: Signal::new(),
            events: state.events.clone(),
            service: Arc::new(state.consumers.service(&state.events).0),
            timers: Timers::start(),
        };
        state.phase = Phase::Connecting(run.clone());
        Ok(Starting {
            inner: self.clone(),
            run,
        })
    }

    /// Asks the run to end. Returns it where somebody else ends it, to be waited for.
    pub(crate) fn stop(&self) -> Option<Run> {
        let mut state = lock(&self.state);
        match &state.phase {
            Phase::Supervised(run) => {
                run.stop.set();
                return Some(run.clone());
            }
            // Not waited for: the future that connects may be one that nobody polls any more.
            Phase::Connecting(run) => {
                run.stop.set();
                run.ended.set();
                state.phase = Phase::Idle;
                self.write(Current::next);
            }
            Phase::Idle => {}
        }
        state.finished = true;
        state.events.finish();
        None
    }

    /// The run is over.
    pub(crate) fn end(&self, run: &Run) {
        let mut state = lock(&self.state);
        let over = match &state.phase {
            Phase::Supervised(current) => current.is(run),
            Phase::Idle | Phase::Connecting(_) => false,
        };
        if over {
            state.phase = Phase::Idle;
            state.finished = true;
            run.events.finish();
            run.ended.set();
        }
    }

    /// What the next attempt's session is made with. Sessions of earlier attempts no longer count from here on.
    pub(crate) fn runtime(
        self: &Arc<Self>,
        run: &Run,
        auth: Option<Bytes>,
    ) -> (Arc<SessionRuntime>, u64) {
        let attempt = self.write(Current::next);
        let mut config = self.settings.session.clone();
        config.auth = auth;
        let runtime = SessionRuntime {
            config,
            service: run.service.clone(),
            events: run.events.clone(),
            middleware: self.settings.middleware.clone(),
            timers: run.timers.clone(),
            hooks: Arc::new(Hooks {
                inner: self.clone(),
                attempt,
            }),
            stats: self.stats.clone(),
        };
        (Arc::new(runtime), attempt)
    }

    /// `session` is the one of the moment, if `attempt` is. The session's task says so before it tells anybody else, and
    /// whoever dialled says so before it goes on: the first of them counts, so that a session that has ended in between
    /// does not come back.
    pub(crate) fn opened(&self, attempt: u64, session: &Session) -> bool {
        self.write(|current| {
            let counts = current.attempt == attempt;
            if counts && !current.opened {
                current.opened = true;
                current.session = Some(session.clone());
                current.reason = None;
            }
            counts
        })
    }
}

impl Current {
    fn next(&mut self) -> u64 {
        self.attempt += 1;
        self.opened = false;
        self.attempt
    }
}

/// A `connect` under way; dropped before it has succeeded, it leaves the client as it was.
pub(crate) struct Starting {
    inner: Arc<Inner>,
    pub(crate) run: Run,
}

impl Starting {
    /// Hands the run on to its supervisor. `false`: it was stopped meanwhile.
    pub(crate) fn succeed(self) -> bool {
        let mut state = lock(&self.inner.state);
        let ours = matches!(&state.phase, Phase::Connecting(run) if run.is(&self.run));
        if ours {
            state.phase = Phase::Supervised(self.run.clone());
        }
        ours
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let mut state = lock(&self.inner.state);
        if matches!(&state.phase, Phase::Connecting(run) if run.is(&self.run)) {
            state.phase = Phase::Idle;
        }
    }
}

/// One attempt's view of the client: its session becomes the session of the moment, unless a later attempt has begun.
struct Hooks {
    inner: Arc<Inner>,
    attempt: u64,
}

impl SessionHooks for Hooks {
    fn admit(&self, _: &Session) -> Result<(), Refusal> {
        Ok(())
    }

    // Before the event: who reads of the session can use the client.
    fn opened(&self, session: &Session) {
        if !self.inner.opened(self.attempt, session) {
            session.close(Code::NORMAL, "");
        }
    }

    fn closed(&self, session: &Session, reason: &CloseReason) {
        self.inner.write(|current| {
            if current.session.as_ref() == Some(session) {
                current.session = None;
                current.reason = Some(reason.clone());
            }
        });
    }

    fn address_limiter(&self, _: &Session) -> Option<Arc<RateLimiter>> {
        None
    }
}
