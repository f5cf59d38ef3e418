//! [`Path`]: a server, a bad network in front of it, and clients that dial through it.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use msgtrans::tls::Identity;
use msgtrans::{
    QuicClientConfig, QuicServerConfig, TransportClient, TransportClientBuilder, TransportServer,
    TransportServerBuilder,
};
#[cfg(feature = "tls")]
use msgtrans::{
    TcpClientConfig, TcpServerConfig, WebSocketClientConfig, WebSocketServerConfig, tls,
};
use msgtrans_testkit::chaos::{DatagramProxy, Direction, StreamProxy};

/// What takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(100);

/// Runs a test on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(DEADLINE, test)
            .await
            .expect("hangs: not done in time");
    });
}

/// Makes one test a protocol of each case, of the protocols over TCP or of all.
macro_rules! over {
    (tcp: $($case:ident),* $(,)?) => {
        $(mod $case { crate::path::over!(@streams $case); })*
    };
    (all: $($case:ident),* $(,)?) => {$(
        mod $case {
            crate::path::over!(@streams $case);

            #[test]
            fn quic() {
                crate::path::run(super::$case(crate::path::Protocol::Quic));
            }
        }
    )*};
    (@streams $case:ident) => {
        #[test]
        fn tcp() {
            crate::path::run(super::$case(crate::path::Protocol::Tcp));
        }

        #[test]
        fn ws() {
            crate::path::run(super::$case(crate::path::Protocol::Ws));
        }

        #[cfg(feature = "tls")]
        #[test]
        fn tls() {
            crate::path::run(super::$case(crate::path::Protocol::Tls));
        }

        #[cfg(feature = "tls")]
        #[test]
        fn wss() {
            crate::path::run(super::$case(crate::path::Protocol::Wss));
        }
    };
}
pub(crate) use over;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Ws,
    #[cfg(feature = "tls")]
    Tls,
    #[cfg(feature = "tls")]
    Wss,
    Quic,
}

/// One certificate for all tests: it takes time to make.
fn identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY
        .get_or_init(|| Identity::development().expect("a certificate"))
        .clone()
}

impl Protocol {
    pub(crate) const ALL: &[Self] = &[
        Self::Tcp,
        Self::Ws,
        #[cfg(feature = "tls")]
        Self::Tls,
        #[cfg(feature = "tls")]
        Self::Wss,
        Self::Quic,
    ];

    /// A server that will listen on this protocol alone.
    pub(crate) fn server(self) -> TransportServerBuilder {
        let builder = TransportServer::builder();
        let any = "127.0.0.1:0";
        match self {
            Self::Tcp => builder.with_protocol("tcp://127.0.0.1:0"),
            Self::Ws => builder.with_protocol("ws://127.0.0.1:0"),
            #[cfg(feature = "tls")]
            Self::Tls => builder
                .with_protocol(TcpServerConfig::new(any).tls(tls::ServerTls::new(identity()))),
            #[cfg(feature = "tls")]
            Self::Wss => builder.with_protocol(
                WebSocketServerConfig::new(any).tls(tls::ServerTls::new(identity())),
            ),
            Self::Quic => {
                builder.with_protocol(QuicServerConfig::new(any).with_identity(identity()))
            }
        }
    }

    /// A client that will dial this port, and stay away when it is lost.
    pub(crate) fn dial(self, port: u16) -> TransportClientBuilder {
        let builder = TransportClient::builder().auto_reconnect(false);
        let address = format!("127.0.0.1:{port}");
        #[cfg(feature = "tls")]
        let trust = || tls::ClientTls::new().pin(identity().spki_pin());
        match self {
            Self::Tcp => builder.with_protocol(format!("tcp://{address}").as_str()),
            Self::Ws => builder.with_protocol(format!("ws://{address}").as_str()),
            #[cfg(feature = "tls")]
            Self::Tls => builder.with_protocol(TcpClientConfig::new(address).tls(trust())),
            #[cfg(feature = "tls")]
            Self::Wss => builder.with_protocol(WebSocketClientConfig::new(address).tls(trust())),
            Self::Quic => builder
                .with_protocol(QuicClientConfig::new(address).with_pin(identity().spki_pin())),
        }
    }
}

/// The network between clients and the server.
pub(crate) enum Network {
    Stream(StreamProxy),
    Datagram(DatagramProxy),
}

impl Network {
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::Stream(proxy) => proxy.address().port(),
            Self::Datagram(proxy) => proxy.address().port(),
        }
    }

    pub(crate) fn blackhole(&self, direction: Direction, on: bool) {
        match self {
            Self::Stream(proxy) => proxy.change(direction, |faults| faults.blackhole = on),
            Self::Datagram(proxy) => proxy.change(direction, |faults| faults.blackhole = on),
        }
    }

    pub(crate) fn narrow(&self, direction: Direction, bytes_per_second: u64) {
        let rate = bytes_per_second.try_into().ok();
        match self {
            Self::Stream(proxy) => proxy.change(direction, |faults| faults.bytes_per_second = rate),
            Self::Datagram(proxy) => {
                proxy.change(direction, |faults| faults.bytes_per_second = rate);
            }
        }
    }

    pub(crate) fn lengthen(&self, direction: Direction, latency: Duration) {
        match self {
            Self::Stream(proxy) => proxy.change(direction, |faults| faults.latency = latency),
            Self::Datagram(proxy) => proxy.change(direction, |faults| faults.latency = latency),
        }
    }

    pub(crate) fn stream(&self) -> &StreamProxy {
        match self {
            Self::Stream(proxy) => proxy,
            Self::Datagram(_) => panic!("a datagram proxy"),
        }
    }

    pub(crate) fn datagram(&self) -> &DatagramProxy {
        match self {
            Self::Datagram(proxy) => proxy,
            Self::Stream(_) => panic!("a stream proxy"),
        }
    }
}

/// A server behind a network of its own.
pub(crate) struct Path {
    pub(crate) protocol: Protocol,
    pub(crate) server: TransportServer,
    pub(crate) network: Network,
}

impl Path {
    pub(crate) async fn to(protocol: Protocol, builder: TransportServerBuilder) -> Self {
        static SEED: AtomicU64 = AtomicU64::new(1);
        let server = builder.build().await.expect("bound");
        server.start().expect("the first start");
        let port = Self::server_port(&server);
        let target = ([127, 0, 0, 1], port).into();
        let seed = SEED.fetch_add(1, Ordering::Relaxed);
        let network = if protocol == Protocol::Quic {
            Network::Datagram(DatagramProxy::start(target, seed).await.expect("a port"))
        } else {
            Network::Stream(StreamProxy::start(target, seed).await.expect("a port"))
        };
        Self {
            protocol,
            server,
            network,
        }
    }

    fn server_port(server: &TransportServer) -> u16 {
        server.local_endpoints()[0].port().expect("a port")
    }

    /// A client that dials through the network.
    pub(crate) fn client(&self) -> TransportClientBuilder {
        self.protocol.dial(self.network.port())
    }

    /// A client that dials past the network.
    pub(crate) fn direct_client(&self) -> TransportClientBuilder {
        self.protocol.dial(Self::server_port(&self.server))
    }
}

/// Builds and connects.
pub(crate) async fn connect(builder: TransportClientBuilder) -> TransportClient {
    let client = builder.build().await.expect("valid");
    client.connect().await.expect("connected");
    client
}

/// Yields until `done`; bounded by the test's own deadline.
pub(crate) async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

/// A payload that shows any byte that is not its own.
pub(crate) fn payload(id: u32, len: usize) -> Vec<u8> {
    let mut state = u64::from(id) << 32 | len as u64;
    (0..len)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}
