//! The calls that the project promises, spelled as promised. Only ports are free ones here.

use std::time::Duration;

use msgtrans::{
    LoggingMiddleware, Packet, QuicServerConfig, RateLimiterConfig, RetryConfig, TcpClientConfig,
    TcpServerConfig, TransportClient, TransportClientBuilder, TransportError, TransportEvent,
    TransportServerBuilder, WebSocketServerConfig,
};

use crate::{soon, url_of};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
#[expect(clippy::single_match, reason = "the loop is spelled as promised")]
async fn server_and_client_compile_and_run_as_written() -> Outcome {
    let server = TransportServerBuilder::new()
        .with_protocol(TcpServerConfig::new("0.0.0.0:0"))
        .with_protocol(WebSocketServerConfig::new("0.0.0.0:0"))
        .with_protocol(QuicServerConfig::new("0.0.0.0:0"))
        .max_connections(10000)
        .with_middleware(LoggingMiddleware::new())
        .rate_limiter(RateLimiterConfig::new(1000, 100))
        .build()
        .await?;

    let mut events = server.events();
    let replies = server.clone();
    let echoing = tokio::spawn(async move {
        let mut seen = (0, 0);
        while let Some(event) = events.next().await {
            match event {
                TransportEvent::ConnectionEstablished { session_id, .. } => {
                    assert!(session_id.as_u64() > 0);
                    seen.0 += 1;
                }
                TransportEvent::MessageReceived { session_id, packet } => {
                    let echo = Packet::echo(packet.message_id, packet.payload);
                    replies.send_to(session_id, echo).await?;
                }
                TransportEvent::ConnectionClosed { session_id, .. } => {
                    assert!(session_id.as_u64() > 0);
                    seen.1 += 1;
                }
                _ => {}
            }
        }
        Ok::<_, TransportError>(seen)
    });
    let serving = tokio::spawn({
        let server = server.clone();
        async move {
            server.serve().await?;
            Ok::<_, TransportError>(())
        }
    });

    let url = url_of(&server, "tcp").replace("0.0.0.0", "localhost");
    let client = TransportClient::builder()
        .with_protocol(&url)
        .build()
        .await?;
    client.connect().await?;
    client.send(Packet::text("Hello")).await?;
    let mut events = client.events();
    while let Some(event) = soon(events.next()).await {
        match event {
            TransportEvent::MessageReceived { packet, .. } => {
                assert_eq!(packet.payload_as_string().as_deref(), Some("Hello"));
                break;
            }
            _ => {}
        }
    }
    client.disconnect().await?;

    soon(server.shutdown()).await;
    soon(serving).await??;
    assert_eq!(soon(echoing).await??, (1, 1));
    Ok(())
}

#[tokio::test]
async fn closures_broadcast_and_sessions_as_written() -> Outcome {
    let server = TransportServerBuilder::new()
        .with_protocol(TcpServerConfig::new("127.0.0.1:0"))
        .build()
        .await?;
    let (handled, mut messages) = tokio::sync::mpsc::unbounded_channel();
    server
        .on_message(move |session_id, packet| {
            let handled = handled.clone();
            async move {
                handled.send((session_id, packet.payload))?;
                Ok(())
            }
        })
        .await?;
    server.start()?;

    let d = Duration::from_secs(1);
    let address = url_of(&server, "tcp").replace("tcp://", "");
    let client = TransportClientBuilder::new()
        .with_protocol(TcpClientConfig::new(address))
        .connect_timeout(d)
        .retry_strategy(RetryConfig::exponential_backoff(3, d))
        .build()
        .await?;
    let mut events = client.events();
    client.connect().await?;
    client.send(Packet::text("Hello")).await?;

    let ids = server.active_sessions().await;
    assert_eq!(Some(ids[0]), client.session_id());
    assert_eq!(soon(messages.recv()).await, Some((ids[0], "Hello".into())));
    let report = server.broadcast(Packet::text("to all")).await?;
    assert_eq!(report.queued, 1);
    loop {
        let event = soon(events.next()).await.expect("the message comes first");
        if let TransportEvent::MessageReceived { packet, .. } = event {
            assert_eq!(packet.payload, "to all");
            break;
        }
    }
    server.close_session(ids[0]).await?;
    while soon(events.next()).await.is_some() {}

    // Other spellings.
    assert!(server.send(ids[0], Packet::text("gone")).await.is_err());
    assert!(soon(server.graceful_shutdown()).await.is_clean());
    Ok(())
}

#[tokio::test]
async fn other_spellings_of_the_builder_work() -> Outcome {
    let server = TransportServerBuilder::new()
        .with_protocol("tcp://127.0.0.1:0")
        .with_max_connections(100)
        .with_data_compression(true)
        .graceful_shutdown(Duration::from_secs(1))
        .build()
        .await?;
    // Without awaiting it.
    let _ = server.on_message(|_, _| async move { Ok(()) });
    server.start()?;
    server.graceful_shutdown().await;
    Ok(())
}
