//! One handler on TCP and on both protocols of our own, and a client over each.

use msgtrans::{Endpoint, Handler, HandlerError, Packet, Session, TransportEvent};

use crate::{TransportClient, TransportServer};

/// What can go wrong on the way: whatever it is.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The business code. Nothing in it depends on how a packet came.
#[derive(Debug)]
struct Desk;

impl Handler for Desk {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session
            .send(Packet::echo(packet.message_id, packet.payload))
            .await?;
        Ok(())
    }

    async fn on_request(&self, session: &Session, request: Packet) -> Result<Packet, HandlerError> {
        let name = request.payload_as_string().unwrap_or_default();
        let answer = format!("{name}, you came over {}", session.info().protocol);
        Ok(Packet::response(answer))
    }
}

/// Starts a server on a free TCP port and under `name` in both protocols.
///
/// # Errors
/// The name is taken.
pub async fn start(name: &str) -> Outcome<TransportServer> {
    let server = TransportServer::builder()
        .with_protocol("tcp://127.0.0.1:0")
        .with_protocol(format!("duplex://{name}"))
        .with_protocol(format!("parcel://{name}?message_bytes=16384"))
        .with_handler(Desk)
        .build()
        .await?;
    server.start()?;
    Ok(server)
}

/// Sends a message and a request to `endpoint`; returns the echo and the answer.
///
/// # Errors
/// What connecting, sending or asking failed with, or an end before the echo.
pub async fn visit(endpoint: Endpoint, name: &str) -> Outcome<(String, String)> {
    let client = TransportClient::builder()
        .with_protocol(endpoint)
        .build()
        .await?;
    let mut events = client.events();
    client.connect().await?;
    client
        .send(Packet::text(format!("hello from {name}")))
        .await?;
    let echo = loop {
        match events.next().await.ok_or("the session ended")? {
            TransportEvent::MessageReceived { packet, .. } => break packet,
            TransportEvent::ConnectionClosed { reason, .. } => {
                return Err(reason.to_string().into());
            }
            _ => {}
        }
    };
    let answer = client.request(Packet::request(name.to_owned())).await?;
    client.disconnect().await?;
    let text = |packet: Packet| packet.payload_as_string().unwrap_or_default();
    Ok((text(echo), text(answer)))
}
