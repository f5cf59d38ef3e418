//! A chat: what one says, all see. Server push and broadcast.

use msgtrans::{
    EventStream, Packet, SessionId, TransportClient, TransportError, TransportEvent,
    TransportServer,
};

/// Longer lines are cut, so that nobody can fill everybody's queue at once.
const LINE_MAX: usize = 1024;

/// A chat server that listens at `url` and runs in the background until it is shut down.
///
/// # Errors
/// A URL that is none, an address that is taken.
pub async fn start(url: &str) -> Result<TransportServer, TransportError> {
    let server = TransportServer::builder()
        .with_protocol(url)
        .build()
        .await?;
    let mut events = server.events();
    let room = server.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Err(error) = handle(&room, event).await {
                println!("{error}");
            }
        }
    });
    server.start()?;
    Ok(server)
}

async fn handle(room: &TransportServer, event: TransportEvent) -> Result<(), TransportError> {
    match event {
        TransportEvent::ConnectionEstablished { session_id, .. } => {
            let others = room.session_count().saturating_sub(1);
            greet(room, session_id, others);
            say(room, format!("* {session_id} has come")).await?;
        }
        TransportEvent::MessageReceived { session_id, packet } => {
            let text = packet.payload_as_string().unwrap_or_default();
            let text: String = text.chars().take(LINE_MAX).collect();
            say(room, format!("{session_id}: {text}")).await?;
        }
        TransportEvent::ConnectionClosed { session_id, .. } => {
            say(room, format!("* {session_id} has left")).await?;
        }
        _ => {}
    }
    Ok(())
}

/// Only the newcomer sees this. Without waiting, because one who does not read must not hold up the loop.
fn greet(room: &TransportServer, newcomer: SessionId, others: usize) {
    let greeting = Packet::text(format!("* you are {newcomer}, {others} others are here"));
    if let Some(session) = room.session(newcomer)
        && let Err(error) = session.try_send(greeting)
    {
        println!("{newcomer}: {error}");
    }
}

/// Everybody sees this. It is encoded once; who reads too slowly loses it, and the others do not wait.
async fn say(room: &TransportServer, line: String) -> Result<(), TransportError> {
    println!("{line}");
    let report = room.broadcast(Packet::text(line)).await?;
    if report.full > 0 {
        println!("{} read too slowly and did not get it", report.full);
    }
    Ok(())
}

/// Joins the chat at `url`: a handle to speak with, and the events to listen to.
///
/// # Errors
/// What connecting failed with.
pub async fn join(url: &str) -> Result<(TransportClient, EventStream), TransportError> {
    let client = TransportClient::builder()
        .with_protocol(url)
        .build()
        .await?;
    client.connect().await?;
    let events = client.events();
    Ok((client, events))
}

/// The next line that the chat shows; `None` when it is over. A lost session is dialled again meanwhile.
pub async fn next_line(events: &mut EventStream) -> Option<String> {
    while let Some(event) = events.next().await {
        match event {
            TransportEvent::MessageReceived { packet, .. } => {
                return Some(packet.payload_as_string().unwrap_or_default());
            }
            TransportEvent::Reconnecting { delay, .. } => {
                return Some(format!(
                    "* the connection is lost, trying again in {delay:?}"
                ));
            }
            _ => {}
        }
    }
    None
}
