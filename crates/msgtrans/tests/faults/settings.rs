//! Settings that cannot be meant: half a certificate, and times without end.

use std::time::Duration;

use msgtrans::{
    QuicClientConfig, TcpServerConfig, TransportClient, TransportError, TransportServer,
    TransportServerBuilder,
};

use crate::support::{connect, dial, listen, run, start};

#[test]
fn a_certificate_without_a_key_is_refused_by_every_protocol() {
    run(async {
        for url in [
            "tls://127.0.0.1:0?cert=/nowhere/cert.pem",
            "tls://127.0.0.1:0?key=/nowhere/key.pem",
            "tls://127.0.0.1:0",
            "wss://127.0.0.1:0?cert=/nowhere/cert.pem",
            "wss://127.0.0.1:0?key=/nowhere/key.pem",
            "wss://127.0.0.1:0",
            "quic://127.0.0.1:0?cert=/nowhere/cert.pem",
            "quic://127.0.0.1:0?key=/nowhere/key.pem",
            // A plain protocol does not take them and go on in the clear.
            "tcp://127.0.0.1:0?cert=/nowhere/cert.pem",
            "ws://127.0.0.1:0?cert=/nowhere/cert.pem&key=/nowhere/key.pem",
        ] {
            let built = TransportServer::builder().with_protocol(url).build().await;
            assert!(built.is_err(), "{url} is served");
        }
    });
}

/// Each of these either holds or is refused by its name; none panics.
fn servers() -> Vec<(&'static str, TransportServerBuilder)> {
    const MAX: Duration = Duration::MAX;
    let with = || listen(TransportServer::builder(), "tcp");
    vec![
        ("handshake_timeout", with().handshake_timeout(MAX)),
        ("send_timeout", with().send_timeout(MAX)),
        ("request_timeout", with().request_timeout(MAX)),
        ("graceful_shutdown", with().graceful_shutdown(MAX)),
        ("control_interval", with().control_interval(MAX)),
        (
            "heartbeat",
            with().session_config(|config| config.heartbeat = MAX),
        ),
        (
            "idle_timeout_v1",
            with().session_config(|config| config.idle_timeout_v1 = MAX),
        ),
        ("frame_rate_window", with().min_frame_rate(1, MAX)),
        (
            "listen_first_after",
            with().session_config(|config| config.listen_first_after = MAX),
        ),
        (
            "keepalive",
            TransportServer::builder()
                .with_protocol(TcpServerConfig::new("127.0.0.1:0").keepalive(MAX)),
        ),
    ]
}

#[test]
fn times_without_end_are_refused_by_name() {
    run(async {
        for (name, builder) in servers() {
            let built = builder.build().await;
            let error = built.expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
        let quic = QuicClientConfig::new("127.0.0.1:1").max_idle_timeout(Duration::MAX);
        let built = TransportClient::builder().with_protocol(quic).build().await;
        assert!(matches!(built, Err(TransportError::Config(_))), "{built:?}");
        for builder in [
            TransportClient::builder().connect_timeout(Duration::MAX),
            TransportClient::builder().request_timeout(Duration::MAX),
            TransportClient::builder().send_timeout(Duration::MAX),
            TransportClient::builder().heartbeat(Duration::MAX),
        ] {
            let builder = builder.with_protocol("tcp://127.0.0.1:1");
            let built = builder.build().await;
            assert!(matches!(built, Err(TransportError::Config(_))), "{built:?}");
        }
    });
}

#[test]
fn a_request_may_wait_for_ever_and_is_answered() {
    run(async {
        let server = listen(TransportServer::builder(), "tcp");
        let server = start(server).await;
        let mut events = server.events();
        let client = connect(dial(&server, "tcp")).await;
        let asking = async {
            let answer = client.request_with("x", Duration::MAX).await;
            assert_eq!(answer.expect("answered").payload, "y");
        };
        let answering = async {
            loop {
                let event = events.next().await.expect("an event");
                if let msgtrans::TransportEvent::RequestReceived { responder, .. } = event {
                    responder.respond("y");
                    return;
                }
            }
        };
        tokio::join!(asking, answering);
        client.disconnect().await.expect("disconnected");
    });
}
