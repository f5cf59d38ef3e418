//! The examples that users were promised: as written, and run where ports allow it.

use std::error::Error;
use std::time::Duration;

use msgtrans::{
    LoggingMiddleware, Packet, QuicServerConfig, RateLimiterConfig, RetryConfig, TcpClientConfig,
    TcpServerConfig, TransportClient, TransportClientBuilder, TransportEvent, TransportServer,
    TransportServerBuilder, WebSocketServerConfig,
};

use crate::support::{ALL, Protocol, run};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// The server of the examples; the addresses alone are not those that were written.
macro_rules! server {
    ($tcp:literal, $websocket:literal, $quic:literal) => {
        TransportServerBuilder::new()
            .with_protocol(TcpServerConfig::new($tcp))
            .with_protocol(WebSocketServerConfig::new($websocket))
            .with_protocol(QuicServerConfig::new($quic))
            .max_connections(10000)
            .with_middleware(LoggingMiddleware::new())
            .rate_limiter(RateLimiterConfig::new(1000, 100))
            .build()
            .await?
    };
}

/// Fixed ports: for the compiler alone.
async fn server_as_written() -> Outcome {
    let server = server!("0.0.0.0:8080", "0.0.0.0:8081", "0.0.0.0:8082");
    serve_echo(server).await
}

async fn serve_echo(server: TransportServer) -> Outcome {
    let mut events = server.events();
    let replies = server.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                TransportEvent::ConnectionEstablished { session_id, .. } => {
                    println_quietly(session_id);
                }
                TransportEvent::MessageReceived { session_id, packet } => {
                    let echo = Packet::echo(packet.message_id, packet.payload);
                    replies.send_to(session_id, echo).await?;
                }
                TransportEvent::ConnectionClosed { session_id, .. } => {
                    println_quietly(session_id);
                }
                _ => {}
            }
        }
        Outcome::Ok(())
    });
    server.serve().await?;
    Ok(())
}

/// Stands where the examples print.
fn println_quietly(what: impl std::fmt::Display) {
    let _ = what.to_string();
}

#[test]
fn the_server_compiles_as_written() {
    let _ = server_as_written;
}

#[test]
fn the_clients_build_as_written() {
    run(async {
        let outcome: Outcome = async {
            let client = TransportClient::builder()
                .with_protocol("tcp://localhost:8080")
                .build()
                .await?;
            assert!(!client.is_connected());
            let d = Duration::from_millis(100);
            let client = TransportClientBuilder::new()
                .with_protocol(TcpClientConfig::new("127.0.0.1:8080"))
                .connect_timeout(d)
                .retry_strategy(RetryConfig::exponential_backoff(3, d))
                .build()
                .await?;
            assert!(!client.is_connected());
            Ok(())
        }
        .await;
        outcome.expect("the examples build");
    });
}

#[test]
fn the_example_server_echoes_over_each_of_its_protocols() {
    run(async {
        let outcome: Outcome = async {
            let server = server!("0.0.0.0:0", "0.0.0.0:0", "0.0.0.0:0");
            let [tcp, websocket, _] = &server.local_endpoints()[..] else {
                panic!("three protocols are three endpoints");
            };
            let urls = [
                format!("tcp://localhost:{}", tcp.port().expect("a port")),
                format!("ws://localhost:{}", websocket.port().expect("a port")),
            ];
            let serving = tokio::spawn(serve_echo(server.clone()));
            for url in urls {
                let client = TransportClient::builder()
                    .with_protocol(url)
                    .build()
                    .await?;
                say_hello(client).await?;
            }
            server.graceful_shutdown().await;
            serving.await?
        }
        .await;
        outcome.expect("the examples run");
    });
}

/// The client of the examples, from connect to disconnect.
#[expect(clippy::single_match, reason = "as it is written in the examples")]
async fn say_hello(client: TransportClient) -> Outcome {
    client.connect().await?;
    client.send(Packet::text("Hello")).await?;
    let mut events = client.events();
    let mut answers = 0;
    while let Some(event) = events.next().await {
        match event {
            TransportEvent::MessageReceived { packet, .. } => {
                assert_eq!(packet.payload_as_string().as_deref(), Some("Hello"));
                answers += 1;
                client.disconnect().await?;
            }
            _ => {}
        }
    }
    assert_eq!(answers, 1);
    Ok(())
}

#[test]
fn the_rest_of_the_names_work_over_each_protocol() {
    for protocol in ALL {
        run(the_rest_of_the_names_work(protocol));
    }
}

/// What the examples show beside the echo, and the spellings of the usage guide.
async fn the_rest_of_the_names_work(protocol: Protocol) {
    let outcome: Outcome = async {
        let server = protocol
            .server()
            .with_max_connections(100)
            .graceful_shutdown(Duration::from_secs(5))
            .build()
            .await?;
        let replies = server.clone();
        server.on_message(move |session_id, packet| {
            let replies = replies.clone();
            async move {
                let echo = Packet::echo(packet.message_id, packet.payload);
                replies.send(session_id, echo).await?;
                Ok(())
            }
        });
        server
            .on_request(|_, request| async move { Ok(Packet::response(request.payload)) })
            .await?;
        let serving = tokio::spawn({
            let server = server.clone();
            async move { server.serve().await }
        });

        let client = protocol.client(&server).build().await?;
        let mut events = client.events();
        client.connect().await?;
        client.send(Packet::text("Hello")).await?;
        let packet = crate::support::next_message(&mut events).await;
        assert_eq!(packet.payload, "Hello");
        assert_eq!(client.request("question").await?.payload, "question");

        let sessions = server.active_sessions().await;
        assert_eq!(sessions.len(), 1);
        let report = server.broadcast(Packet::text("news")).await?;
        assert_eq!((report.queued, report.full, report.failed), (1, 0, 0));
        let packet = crate::support::next_message(&mut events).await;
        assert_eq!(packet.payload, "news");

        server.close_session(sessions[0]).await?;
        let reason = crate::support::next_close(&mut events).await;
        assert_eq!(reason.code, msgtrans::Code::NORMAL);
        let report = server.graceful_shutdown().await;
        assert!(report.is_clean(), "{report:?}");
        serving.await??;
        Ok(())
    }
    .await;
    outcome.expect("every name works");
}
