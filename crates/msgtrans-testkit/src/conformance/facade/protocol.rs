//! [`Protocol`]: the protocol under test, as servers and clients of the public interface meet it.

use std::sync::Arc;
use std::time::Duration;

use msgtrans::custom;
use msgtrans_core::{
    BindError, ConfigError, ConnectError, Features, Hello, Limits, SessionId, Welcome, WireVersion,
    WireVersions,
};
use msgtrans_transport::{
    BoxFuture, Connection, Connector, DialContext, Endpoint, ListenContext, Listener,
    ProtocolConfig, Schemes, ServerProtocol,
};

use crate::capabilities::Capabilities;
use crate::peer::{Peer, accept};

pub(super) type TransportServer = custom::TransportServer<NoUrls>;
pub(super) type TransportServerBuilder = custom::TransportServerBuilder<NoUrls>;
pub(super) type TransportClient = custom::TransportClient<NoUrls>;
pub(super) type TransportClientBuilder = custom::TransportClientBuilder<NoUrls>;

/// The shortest that there is.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);

/// What each case gets.
#[derive(Clone)]
pub(super) struct Protocol {
    pub(super) capabilities: Capabilities,
    pub(super) listen: Arc<dyn Fn() -> String + Send + Sync>,
    pub(super) server: fn(&Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError>,
    pub(super) connector: fn(&Endpoint) -> Result<Box<dyn Connector>, ConfigError>,
    pub(super) thread_per_core: Option<usize>,
}

impl Protocol {
    /// Where the next listener may listen.
    pub(super) fn url(&self) -> Endpoint {
        let url = (self.listen)();
        Endpoint::parse(&url).expect("`listen` gives a URL")
    }

    /// A configuration that listens at `endpoint`.
    pub(super) fn at(&self, endpoint: &Endpoint) -> Listens {
        Listens((self.server)(endpoint).expect("the table knows the protocol's URLs"))
    }

    /// A configuration that dials `endpoint`.
    pub(super) fn to(&self, endpoint: &Endpoint) -> Dials {
        Dials((self.connector)(endpoint).expect("what a listener says can be dialled"))
    }

    /// A server that will listen on this protocol alone.
    pub(super) fn server(&self) -> TransportServerBuilder {
        self.server_at(&self.url())
    }

    /// A server that will listen at `endpoint` alone.
    pub(super) fn server_at(&self, endpoint: &Endpoint) -> TransportServerBuilder {
        let builder = TransportServer::builder().with_protocol(self.at(endpoint));
        match self.thread_per_core {
            Some(threads) => builder.thread_per_core(threads),
            None => builder,
        }
    }

    /// Whether so many of `all` requests may have been timed: each, and where packets change hands in process one in eight
    /// of those that went past the session's task.
    pub(super) fn may_time(&self, timed: u64, all: u64) -> bool {
        let least = if self.capabilities.bytes {
            all
        } else {
            all / 8
        };
        (least..=all).contains(&timed)
    }

    /// A client that will dial `endpoint` and stay away when it is lost.
    pub(super) fn dial(&self, endpoint: &Endpoint) -> TransportClientBuilder {
        TransportClient::builder()
            .auto_reconnect(false)
            .with_protocol(self.to(endpoint))
    }

    /// A client of the first of `server`'s listeners.
    pub(super) fn client(&self, server: &TransportServer) -> TransportClientBuilder {
        self.dial(&server.local_endpoints()[0])
    }

    /// A client that is connected.
    pub(super) async fn connected(&self, server: &TransportServer) -> TransportClient {
        connect(self.client(server)).await
    }

    /// A peer of `server` that does only what it is told, before any word of the session.
    pub(super) async fn peer(&self, server: &TransportServer) -> Result<Peer, ConnectError> {
        let limits = Limits::default();
        let connector = self.to(&server.local_endpoints()[0]);
        let context = DialContext::new(WireVersions::V2, limits);
        let mut peer = Peer::new(connector.connect(&context).await?, WireVersion::V2);
        peer.set_wire(limits);
        Ok(peer)
    }

    /// A peer that does only what it is told, once its handshake is done, and the id of its session.
    pub(super) async fn opened(&self, server: &TransportServer) -> (Peer, SessionId) {
        let mut peer = self.peer(server).await.expect("a listener");
        let hello = Hello {
            heartbeat: HEARTBEAT,
            ..Hello::default()
        };
        peer.send(hello.to_packet()).await.expect("sent");
        let welcome = peer.expect().await.expect("a frame");
        let welcome = Welcome::from_packet(&welcome).expect("a Welcome");
        (peer, welcome.session)
    }

    /// A listener without a server behind it.
    pub(super) async fn listener(&self) -> Box<dyn Listener> {
        let context = ListenContext::new(WireVersions::V2, Limits::default());
        let config = self.at(&self.url());
        config.bind(&context).await.expect("bound")
    }
}

/// The next client of `listener`, greeted as a server does; from here on it is told nothing.
pub(super) async fn welcome(listener: &mut dyn Listener) -> Peer {
    let connection = accept(listener).await.expect("a client");
    let mut peer = Peer::new(connection, WireVersion::V2);
    let hello = peer.expect().await.expect("a frame");
    let hello = Hello::from_packet(&hello).expect("a Hello");
    peer.set_wire(Limits::default());
    let welcome = Welcome {
        max_frame: Limits::default().max_frame(),
        features: Features::NONE,
        heartbeat: hello.heartbeat,
        session: SessionId::new(1),
        agent: None,
        resume: None,
        resumed: None,
        replay_bytes: 0,
    };
    peer.send(welcome.to_packet()).await.expect("sent");
    peer
}

/// Builds and connects.
pub(super) async fn connect(builder: TransportClientBuilder) -> TransportClient {
    let client = builder.build().await.expect("valid");
    client.connect().await.expect("connected");
    client
}

/// Builds and starts.
pub(super) async fn start(builder: TransportServerBuilder) -> TransportServer {
    let server = builder.build().await.expect("bound");
    server.start().expect("the first start");
    server
}

/// The table of the suite's own servers and clients, which are given configurations: compiled once, not once for each
/// table under test.
#[derive(Debug)]
pub(super) struct NoUrls;

impl Schemes for NoUrls {
    fn server(endpoint: &Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError> {
        Err(no_url(endpoint))
    }

    fn connector(endpoint: &Endpoint) -> Result<Box<dyn Connector>, ConfigError> {
        Err(no_url(endpoint))
    }
}

fn no_url(endpoint: &Endpoint) -> ConfigError {
    ConfigError::new("endpoint", endpoint, "the suite gives configurations")
}

/// A configuration whose type is not known here.
#[derive(Debug)]
pub(super) struct Listens(Box<dyn ServerProtocol>);

impl ProtocolConfig for Listens {
    fn endpoint(&self) -> Endpoint {
        self.0.endpoint()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.0.validate()
    }
}

impl ServerProtocol for Listens {
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        self.0.bind(context)
    }

    fn wire(&self) -> Option<WireVersions> {
        self.0.wire()
    }
}

/// A configuration whose type is not known here.
#[derive(Debug)]
pub(super) struct Dials(Box<dyn Connector>);

impl ProtocolConfig for Dials {
    fn endpoint(&self) -> Endpoint {
        self.0.endpoint()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.0.validate()
    }
}

impl Connector for Dials {
    fn connect<'a>(
        &'a self,
        context: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        self.0.connect(context)
    }

    fn wire(&self) -> Option<WireVersions> {
        self.0.wire()
    }
}
