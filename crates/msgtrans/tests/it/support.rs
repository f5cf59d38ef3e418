//! What these tests share: servers and clients of every protocol, deadlines, recorders.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use msgtrans::{
    Endpoint, QuicClientConfig, QuicServerConfig, TransportClient, TransportClientBuilder,
    TransportServer, TransportServerBuilder,
};
use tokio::time::timeout;

use crate::conformance::identity;

pub(crate) use msgtrans_testkit::sessions::{
    Log, OnDrop, next_close, next_message, only_session, until,
};

/// Far more than any test needs on a loaded machine without optimisation: what takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a test on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    run_for_long(async {
        timeout(DEADLINE, test)
            .await
            .expect("hangs: not done in time");
    });
}

/// Runs what has deadlines of its own.
pub(crate) fn run_for_long<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test)
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

/// Protocols that every build of these tests has.
pub(crate) const ALL: [Protocol; 4] = [
    Protocol::Tcp,
    Protocol::Ws,
    Protocol::Quic,
    Protocol::Inproc,
];

/// What a test runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Ws,
    Quic,
    Inproc,
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
