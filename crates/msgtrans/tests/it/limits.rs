//! Bounds in time, in number and in rate: heartbeats, slow consumers, admission, rate limits.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use msgtrans::{
    BindError, BuiltIn, CloseReason, Code, ConfigError, Connection, ConnectionInfo, Endpoint,
    Handler, HandlerError, Initiator, Limits, Listener, Packet, PacketType, PeerAddress,
    ProtocolConfig, RateLimiterConfig, Schemes, ServerProtocol, Session, TransportClient,
    TransportServer, WireVersion, WireVersions,
};
use msgtrans_core::{Hello, PacketBatch};
use msgtrans_testkit::Peer;
use msgtrans_transport::{
    AcceptError, ConnectionError, DialContext, Framing, Incoming, ListenContext, OutboundBatch,
    Progress, Received,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::raw::Raw;
use crate::support::{Log, Protocol, inproc_url, next_close, next_message, run, run_paused, start};

/// A peer in process that does only what it is told.
async fn peer(server: &TransportServer) -> Peer {
    let limits = Limits::default();
    let connector = BuiltIn::connector(&server.local_endpoints()[0]).expect("in process");
    let context = DialContext::new(WireVersions::V2, limits);
    let connection = connector.connect(&context).await.expect("a listener");
    let mut peer = Peer::new(connection, WireVersion::V2);
    peer.set_wire(limits);
    peer
}

#[test]
fn a_silent_peer_is_pinged_and_gone_after_three_heartbeats() {
    run_paused(async {
        let server = start(Protocol::Inproc.server()).await;
        let mut events = server.events();
        let mut peer = peer(&server).await;
        peer.send(Hello::default().to_packet()).await.expect("sent");
        let welcome = peer.expect().await.expect("a frame");
        assert_eq!(welcome.packet_type, PacketType::Welcome);
        let begun = Instant::now();
        let ping = peer.expect().await.expect("a frame");
        assert_eq!(ping.packet_type, PacketType::Ping);
        let after = begun.elapsed().as_secs_f64();
        assert!((14.9..15.2).contains(&after), "pinged after {after} s");
        let reason = next_close(&mut events).await;
        let after = begun.elapsed().as_secs_f64();
        assert!((44.9..45.2).contains(&after), "gone after {after} s");
        assert_eq!(
            (reason.initiator, reason.code),
            (Initiator::Network, Code::TIMEOUT)
        );
        assert!(server.stats().pings_out >= 2);
    });
}

#[test]
fn a_peer_that_answers_pings_stays() {
    run_paused(async {
        let server = start(Protocol::Inproc.server()).await;
        let client = Protocol::Inproc.connected(&server).await;
        tokio::time::advance(Duration::from_secs(1)).await;
        // An hour of nothing but pings.
        let hour = tokio::time::timeout(Duration::from_secs(3_600), async {
            client.session().expect("connected").closed().await
        });
        hour.await.expect_err("closed");
        assert!(client.is_connected());
        assert_eq!(
            client
                .request_with("?", Duration::from_secs(1))
                .await
                .err()
                .map(|_| ()),
            Some(())
        );
    });
}

/// Busy until it is released.
struct Busy {
    release: Arc<Semaphore>,
    log: Log<u32>,
}

impl Handler for Busy {
    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        self.release.acquire().await?.forget();
        self.log.put(packet.message_id);
        Ok(())
    }
}

#[test]
fn a_peer_that_is_not_read_from_is_not_taken_for_silent() {
    run_paused(async {
        let release = Arc::new(Semaphore::new(0));
        let (log, mut seen) = Log::new();
        let busy = Busy {
            release: release.clone(),
            log,
        };
        let server = start(Protocol::Inproc.server().with_handler(busy)).await;
        let client = Protocol::Inproc.connected(&server).await;
        let session = client.session().expect("connected");
        // More than the server reads ahead of its handler.
        for number in 0..40 {
            let packet = Packet::echo(number, vec![0; 64 * 1024]);
            client.send(packet).await.expect("sent");
        }
        // Four heartbeats in which the handler takes nothing.
        let minute = tokio::time::timeout(Duration::from_secs(60), session.closed());
        let closed = minute.await;
        assert!(closed.is_err(), "closed: {closed:?}");
        release.add_permits(40);
        for number in 0..40 {
            assert_eq!(seen.recv().await, Some(number));
        }
    });
}

#[test]
fn the_heartbeat_of_the_client_is_what_both_keep() {
    run_paused(async {
        let server = start(Protocol::Inproc.server()).await;
        let mut peer = peer(&server).await;
        let heartbeat = Duration::from_secs(60);
        let hello = Hello {
            heartbeat,
            ..Hello::default()
        };
        peer.send(hello.to_packet()).await.expect("sent");
        let welcome = peer.expect().await.expect("a frame");
        let welcome = msgtrans_core::Welcome::from_packet(&welcome).expect("a Welcome");
        assert_eq!(welcome.heartbeat, heartbeat);
        let begun = Instant::now();
        assert_eq!(
            peer.expect().await.expect("a frame").packet_type,
            PacketType::Ping
        );
        let after = begun.elapsed().as_secs_f64();
        assert!((59.9..60.2).contains(&after), "pinged after {after} s");
    });
}

#[test]
fn a_version_1_session_that_is_silent_for_long_is_closed() {
    run(async {
        let limit = Duration::from_secs(1);
        let builder = Protocol::Tcp.server();
        let server = start(builder.session_config(|config| config.idle_timeout_v1 = limit)).await;
        let mut events = server.events();
        let mut raw = Raw::v1(&server).await;
        let begun = Instant::now();
        raw.send(&Packet::text("hello")).await;
        assert_eq!(next_message(&mut events).await.payload, "hello");
        raw.closed().await;
        assert!(begun.elapsed() >= limit);
        assert_eq!(next_close(&mut events).await.code, Code::TIMEOUT);
    });
}

#[test]
fn a_handshake_that_says_nothing_is_cut_in_time() {
    run_paused(async {
        let builder = TransportServer::builder()
            .with_protocol(inproc_url())
            .wire(WireVersions::V2);
        let server = start(builder).await;
        let begun = Instant::now();
        let mut peer = peer(&server).await;
        // However it ends, nothing was said.
        assert!(!matches!(peer.recv().await, Ok(Some(_))));
        let after = begun.elapsed().as_secs_f64();
        assert!((9.9..10.2).contains(&after), "cut after {after} s");
        assert_eq!(server.stats().handshakes_failed, 1);
    });
}

#[test]
fn silent_peers_keep_nobody_from_shaking_hands() {
    run(async {
        let server = start(Protocol::Ws.server().max_handshakes(1)).await;
        let endpoint = server.local_endpoints()[0].clone();
        let mut silent = Vec::new();
        for _ in 0..4 {
            silent.push(Raw::connect(&endpoint).await);
        }
        let client = Protocol::Ws.connected(&server).await;
        assert!(client.is_connected());
        assert_eq!(server.stats().handshakes_failed, 0);
    });
}

/// In process, but every peer says that it comes from one address of the internet.
#[derive(Debug)]
struct FromAfar(Box<dyn ServerProtocol>);

impl ProtocolConfig for FromAfar {
    fn endpoint(&self) -> Endpoint {
        self.0.endpoint()
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.0.validate()
    }
}

impl ServerProtocol for FromAfar {
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> msgtrans_transport::BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let listener = self.0.bind(context).await?;
            Ok(Box::new(Afar(listener)) as Box<dyn Listener>)
        })
    }
}

struct Afar(Box<dyn Listener>);

impl Listener for Afar {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        self.0.poll_accept(cx).map_ok(|incoming| match incoming {
            Incoming::Connection(inner) => {
                let address = "203.0.113.7:4711".parse().expect("an address");
                let info = ConnectionInfo::new("afar", PeerAddress::Socket(address));
                Incoming::Connection(Box::new(FarConnection { inner, info }))
            }
            handshake => handshake,
        })
    }

    fn local_endpoint(&self) -> Endpoint {
        self.0.local_endpoint()
    }
}

struct FarConnection {
    inner: Box<dyn Connection>,
    info: ConnectionInfo,
}

impl Connection for FarConnection {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        self.inner.poll_recv(cx, budget_bytes, into)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        self.inner.poll_send(cx, from)
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        how: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        self.inner.poll_close(cx, how)
    }

    fn set_wire(&mut self, version: WireVersion, limits: Limits) {
        self.inner.set_wire(version, limits);
    }

    fn framing(&self) -> Framing {
        self.inner.framing()
    }

    fn progress(&self) -> Progress {
        self.inner.progress()
    }

    fn info(&self) -> &ConnectionInfo {
        &self.info
    }
}

fn from_afar() -> FromAfar {
    let endpoint = Endpoint::parse(&inproc_url()).expect("a URL");
    FromAfar(BuiltIn::server(&endpoint).expect("in process"))
}

#[test]
fn connections_of_one_address_are_capped() {
    run(async {
        let builder = TransportServer::builder()
            .with_protocol(from_afar())
            .max_connections_per_address(2);
        let server = start(builder).await;
        let first = Protocol::Inproc.connected(&server).await;
        let _second = Protocol::Inproc.connected(&server).await;
        let third = Protocol::Inproc
            .client(&server)
            .build()
            .await
            .expect("valid");
        third.connect().await.expect_err("one too many");
        assert_eq!(server.listener_stats().refused_address, 1);
        first.disconnect().await.expect("disconnected");
        // The place is free once the session's task has ended.
        while third.connect().await.is_err() {}
        assert!(third.is_connected());
    });
}

#[test]
fn sessions_of_one_address_share_its_rate() {
    run(async {
        // Enough for each session, not for both together.
        let limit = RateLimiterConfig::new(1_000_000, 1_000).per_address(500, 50);
        let builder = TransportServer::builder()
            .with_protocol(from_afar())
            .rate_limiter(limit);
        let server = start(builder).await;
        let (log, mut seen) = Log::new();
        let mut events = server.events();
        tokio::spawn(async move {
            loop {
                log.put(next_message(&mut events).await);
            }
        });
        let clients: [TransportClient; 2] = [
            Protocol::Inproc.connected(&server).await,
            Protocol::Inproc.connected(&server).await,
        ];
        let begun = Instant::now();
        for client in &clients {
            for number in 0..75 {
                client.send(Packet::echo(number, "m")).await.expect("sent");
            }
        }
        for _ in 0..150 {
            seen.recv().await.expect("a message");
        }
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(190), "{took:?} for both");
    });
}

#[test]
fn accepting_survives_listeners_that_fail_for_a_while() {
    /// Fails as one that is out of descriptors, then as a lost peer, then works.
    struct Faulty {
        inner: Box<dyn Listener>,
        failures: Mutex<Vec<AcceptError>>,
    }

    impl Listener for Faulty {
        fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
            let failures = self.failures.get_mut().expect("not poisoned");
            match failures.pop() {
                Some(error) => Poll::Ready(Err(error)),
                None => self.inner.poll_accept(cx),
            }
        }

        fn local_endpoint(&self) -> Endpoint {
            self.inner.local_endpoint()
        }
    }

    #[derive(Debug)]
    struct FaultyProtocol(FromAfar);

    impl ProtocolConfig for FaultyProtocol {
        fn endpoint(&self) -> Endpoint {
            self.0.endpoint()
        }

        fn validate(&self) -> Result<(), ConfigError> {
            Ok(())
        }
    }

    impl ServerProtocol for FaultyProtocol {
        fn bind<'a>(
            &'a self,
            context: &'a ListenContext,
        ) -> msgtrans_transport::BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
            Box::pin(async move {
                let inner = self.0.0.bind(context).await?;
                let full = || AcceptError::Exhausted(std::io::Error::from_raw_os_error(24));
                let lost = AcceptError::Peer(std::io::ErrorKind::ConnectionAborted.into());
                let failures = Mutex::new(vec![full(), lost, full()]);
                Ok(Box::new(Faulty { inner, failures }) as Box<dyn Listener>)
            })
        }
    }

    run_paused(async {
        let builder = TransportServer::builder().with_protocol(FaultyProtocol(from_afar()));
        let server = start(builder).await;
        let client = Protocol::Inproc.connected(&server).await;
        assert!(client.is_connected());
        let stats = server.listener_stats();
        assert_eq!((stats.exhausted, stats.lost, stats.accepted), (2, 1, 1));
    });
}

/// Asks its peer while it handles a large message.
struct AsksAboutLarge(Log<Packet>);

impl Handler for AsksAboutLarge {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        if packet.payload.len() > 1_000 {
            self.0.put(session.request(Packet::text("why?")).await?);
        }
        Ok(())
    }
}

#[test]
fn a_handler_of_a_message_above_the_bound_hears_its_peer_whatever_came_before_it() {
    run(async {
        let (log, mut answers) = Log::new();
        let server = Protocol::Inproc
            .server()
            .session_config(|config| config.inbound_bytes = 64 * 1024)
            .with_handler(AsksAboutLarge(log));
        let server = start(server).await;
        let client = Protocol::Inproc.client(&server).build().await;
        let client = client.expect("valid");
        client
            .on_request(|_, request| async move { Ok(Packet::response(request.payload)) })
            .await
            .expect("nothing else takes requests");
        client.connect().await.expect("connected");
        // One batch: the large one is not what the session has counted as being handled.
        client.try_send(Packet::text("small")).expect("room");
        client
            .try_send(Packet::binary(vec![1; 100_000]))
            .expect("room");
        let answer = answers.recv().await.expect("the handler runs");
        assert_eq!(answer.payload, "why?");
    });
}
