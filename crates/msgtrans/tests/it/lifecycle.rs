//! A server's life: binding, several protocols, broadcasts, figures, draining, shutting down.

use std::time::Duration;

use msgtrans::{ConnectError, Packet, PacketType, TransportError, TransportServer};
use msgtrans_core::{Hello, Limits};
use tokio::time::timeout;

use crate::raw::Raw;
use crate::support::{ALL, Protocol, connect, next_message, run, start, until};

/// No room for so long is no room.
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn one_server_serves_every_protocol_and_a_broadcast_reaches_all() {
    run(async {
        let builder = ALL
            .iter()
            .fold(TransportServer::builder(), |builder, protocol| {
                protocol.listen(builder)
            });
        let server = start(builder).await;
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
