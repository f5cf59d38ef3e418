//! Bounds in time, in number and in rate: heartbeats, slow consumers, admission, rate limits.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use msgtrans::{
    BindError, BuiltIn, CloseReason, Code, ConfigError, ConnectError, ConnectRequest, Connection,
    ConnectionInfo, Endpoint, Handler, HandlerError, Initiator, Limits, Listener, Packet,
    PacketType, PeerAddress, ProtocolConfig, RateLimiterConfig, Refusal, Schemes, SendErrorKind,
    ServerProtocol, Session, TransportClient, TransportError, TransportServer, WireVersion,
    WireVersions,
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
use crate::support::{
    Log, Protocol, connect, inproc_url, next_close, next_message, over_every_protocol, run,
    run_paused, start, until,
};

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

struct Answers;

impl Handler for Answers {
    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

#[test]
fn a_slow_consumer_is_cut_while_others_go_on() {
    run(async {
        let builder = Protocol::Tcp
            .server()
            .with_handler(Answers)
            .send_timeout(Duration::from_millis(300));
        let server = start(builder).await;
        let (raw, welcome) = Raw::v2(&server).await;
        let slow = server.session(welcome.session).expect("open");
        let client = Protocol::Tcp.connected(&server).await;
        let flooding = tokio::spawn({
            let slow = slow.clone();
            async move {
                loop {
                    let packet = Packet::binary(vec![0; 64 * 1024]);
                    if let Err(error) = slow.send(packet).await {
                        return error;
                    }
                }
            }
        });
        let mut answered = 0;
        let reason = loop {
            tokio::select! {
                biased;
                reason = slow.closed() => break reason,
                answer = client.request("still there?") => {
                    assert_eq!(answer.expect("answered").payload, "still there?");
                    answered += 1;
                }
            }
        };
        assert_eq!(
            (reason.code, reason.initiator),
            (Code::SLOW_CONSUMER, Initiator::Local)
        );
        assert!(
            answered > 10,
            "the other session was held up: {answered} answers"
        );
        let error = flooding.await.expect("ran");
        assert!(
            matches!(
                error.kind(),
                SendErrorKind::Closed(_) | SendErrorKind::Timeout(_)
            ),
            "{error:?}"
        );
        assert_eq!(
            error.into_packet().expect("given back").payload.len(),
            64 * 1024
        );
        assert!(slow.stats().queued_bytes <= 4 * 1024 * 1024);
        drop(raw);
    });
}

over_every_protocol!(
    max_connections_holds_however_many_come_at_once,
    a_session_above_max_connections_is_refused_as_overloaded,
    a_peer_above_its_rate_is_slowed_and_loses_nothing,
    a_full_queue_hands_the_packet_back_at_once,
    a_packet_above_what_the_peer_takes_is_handed_back,
);

async fn a_session_above_max_connections_is_refused_as_overloaded(protocol: Protocol) {
    let server = start(protocol.server().max_connections(2)).await;
    let first = protocol.connected(&server).await;
    let _second = protocol.connected(&server).await;
    until(|| server.session_count() == 2).await;
    let third = protocol.client(&server).build().await.expect("valid");
    match third.connect().await {
        Err(TransportError::Connect(error @ ConnectError::Refused { .. })) => {
            assert!(error.is_retryable(), "{error}");
            let ConnectError::Refused { reason, .. } = error else {
                unreachable!()
            };
            assert_eq!(
                (reason.initiator, reason.code),
                (Initiator::Peer, Code::OVERLOADED)
            );
        }
        other => panic!("{other:?}"),
    }
    first.disconnect().await.expect("disconnected");
    until(|| server.session_count() == 1).await;
    third.connect().await.expect("room again");
}

/// Thinks about everybody until it has a permit for them.
struct Slow(Arc<Semaphore>);

impl Handler for Slow {
    async fn on_connect(&self, _: &Session, _: &ConnectRequest) -> Result<(), Refusal> {
        self.0.acquire().await?.forget();
        Ok(())
    }
}

async fn max_connections_holds_however_many_come_at_once(protocol: Protocol) {
    const COME: usize = 20;
    const MAX: usize = 3;
    let gate = Arc::new(Semaphore::new(0));
    let builder = protocol.server().max_connections(MAX);
    let server = start(builder.with_handler(Slow(gate.clone()))).await;
    let mut coming = tokio::task::JoinSet::new();
    for _ in 0..COME {
        let builder = protocol.client(&server);
        coming.spawn(async move {
            let client = builder.build().await.expect("valid");
            client.connect().await.map(|()| client)
        });
    }
    // All but those that are asked about are refused at once.
    let mut refused = 0;
    while refused < COME - MAX {
        let outcome = coming.join_next().await.expect("one more").expect("ran");
        outcome.expect_err("more than were to be let in");
        refused += 1;
    }
    gate.add_permits(COME);
    let mut open = Vec::new();
    while let Some(outcome) = coming.join_next().await {
        open.push(outcome.expect("ran").expect("let in"));
    }
    assert_eq!(open.len(), MAX);
    until(|| server.session_count() == MAX).await;
}

async fn a_peer_above_its_rate_is_slowed_and_loses_nothing(protocol: Protocol) {
    const MESSAGES: u32 = 150;
    let limit = RateLimiterConfig::new(500, 50);
    let server = start(protocol.server().rate_limiter(limit)).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    let begun = Instant::now();
    for number in 0..MESSAGES {
        client.send(Packet::echo(number, "m")).await.expect("sent");
    }
    for number in 0..MESSAGES {
        assert_eq!(next_message(&mut events).await.message_id, number);
    }
    // 50 at once, then 100 at 500 a second.
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(190),
        "{took:?} for {MESSAGES} messages"
    );
    until(|| server.stats().rate_limited > 0).await;
    assert!(client.is_connected());
}

async fn a_full_queue_hands_the_packet_back_at_once(protocol: Protocol) {
    let builder = protocol.server().session_config(|config| {
        config.inbound_bytes = 1_024;
        config.outbound.items = 4;
    });
    let server = start(builder.with_handler(Stuck)).await;
    let client = connect(protocol.client(&server).outbound_bounds(4, 64 * 1024)).await;
    let error = loop {
        match client.try_send(Packet::binary(vec![1; 16 * 1024])) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error.kind(), SendErrorKind::Full { .. }),
        "{error:?}"
    );
    assert!(error.is_retryable());
    assert_eq!(
        error.into_packet().expect("given back").payload.len(),
        16 * 1024
    );
    let stats = client.session().expect("open").stats();
    assert!(
        stats.queued <= 4 && stats.queued_bytes <= 64 * 1024 + 4 * 128,
        "{stats:?}"
    );
}

/// Never comes back from its first message.
struct Stuck;

impl Handler for Stuck {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        std::future::pending().await
    }
}

async fn a_packet_above_what_the_peer_takes_is_handed_back(protocol: Protocol) {
    let small = Limits::new(100_000, 1_000).expect("limits");
    let server = start(protocol.server().limits(small)).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    let error = client
        .send(Packet::binary(vec![1; 200_000]))
        .await
        .expect_err("too large");
    assert!(
        matches!(error.kind(), SendErrorKind::Encode(_)),
        "{error:?}"
    );
    assert_eq!(
        error.into_packet().expect("given back").payload.len(),
        200_000
    );
    client
        .send(Packet::binary(vec![1; 100_000]))
        .await
        .expect("sent");
    assert_eq!(next_message(&mut events).await.payload.len(), 100_000);
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
