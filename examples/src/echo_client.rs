//! The echo client: connect, send, read events, disconnect.

use std::time::Duration;

use msgtrans::{
    Packet, RetryConfig, TcpClientConfig, TransportClient, TransportClientBuilder, TransportError,
    TransportEvent,
};

/// A client for a URL: the scheme picks the protocol.
///
/// # Errors
/// A URL that is none, or with a setting out of bounds. Nothing is dialled yet.
pub async fn client(url: &str) -> Result<TransportClient, TransportError> {
    TransportClient::builder().with_protocol(url).build().await
}

/// A client with a typed configuration that waits for a server which is just starting.
///
/// # Errors
/// As [`client`].
pub async fn patient_client(address: &str) -> Result<TransportClient, TransportError> {
    TransportClientBuilder::new()
        .with_protocol(TcpClientConfig::new(address))
        .connect_timeout(Duration::from_secs(5))
        .retry_strategy(RetryConfig::exponential_backoff(
            3,
            Duration::from_millis(100),
        ))
        .build()
        .await
}

/// Sends `text` and returns the first message that comes back; `None` if the session ends before.
///
/// # Errors
/// What connecting, sending or disconnecting failed with.
pub async fn echo(client: &TransportClient, text: &str) -> Result<Option<String>, TransportError> {
    client.connect().await?;
    client.send(Packet::text(text)).await?;

    let mut answer = None;
    let mut events = client.events();
    while let Some(event) = events.next().await {
        match event {
            TransportEvent::MessageReceived { packet, .. } => {
                answer = packet.payload_as_string();
                break;
            }
            TransportEvent::ConnectionClosed { reason, .. } => {
                println!("{reason}");
                break;
            }
            _ => {}
        }
    }
    client.disconnect().await?;
    Ok(answer)
}
