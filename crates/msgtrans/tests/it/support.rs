//! What these tests share: servers and clients of every protocol, deadlines, recorders.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use msgtrans::tls::Identity;
use msgtrans::{
    CloseReason, Endpoint, EventStream, Packet, QuicClientConfig, QuicServerConfig, Session,
    TransportClient, TransportClientBuilder, TransportEvent, TransportServer,
    TransportServerBuilder,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

/// Far more than any test needs on a loaded machine without optimisation: what takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a test on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    within_deadline(&runtime, test);
}

/// Runs a test on one thread whose clock jumps to the next timer whenever nothing else is to be done. In process only:
/// a clock does not wait for a socket.
pub(crate) fn run_paused(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(test);
}

fn within_deadline(runtime: &Runtime, test: impl Future<Output = ()>) {
    runtime.block_on(async {
        timeout(DEADLINE, test)
            .await
            .expect("hangs: not done in time");
    });
}

/// Makes one test a protocol of each case.
macro_rules! over_every_protocol {
    ($($case:ident),* $(,)?) => {$(
        mod $case {
            use crate::support::{Protocol, run};

            #[test]
            fn tcp() {
                run(super::$case(Protocol::Tcp));
            }

            #[test]
            fn ws() {
                run(super::$case(Protocol::Ws));
            }

            #[test]
            fn quic() {
                run(super::$case(Protocol::Quic));
            }

            #[test]
            fn inproc() {
                run(super::$case(Protocol::Inproc));
            }
        }
    )*};
}
pub(crate) use over_every_protocol;

/// What a test runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Ws,
    Quic,
    Inproc,
}

/// One certificate for all tests: it takes time to make.
fn identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY
        .get_or_init(|| Identity::development().expect("a certificate"))
        .clone()
}

/// A name that nobody listens under.
pub(crate) fn inproc_url() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("inproc://facade-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Protocol {
    /// A server that will listen on this protocol alone.
    pub(crate) fn server(self) -> TransportServerBuilder {
        self.listen(TransportServer::builder())
    }

    /// Adds a listener on a free port or under a fresh name.
    pub(crate) fn listen(self, builder: TransportServerBuilder) -> TransportServerBuilder {
        match self {
            Self::Tcp => builder.with_protocol("tcp://127.0.0.1:0"),
            Self::Ws => builder.with_protocol("ws://127.0.0.1:0"),
            Self::Quic => builder
                .with_protocol(QuicServerConfig::new("127.0.0.1:0").with_identity(identity())),
            Self::Inproc => builder.with_protocol(inproc_url()),
        }
    }

    /// A client that will dial `endpoint` and stay away when it is lost.
    pub(crate) fn dial(self, endpoint: &Endpoint) -> TransportClientBuilder {
        let builder = TransportClient::builder().auto_reconnect(false);
        if self == Self::Quic {
            let address = format!("127.0.0.1:{}", endpoint.port().expect("a port"));
            builder.with_protocol(QuicClientConfig::new(address).with_pin(identity().spki_pin()))
        } else {
            builder.with_protocol(endpoint.clone())
        }
    }

    /// A client of `server`, which listens on this protocol alone.
    pub(crate) fn client(self, server: &TransportServer) -> TransportClientBuilder {
        self.dial(&server.local_endpoints()[0])
    }

    /// A client that is connected.
    pub(crate) async fn connected(self, server: &TransportServer) -> TransportClient {
        connect(self.client(server)).await
    }
}

/// Builds and connects.
pub(crate) async fn connect(builder: TransportClientBuilder) -> TransportClient {
    let client = builder.build().await.expect("valid");
    client.connect().await.expect("connected");
    client
}

/// Builds and starts.
pub(crate) async fn start(builder: TransportServerBuilder) -> TransportServer {
    let server = builder.build().await.expect("bound");
    server.start().expect("the first start");
    server
}

/// The server's side of the only session.
pub(crate) async fn only_session(server: &TransportServer) -> Session {
    loop {
        if let Some(id) = server.active_sessions().await.first()
            && let Some(session) = server.session(*id)
        {
            return session;
        }
        tokio::task::yield_now().await;
    }
}

/// Yields until `done`; bounded by the test's own deadline.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

/// What handlers leave for a test.
pub(crate) struct Log<T>(UnboundedSender<T>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Log<T> {
    pub(crate) fn new() -> (Self, UnboundedReceiver<T>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub(crate) fn put(&self, what: T) {
        // A test that has ended hears no more.
        let _ = self.0.send(what);
    }
}

/// Says when it is dropped.
pub(crate) struct OnDrop(pub(crate) Log<&'static str>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.put("dropped");
    }
}

/// The next message; what else happens is passed over.
pub(crate) async fn next_message(events: &mut EventStream) -> Packet {
    loop {
        match events.next().await.expect("an event") {
            TransportEvent::MessageReceived { packet, .. } => return packet,
            TransportEvent::ConnectionClosed { reason, .. } => panic!("closed: {reason}"),
            _ => {}
        }
    }
}

/// How the next session that ends has ended; what else happens is passed over.
pub(crate) async fn next_close(events: &mut EventStream) -> CloseReason {
    loop {
        if let TransportEvent::ConnectionClosed { reason, .. } =
            events.next().await.expect("an event")
        {
            return reason;
        }
    }
}
