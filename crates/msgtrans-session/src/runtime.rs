//! [`SessionRuntime`]: what all sessions of one server or client share.

use std::sync::Arc;

use msgtrans_actor::Timers;
use msgtrans_core::{CloseReason, SessionId, TransportError};

use crate::config::SessionConfig;
use crate::events::{EventHandler, EventSink, TransportEvent};
use crate::handler::{ConnectRequest, Refusal};
use crate::middleware::Middleware;
use crate::rate_limit::RateLimiter;
use crate::service::{BoxFuture, LaneFuture, Service, service};
use crate::session::Session;
use crate::stats::RuntimeStats;

/// What a server or client wants to know of its sessions.
pub trait SessionHooks: Send + Sync + 'static {
    /// A session is about to open: admission. One that is admitted has its place until [`left`](Self::left), also while
    /// the handler still decides about it.
    ///
    /// # Errors
    /// Refuses it.
    fn admit(&self, session: &Session) -> Result<(), Refusal>;

    /// A session that was admitted needs its place no longer: it has ended, or never opened. Comes once.
    fn left(&self, session: &Session) {
        let _ = session;
    }

    /// A session is open; from here on it can be sent to.
    fn opened(&self, session: &Session);

    /// A session that was open has ended.
    fn closed(&self, session: &Session, reason: &CloseReason);

    /// The limiter that all sessions of this session's address share.
    fn address_limiter(&self, session: &Session) -> Option<Arc<RateLimiter>>;
}

/// What all sessions of one server or client share.
pub struct SessionRuntime {
    /// Bounds and deadlines.
    pub config: SessionConfig,
    /// The user's code.
    pub service: Arc<dyn Service>,
    /// The event stream.
    pub events: EventSink,
    /// What every packet passes.
    pub middleware: Vec<Arc<dyn Middleware>>,
    /// The wheel.
    pub timers: Timers,
    /// Who keeps the sessions.
    pub hooks: Arc<dyn SessionHooks>,
    /// What is counted.
    pub stats: Arc<RuntimeStats>,
}

impl SessionRuntime {
    pub(crate) fn events_error(&self, session: SessionId, error: TransportError) {
        self.events.tell(TransportEvent::Error {
            session_id: Some(session),
            error,
        });
    }
}

impl std::fmt::Debug for SessionRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRuntime")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The user's code in its parts: a closure takes its kind of event, the rest goes to the event stream.
#[derive(Clone)]
pub struct Handlers {
    /// Decides about peers and hears of ends; whole handlers only.
    whole: Option<Arc<dyn Service>>,
    messages: Option<Arc<dyn Service>>,
    requests: Option<Arc<dyn Service>>,
    events: Arc<dyn Service>,
}

impl Handlers {
    /// Everything goes to the event stream.
    pub fn new(events: EventSink) -> Self {
        Self {
            whole: None,
            messages: None,
            requests: None,
            events: service(EventHandler { sink: events }),
        }
    }

    /// A handler takes everything. `false`: something was set already.
    pub fn set_handler(&mut self, handler: Arc<dyn Service>) -> bool {
        let free = self.whole.is_none() && self.messages.is_none() && self.requests.is_none();
        if free {
            self.whole = Some(handler);
        }
        free
    }

    /// A closure takes messages. `false`: something takes them already.
    pub fn set_messages(&mut self, handler: Arc<dyn Service>) -> bool {
        let free = self.whole.is_none() && self.messages.is_none();
        if free {
            self.messages = Some(handler);
        }
        free
    }

    /// A closure takes requests. `false`: something takes them already.
    pub fn set_requests(&mut self, handler: Arc<dyn Service>) -> bool {
        let free = self.whole.is_none() && self.requests.is_none();
        if free {
            self.requests = Some(handler);
        }
        free
    }
}

impl Service for Handlers {
    fn connect<'a>(
        &'a self,
        session: &'a Session,
        request: &'a ConnectRequest,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        self.whole
            .as_ref()
            .unwrap_or(&self.events)
            .connect(session, request)
    }

    fn messages(&self, session: Session) -> LaneFuture {
        self.whole
            .as_ref()
            .or(self.messages.as_ref())
            .unwrap_or(&self.events)
            .messages(session)
    }

    fn requests(&self, session: Session) -> LaneFuture {
        self.whole
            .as_ref()
            .or(self.requests.as_ref())
            .unwrap_or(&self.events)
            .requests(session)
    }

    fn events_take_messages(&self) -> bool {
        self.whole.is_none() && self.messages.is_none()
    }

    fn disconnect(&self, session: Session, reason: CloseReason) -> LaneFuture {
        self.whole
            .as_ref()
            .unwrap_or(&self.events)
            .disconnect(session, reason)
    }
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handlers")
            .field("whole", &self.whole.is_some())
            .field("messages", &self.messages.is_some())
            .field("requests", &self.requests.is_some())
            .finish_non_exhaustive()
    }
}
