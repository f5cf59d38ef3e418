//! The server of these tests: a listener, sessions made by `accept`, and what they tell.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use msgtrans_actor::{Bounds, Timers};
use msgtrans_client::{TransportClient, TransportClientBuilder};
use msgtrans_core::{
    CloseReason, ConfigError, HandlerError, Limits, Meta, Packet, SessionId, WireVersions,
};
use msgtrans_inproc::{InprocClientConfig, InprocServerConfig};
use msgtrans_session::{
    Accepted, ConnectRequest, EventSink, EventStream, Handler, RateLimiter, Refusal, RuntimeStats,
    Session, SessionConfig, SessionHooks, SessionRuntime, TransportEvent, accept, service,
};
use msgtrans_tcp::{TcpClientConfig, TcpServerConfig};
use msgtrans_transport::{
    Connector, Endpoint, Incoming, ListenContext, Listener, Schemes, ServerProtocol,
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout};

/// The URLs of these tests.
pub(crate) struct Table;

impl Schemes for Table {
    fn server(endpoint: &Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError> {
        match endpoint.scheme() {
            "inproc" => Ok(Box::new(InprocServerConfig::from_endpoint(endpoint)?)),
            "tcp" => Ok(Box::new(TcpServerConfig::from_endpoint(endpoint)?)),
            other => Err(ConfigError::new("scheme", other, "must be inproc or tcp")),
        }
    }

    fn connector(endpoint: &Endpoint) -> Result<Box<dyn Connector>, ConfigError> {
        match endpoint.scheme() {
            "inproc" => Ok(Box::new(InprocClientConfig::from_endpoint(endpoint)?)),
            "tcp" => Ok(Box::new(TcpClientConfig::from_endpoint(endpoint)?)),
            other => Err(ConfigError::new("scheme", other, "must be inproc or tcp")),
        }
    }
}

pub(crate) type Client = TransportClient<Table>;
pub(crate) type Builder = TransportClientBuilder<Table>;

/// What the server's side sees.
#[derive(Debug)]
pub(crate) enum Seen {
    Opened(Session),
    Closed(CloseReason),
    Message(Packet),
    /// A request to hang has begun.
    Hanging,
    /// Its future was dropped.
    Dropped,
}

struct Hooks(UnboundedSender<Seen>);

impl SessionHooks for Hooks {
    fn admit(&self, _: &Session) -> Result<(), Refusal> {
        Ok(())
    }

    fn opened(&self, session: &Session) {
        let _ = self.0.send(Seen::Opened(session.clone()));
    }

    fn closed(&self, _: &Session, reason: &CloseReason) {
        let _ = self.0.send(Seen::Closed(reason.clone()));
    }

    fn address_limiter(&self, _: &Session) -> Option<Arc<RateLimiter>> {
        None
    }
}

struct Business {
    seen: UnboundedSender<Seen>,
    refusals: Arc<Mutex<VecDeque<Refusal>>>,
    presented: Arc<Mutex<Vec<Option<bytes::Bytes>>>>,
}

struct OnDrop(UnboundedSender<Seen>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Seen::Dropped);
    }
}

impl Handler for Business {
    async fn on_connect(&self, _: &Session, request: &ConnectRequest) -> Result<(), Refusal> {
        self.presented
            .lock()
            .expect("lock")
            .push(request.auth.clone());
        match self.refusals.lock().expect("lock").pop_front() {
            Some(refusal) => Err(refusal),
            None => Ok(()),
        }
    }

    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        let _ = self.seen.send(Seen::Message(packet.clone()));
        session
            .send(Packet::echo(packet.message_id, packet.payload))
            .await?;
        Ok(())
    }

    async fn on_request(&self, session: &Session, request: Packet) -> Result<Packet, HandlerError> {
        if request.payload.as_ref() == b"hang" {
            let _guard = OnDrop(self.seen.clone());
            let _ = self.seen.send(Seen::Hanging);
            std::future::pending::<()>().await;
        }
        if request.payload.as_ref() == b"burst" {
            let mut keyed = Meta::new();
            keyed.key = Some(bytes::Bytes::from_static(b"key"));
            for number in 0..BURST {
                let packet = Packet::binary(number.to_be_bytes().to_vec());
                // Each fourth one is none of those to which nothing is to be done.
                let packet = match number % 4 {
                    0 => packet.with_meta(keyed.clone()),
                    _ => packet,
                };
                session.send(packet).await?;
            }
        }
        Ok(Packet::response(request.payload))
    }
}

/// Messages in front of the answer to "burst".
pub(crate) const BURST: u32 = 10;

/// A server that listens until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    seen: UnboundedReceiver<Seen>,
    /// Each refuses one session to come.
    pub(crate) refusals: Arc<Mutex<VecDeque<Refusal>>>,
    /// The tokens that were presented.
    pub(crate) presented: Arc<Mutex<Vec<Option<bytes::Bytes>>>>,
    tasks: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
    accepting: tokio::task::JoinHandle<()>,
    pub(crate) accepted: Arc<AtomicU32>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

impl Server {
    /// In process, under a name of its own.
    pub(crate) async fn inproc() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = NEXT.fetch_add(1, Ordering::Relaxed);
        Self::start(&format!("inproc://client-test-{name}")).await
    }

    pub(crate) async fn tcp() -> Self {
        Self::start("tcp://127.0.0.1:0").await
    }

    pub(crate) async fn start(url: &str) -> Self {
        let protocol = Table::server(&Endpoint::parse(url).expect("url")).expect("protocol");
        let context = ListenContext::new(WireVersions::Any, Limits::default());
        let mut listener = protocol.bind(&context).await.expect("bind");
        let (sender, seen) = mpsc::unbounded_channel();
        let refusals = Arc::new(Mutex::new(VecDeque::new()));
        let presented = Arc::new(Mutex::new(Vec::new()));
        let mut config = SessionConfig::default();
        config.requests_handled_max = 1024;
        let runtime = Arc::new(SessionRuntime {
            config,
            service: service(Business {
                seen: sender.clone(),
                refusals: refusals.clone(),
                presented: presented.clone(),
            }),
            events: EventSink::new(Bounds {
                items: 64,
                bytes: 65_536,
            }),
            middleware: Vec::new(),
            timers: Timers::start(),
            hooks: Arc::new(Hooks(sender)),
            stats: Arc::new(RuntimeStats::new("server")),
        });
        let url = listener.local_endpoint().to_string();
        let tasks = Arc::new(Mutex::new(Vec::new()));
        let accepted = Arc::new(AtomicU32::new(0));
        let (sessions, count) = (tasks.clone(), accepted.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let connection = match next(&mut *listener).await {
                    Incoming::Connection(connection) => connection,
                    Incoming::Handshake { handshake, .. } => handshake.await.expect("handshake"),
                };
                let id = count.fetch_add(1, Ordering::Relaxed) + 1;
                let accepted = Accepted {
                    connection,
                    id: SessionId::new(u64::from(id)),
                    wire: WireVersions::Any,
                    since: Instant::now(),
                    permit: None,
                };
                let task = tokio::spawn(accept(runtime.clone(), accepted));
                sessions.lock().expect("lock").push(task);
            }
        });
        Self {
            url,
            seen,
            refusals,
            presented,
            tasks,
            accepting,
            accepted,
        }
    }

    /// Every connection is lost without a word.
    pub(crate) fn cut(&self) {
        for task in self.tasks.lock().expect("lock").drain(..) {
            task.abort();
        }
    }

    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.refusals.lock().expect("lock").push_back(refusal);
    }

    pub(crate) async fn seen(&mut self) -> Seen {
        soon(self.seen.recv()).await.expect("the server lives")
    }

    pub(crate) async fn opened(&mut self) -> Session {
        match self.seen().await {
            Seen::Opened(session) => session,
            other => panic!("{other:?} instead of Opened"),
        }
    }

    /// The next end of a session, whatever is seen before it.
    pub(crate) async fn closed(&mut self) -> CloseReason {
        loop {
            if let Seen::Closed(reason) = self.seen().await {
                return reason;
            }
        }
    }

    pub(crate) fn builder(&self) -> Builder {
        Builder::new().with_protocol(&self.url)
    }

    /// A client that is connected.
    pub(crate) async fn client(&mut self) -> (Client, Session) {
        let client = self.builder().build().await.expect("valid");
        client.connect().await.expect("connected");
        let session = self.opened().await;
        (client, session)
    }
}

async fn next(listener: &mut dyn Listener) -> Incoming {
    poll_fn(|cx| listener.poll_accept(cx))
        .await
        .expect("accept")
}

/// Bounds a wait: what hangs fails. An hour where time is paused, and never reached where it is not.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future)
        .await
        .expect("in time")
}

pub(crate) async fn event(events: &mut EventStream) -> TransportEvent {
    soon(events.next()).await.expect("an event")
}

/// The rest of a stream that ends.
pub(crate) async fn rest(events: &mut EventStream) -> Vec<String> {
    let mut names = Vec::new();
    soon(async {
        while let Some(event) = events.next().await {
            names.push(name(&event).to_owned());
        }
    })
    .await;
    names
}

pub(crate) fn name(event: &TransportEvent) -> &'static str {
    match event {
        TransportEvent::ConnectionEstablished { .. } => "established",
        TransportEvent::ConnectionClosed { .. } => "closed",
        TransportEvent::MessageReceived { .. } => "message",
        TransportEvent::RequestReceived { .. } => "request",
        TransportEvent::Reconnecting { .. } => "reconnecting",
        TransportEvent::GoingAway { .. } => "going away",
        TransportEvent::Error { .. } => "error",
        _ => "other",
    }
}

/// Lets paused time pass while every task runs.
pub(crate) async fn pass_time(time: Duration) {
    let nothing = timeout(time, std::future::pending::<()>()).await;
    assert!(nothing.is_err());
}
