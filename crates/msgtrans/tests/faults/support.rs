//! Servers and clients of every network protocol, and a runtime with a deadline.

use std::future::Future;
use std::sync::OnceLock;
use std::time::Duration;

use msgtrans::tls::{ClientTls, Identity, ServerTls};
use msgtrans::{
    QuicClientConfig, QuicServerConfig, TcpClientConfig, TcpServerConfig, TransportClient,
    TransportClientBuilder, TransportServer, TransportServerBuilder, WebSocketClientConfig,
    WebSocketServerConfig,
};
use tokio::time::timeout;

/// Far more than any test needs on a loaded machine without optimisation: what takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(100);

/// Runs a test on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let done = timeout(DEADLINE, test).await;
        done.expect("hangs: not done in time");
    });
}

/// One certificate for all tests: it takes time to make.
pub(crate) fn identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY
        .get_or_init(|| Identity::development().expect("a certificate"))
        .clone()
}

/// The protocols with a wire below them.
pub(crate) const SCHEMES: [&str; 5] = ["tcp", "tls", "ws", "wss", "quic"];

/// Listens on a free port.
pub(crate) fn listen(builder: TransportServerBuilder, scheme: &str) -> TransportServerBuilder {
    let tls = || ServerTls::new(identity());
    let any = "127.0.0.1:0";
    match scheme {
        "tls" => builder.with_protocol(TcpServerConfig::new(any).tls(tls())),
        "wss" => builder.with_protocol(WebSocketServerConfig::new(any).tls(tls())),
        "quic" => builder.with_protocol(QuicServerConfig::new(any).with_identity(identity())),
        scheme => builder.with_protocol(format!("{scheme}://{any}").as_str()),
    }
}

/// Builds and starts.
pub(crate) async fn start(builder: TransportServerBuilder) -> TransportServer {
    let server = builder.build().await.expect("bound");
    server.start().expect("the first start");
    server
}

/// Where the only listener is.
pub(crate) fn address(server: &TransportServer) -> String {
    let port = server.local_endpoints()[0].port().expect("a port");
    format!("127.0.0.1:{port}")
}

/// A client of `server`, which listens on the protocol of `scheme` alone.
pub(crate) fn dial(server: &TransportServer, scheme: &str) -> TransportClientBuilder {
    let builder = TransportClient::builder().auto_reconnect(false);
    let (to, pin) = (address(server), identity().spki_pin());
    let tls = || ClientTls::new().pin(pin);
    match scheme {
        "tls" => builder.with_protocol(TcpClientConfig::new(to).tls(tls())),
        "wss" => builder.with_protocol(WebSocketClientConfig::new(to).tls(tls())),
        "quic" => builder.with_protocol(QuicClientConfig::new(to).with_pin(pin)),
        scheme => builder.with_protocol(format!("{scheme}://{to}").as_str()),
    }
}

/// Builds and connects.
pub(crate) async fn connect(builder: TransportClientBuilder) -> TransportClient {
    let client = builder.build().await.expect("valid");
    client.connect().await.expect("connected");
    client
}
