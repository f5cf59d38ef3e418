//! A server's life: binding, several protocols, broadcasts, figures, draining, shutting down.

use std::sync::Arc;
use std::time::Duration;

use msgtrans::{
    Code, ConnectError, Handler, HandlerError, Initiator, Packet, PacketType, RequestError,
    SendErrorKind, Session, TransportError, TransportEvent, TransportServer,
};
use msgtrans_core::{Hello, Limits};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::raw::Raw;
use crate::support::{
    Log, OnDrop, Protocol, connect, inproc_url, next_close, next_message, only_session,
    over_every_protocol, run, start, until,
};

/// No room for so long is no room.
const QUIET: Duration = Duration::from_millis(200);

const ALL: [Protocol; 4] = [
    Protocol::Tcp,
    Protocol::Ws,
    Protocol::Quic,
    Protocol::Inproc,
];

over_every_protocol!(
    a_shutdown_answers_what_runs_and_tells_the_peers,
    a_shutdown_closes_what_does_not_end_in_time,
    a_server_that_everybody_has_dropped_says_goodbye,
    protocols_come_and_go_while_serving,
    the_figures_are_true,
    a_send_is_confirmed_by_the_protocol,
);

/// Echoes; hangs where it is told, until it is released.
struct Business {
    log: Log<&'static str>,
    release: Arc<Semaphore>,
}

impl Handler for Business {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session.send(packet).await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        if request.payload == "hang" {
            let _guard = OnDrop(self.log.clone());
            self.log.put("hangs");
            self.release.acquire().await?.forget();
        }
        Ok(Packet::response(request.payload))
    }
}

fn business() -> (
    Business,
    tokio::sync::mpsc::UnboundedReceiver<&'static str>,
    Arc<Semaphore>,
) {
    let (log, seen) = Log::new();
    let release = Arc::new(Semaphore::new(0));
    let business = Business {
        log,
        release: release.clone(),
    };
    (business, seen, release)
}

async fn a_shutdown_answers_what_runs_and_tells_the_peers(protocol: Protocol) {
    let (business, mut seen, release) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    let request = tokio::spawn({
        let client = client.clone();
        async move { client.request("hang").await }
    });
    assert_eq!(seen.recv().await, Some("hangs"));
    let endpoint = server.local_endpoints()[0].clone();
    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown().await }
    });
    // The peer hears of it while its request still runs.
    loop {
        match events.next().await.expect("an event") {
            TransportEvent::GoingAway { goodbye, .. } => {
                assert_eq!(goodbye.code, Code::GOING_AWAY);
                break;
            }
            TransportEvent::ConnectionEstablished { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(!stopping.is_finished());
    // Nobody new comes in.
    let late = protocol
        .dial(&endpoint)
        .connect_timeout(Duration::from_millis(500));
    late.build()
        .await
        .expect("valid")
        .connect()
        .await
        .expect_err("nobody listens");
    release.add_permits(1);
    assert_eq!(
        request.await.expect("ran").expect("answered").payload,
        "hang"
    );
    let reason = next_close(&mut events).await;
    assert_eq!(
        (reason.initiator, reason.code),
        (Initiator::Peer, Code::GOING_AWAY)
    );
    let report = stopping.await.expect("ran");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.sessions, report.drained), (1, 1));
    // Once more is the same shutdown.
    assert_eq!(server.shutdown().await, report);
    assert_eq!(server.session_count(), 0);
}

async fn a_shutdown_closes_what_does_not_end_in_time(protocol: Protocol) {
    let (business, mut seen, _release) = business();
    let builder = protocol
        .server()
        .graceful_shutdown(Duration::from_millis(200));
    let server = start(builder.with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let request = tokio::spawn(async move { client.request("hang").await });
    assert_eq!(seen.recv().await, Some("hangs"));
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report:?}");
    assert_eq!(
        (report.sessions, report.closed, report.abandoned),
        (1, 1, 0)
    );
    assert_eq!(seen.recv().await, Some("dropped"));
    match request.await.expect("ran") {
        Err(RequestError::Closed(reason)) => assert_eq!(reason.code, Code::GOING_AWAY),
        other => panic!("{other:?}"),
    }
}

async fn a_server_that_everybody_has_dropped_says_goodbye(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    drop(server);
    assert_eq!(next_close(&mut events).await.code, Code::GOING_AWAY);
}

async fn protocols_come_and_go_while_serving(protocol: Protocol) {
    let (business, _seen, _) = business();
    let builder = TransportServer::builder().with_protocol(inproc_url());
    let server = start(builder.with_handler(business)).await;
    let first = Protocol::Inproc.connected(&server).await;
    // What a builder would bind, bound later.
    let other = protocol.server().build().await.expect("bound");
    let endpoint = other.local_endpoints()[0].clone();
    drop(other);
    let endpoint = match protocol {
        Protocol::Quic => return,
        _ => add_until_free(&server, &endpoint).await,
    };
    assert!(server.local_endpoints().contains(&endpoint));
    let second = connect(protocol.dial(&endpoint)).await;
    assert_eq!(
        second
            .request("over the new one")
            .await
            .expect("answered")
            .payload,
        "over the new one"
    );
    server.remove_protocol(&endpoint).await.expect("it listens");
    assert!(!server.local_endpoints().contains(&endpoint));
    // Its sessions live on, nobody new comes in, and the other protocol does not care.
    assert_eq!(
        second
            .request("still here")
            .await
            .expect("answered")
            .payload,
        "still here"
    );
    let late = protocol.dial(&endpoint).build().await.expect("valid");
    late.connect().await.expect_err("nobody listens");
    assert_eq!(
        first.request("me too").await.expect("answered").payload,
        "me too"
    );
    server
        .remove_protocol(&endpoint)
        .await
        .expect_err("gone already");
    // The port is free again.
    let again = server.add_protocol(endpoint.clone()).await.expect("free");
    assert_eq!(again, endpoint);
    connect(protocol.dial(&endpoint)).await;
}

/// Listens at an address that was in use a moment ago.
async fn add_until_free(
    server: &TransportServer,
    endpoint: &msgtrans::Endpoint,
) -> msgtrans::Endpoint {
    loop {
        match server.add_protocol(endpoint.clone()).await {
            Ok(endpoint) => return endpoint,
            Err(TransportError::Bind(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

async fn the_figures_are_true(protocol: Protocol) {
    const MESSAGES: u64 = 200;
    const REQUESTS: u64 = 50;
    let (business, _seen, _) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    for _ in 0..MESSAGES {
        client.send(vec![1; 100]).await.expect("sent");
    }
    for _ in 0..MESSAGES {
        next_message(&mut events).await;
    }
    for _ in 0..REQUESTS {
        client.request("?").await.expect("answered");
    }
    let all = MESSAGES + REQUESTS;
    let session = only_session(&server).await;
    // A pass counts when it is over, a moment after its packets have left.
    until(|| session.stats().packets_out == all).await;
    let stats = session.stats();
    assert_eq!((stats.packets_in, stats.requests_in), (all, REQUESTS));
    assert_eq!(
        (stats.queued, stats.queued_bytes, stats.requests_pending),
        (0, 0, 0)
    );
    let theirs = client.session().expect("open");
    until(|| theirs.stats().packets_in == all).await;
    assert_eq!(theirs.stats().packets_out, all);
    if protocol != Protocol::Inproc {
        let least = MESSAGES * 116;
        assert!(
            stats.bytes_in >= least && stats.bytes_out >= least,
            "{stats:?}"
        );
    }
    until(|| server.stats().packets_out == all && server.stats().packets_in == all).await;
    let total = server.stats();
    assert_eq!(
        (total.sessions, total.sessions_opened, total.sessions_closed),
        (1, 1, 0)
    );
    assert_eq!(total.handling.count, all);
    assert!(total.handling.p50 <= total.handling.p99 && total.handling.p99 <= total.handling.max);
    let total = client.stats();
    assert_eq!(total.round_trip.count, REQUESTS);
    client.disconnect().await.expect("disconnected");
    until(|| server.stats().sessions == 0).await;
    assert_eq!(server.stats().sessions_closed, 1);
    assert_eq!(server.listener_stats().accepted, 1);
}

async fn a_send_is_confirmed_by_the_protocol(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    for number in 0..50 {
        let packet = Packet::echo(number, vec![1; 10_000]);
        client.send_confirmed(packet).await.expect("confirmed");
        assert_eq!(next_message(&mut events).await.message_id, number);
    }
    server.shutdown().await;
    let error = client.send_confirmed("late").await.expect_err("closed");
    // Unconfirmed where the Goodbye was still on its way: queued, and never taken.
    let told = matches!(
        error.kind(),
        SendErrorKind::Closed(_) | SendErrorKind::Unconfirmed
    );
    assert!(told, "{error:?}");
}

#[test]
fn one_server_serves_every_protocol_and_a_broadcast_reaches_all() {
    run(async {
        let (business, _seen, _) = business();
        let builder = ALL
            .iter()
            .fold(TransportServer::builder(), |builder, protocol| {
                protocol.listen(builder)
            });
        let server = start(builder.with_handler(business)).await;
        let mut clients = Vec::new();
        for (protocol, endpoint) in ALL.iter().zip(server.local_endpoints()) {
            for _ in 0..3 {
                let client = connect(protocol.dial(&endpoint)).await;
                let events = client.events();
                clients.push((client, events));
            }
        }
        until(|| server.session_count() == clients.len()).await;
        for number in 0..100 {
            let packet = Packet::echo(number, vec![4; 1_000]);
            let report = server.broadcast(packet).await.expect("encoded");
            assert_eq!((report.queued, report.full, report.failed), (12, 0, 0));
        }
        for (_, events) in &mut clients {
            for number in 0..100 {
                let packet = next_message(events).await;
                assert_eq!((packet.message_id, packet.payload.len()), (number, 1_000));
            }
        }
    });
}

#[test]
fn a_broadcast_waits_for_nobody_and_says_whom_it_missed() {
    run(async {
        let builder = Protocol::Tcp.server().session_config(|config| {
            config.outbound.items = 2;
            config.outbound.bytes = 64 * 1024;
        });
        let server = start(builder).await;
        // One that reads nothing, one that takes small frames alone, one like any other.
        let mut stuck = Raw::v1(&server).await;
        let max_frame = Limits::default().max_frame();
        let hello = Hello {
            max_frame,
            ..Hello::default()
        };
        let welcome = stuck.hello(&hello).await;
        let _unread = stuck;
        let stuck = server.session(welcome.session).expect("open");
        let mut small = Raw::v1(&server).await;
        let max_frame = Limits::MIN_FRAME;
        small
            .hello(&Hello {
                max_frame,
                ..Hello::default()
            })
            .await;
        let client = Protocol::Tcp.connected(&server).await;
        let mut events = client.events();
        until(|| server.session_count() == 3).await;
        // Until its queue stays full.
        let fill = || timeout(QUIET, stuck.send(Packet::binary(vec![0; 60_000])));
        while fill().await.is_ok() {}
        let report = server
            .broadcast(Packet::binary(vec![5; 90_000]))
            .await
            .expect("encoded");
        assert_eq!((report.queued, report.full, report.failed), (1, 1, 1));
        assert_eq!(next_message(&mut events).await.payload.len(), 90_000);
        server
            .broadcast(Packet::text("small"))
            .await
            .expect("encoded");
        assert_eq!(small.expect(PacketType::OneWay).await.payload, "small");
    });
}

#[test]
fn a_broadcast_that_cannot_be_encoded_is_an_error() {
    run(async {
        let server = start(Protocol::Tcp.server()).await;
        let (_raw, _) = Raw::v2(&server).await;
        until(|| server.session_count() == 1).await;
        let packet = Packet::text("x").with_ext_header(vec![0; 70_000]);
        server.broadcast(packet).await.expect_err("no such frame");
    });
}

#[test]
fn a_used_port_is_an_error_of_build_that_names_it() {
    run(async {
        for url in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0"] {
            let first = TransportServer::builder()
                .with_protocol(url)
                .build()
                .await
                .expect("bound");
            let taken = first.local_endpoints()[0].clone();
            let second = TransportServer::builder()
                .with_protocol(taken.clone())
                .build()
                .await;
            match second {
                Err(error @ TransportError::Bind(_)) => {
                    let port = taken.port().expect("a port").to_string();
                    assert!(error.to_string().contains(&port), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        let first = start(Protocol::Inproc.server()).await;
        let taken = first.local_endpoints()[0].clone();
        let second = TransportServer::builder()
            .with_protocol(taken)
            .build()
            .await;
        assert!(matches!(second, Err(TransportError::Bind(_))), "{second:?}");
    });
}

#[test]
fn bad_settings_are_named_by_build() {
    run(async {
        let one = || Protocol::Inproc.server();
        for (builder, field) in [
            (TransportServer::builder(), "protocols"),
            (one().with_protocol("carrier-pigeon://home"), "scheme"),
            (one().with_protocol("no url"), "no url"),
            (
                one().with_protocol("tcp://127.0.0.1:0?colour=red"),
                "colour",
            ),
            (one().max_connections(0), "max_connections"),
            (
                one().max_connections_per_address(0),
                "max_connections_per_address",
            ),
            (one().max_handshakes(0), "max_handshakes"),
            (one().graceful_shutdown(Duration::ZERO), "graceful_shutdown"),
            (one().handshake_timeout(Duration::ZERO), "handshake_timeout"),
            (one().send_timeout(Duration::MAX), "send_timeout"),
            (one().events_bounds(0, 1), "events.items"),
            (
                one().session_config(|config| config.heartbeat = Duration::from_secs(1)),
                "heartbeat",
            ),
            (
                one().rate_limiter(msgtrans::RateLimiterConfig::new(0, 1)),
                "rate",
            ),
        ] {
            match builder.build().await {
                Err(error @ TransportError::Config(_)) => {
                    assert!(error.to_string().contains(field), "{error}");
                }
                other => panic!("{field}: {other:?}"),
            }
        }
    });
}

#[test]
fn names_and_addresses_of_every_kind_can_be_bound_and_dialled() {
    run(async {
        for (listen, host) in [
            ("tcp://localhost:0", "localhost"),
            ("tcp://[::1]:0", "[::1]"),
            ("tcp://0.0.0.0:0", "127.0.0.1"),
            ("ws://localhost:0", "localhost"),
            ("ws://[::1]:0", "[::1]"),
        ] {
            let server = start(TransportServer::builder().with_protocol(listen)).await;
            let endpoint = &server.local_endpoints()[0];
            let port = endpoint.port().expect("a port");
            assert_ne!(port, 0);
            let url = format!("{}://{host}:{port}", endpoint.scheme());
            let client = msgtrans::TransportClient::builder().with_protocol(url);
            connect(client)
                .await
                .disconnect()
                .await
                .expect("disconnected");
        }
    });
}

#[test]
fn a_client_that_nobody_answers_fails_in_time() {
    run(async {
        // Bound, and nobody accepts.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let client = msgtrans::TransportClient::builder()
            .with_protocol(format!("tcp://127.0.0.1:{port}"))
            .connect_timeout(Duration::from_millis(100));
        let client = client.build().await.expect("valid");
        match client.connect().await {
            Err(TransportError::Connect(error @ ConnectError::Timeout { .. })) => {
                assert!(error.to_string().contains(&port.to_string()), "{error}");
            }
            other => panic!("{other:?}"),
        }
    });
}
