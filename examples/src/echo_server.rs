//! The echo server: one event loop for every session of three protocols.

use msgtrans::{
    LoggingMiddleware, Packet, QuicServerConfig, RateLimiterConfig, TcpServerConfig,
    TransportError, TransportEvent, TransportServer, TransportServerBuilder, WebSocketServerConfig,
};

/// A server that listens on `host:port` addresses of three protocols.
///
/// # Errors
/// A setting out of bounds, an address that is taken: binding happens here.
pub async fn build(tcp: &str, ws: &str, quic: &str) -> Result<TransportServer, TransportError> {
    TransportServerBuilder::new()
        .with_protocol(TcpServerConfig::new(tcp))
        .with_protocol(WebSocketServerConfig::new(ws))
        // Without a certificate QUIC shows one of development; `many_protocols` has a client for it.
        .with_protocol(QuicServerConfig::new(quic))
        .max_connections(10000)
        // Its lines go to the `tracing` subscriber of the program, if it installs one.
        .with_middleware(LoggingMiddleware::new())
        .rate_limiter(RateLimiterConfig::new(1000, 100))
        .build()
        .await
}

/// Echoes until the server is shut down.
///
/// # Errors
/// As [`TransportServer::serve`].
pub async fn serve(server: &TransportServer) -> Result<(), TransportError> {
    let mut events = server.events();
    let replies = server.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                TransportEvent::ConnectionEstablished { session_id, info } => {
                    println!(
                        "{session_id} came over {} from {}",
                        info.protocol, info.peer
                    );
                }
                TransportEvent::MessageReceived { session_id, packet } => {
                    let echo = Packet::echo(packet.message_id, packet.payload);
                    // A session that has just closed is no reason to stop serving the others.
                    if let Err(error) = replies.send_to(session_id, echo).await {
                        println!("{session_id}: {error}");
                    }
                }
                TransportEvent::ConnectionClosed { session_id, reason } => {
                    println!("{session_id}: {reason}");
                }
                _ => {}
            }
        }
    });
    server.serve().await
}
