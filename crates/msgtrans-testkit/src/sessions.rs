//! What tests of sessions share: logs that handlers fill, and events that are waited for instead of time.

use std::fmt;
use std::time::Duration;

use msgtrans::custom::TransportServer;
use msgtrans::{
    CloseReason, EventStream, Handler, HandlerError, Packet, Schemes, Session, TransportEvent,
};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::time::{interval, timeout};

/// What handlers leave for a test, which reads it from the other end.
pub struct Log<T>(UnboundedSender<T>);

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Log<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl<T> Log<T> {
    /// A log, and the end where it is read. It has no bound: what a test does not read stays.
    pub fn new() -> (Self, UnboundedReceiver<T>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Adds `what`; nothing happens where the test has ended.
    pub fn put(&self, what: T) {
        let _ = self.0.send(what);
    }
}

/// Puts `"dropped"` into its log when it is dropped: how a handler's future ended.
#[derive(Debug)]
pub struct OnDrop(pub Log<&'static str>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.put("dropped");
    }
}

/// Waits until `done`, for figures and states that no event tells of. The caller bounds the time.
pub async fn until(mut done: impl FnMut() -> bool) {
    /// Long enough for what is already under way.
    const YIELDS: usize = 100;
    for _ in 0..YIELDS {
        if done() {
            return;
        }
        tokio::task::yield_now().await;
    }
    // From here on without taking the processor from what is waited for.
    let mut looks = interval(Duration::from_millis(1));
    while !done() {
        looks.tick().await;
    }
}

/// The server's side of the only session, once it is there. The caller bounds the time.
pub async fn only_session<S: Schemes>(server: &TransportServer<S>) -> Session {
    until(|| server.session_count() > 0).await;
    loop {
        if let Some(id) = server.active_sessions().await.first()
            && let Some(session) = server.session(*id)
        {
            return session;
        }
        tokio::task::yield_now().await;
    }
}

/// The next message; other events are passed over.
///
/// # Panics
/// The session or the stream ends before it.
pub async fn next_message(events: &mut EventStream) -> Packet {
    loop {
        match events.next().await.expect("an event") {
            TransportEvent::MessageReceived { packet, .. } => return packet,
            TransportEvent::ConnectionClosed { reason, .. } => panic!("closed: {reason}"),
            _ => {}
        }
    }
}

/// How the next session that ends has ended; other events are passed over.
///
/// # Panics
/// The stream ends before it.
pub async fn next_close(events: &mut EventStream) -> CloseReason {
    loop {
        if let TransportEvent::ConnectionClosed { reason, .. } =
            events.next().await.expect("an event")
        {
            return reason;
        }
    }
}

/// How long nothing must have moved before everything counts as stuck. Waiting for longer would make tests stricter and
/// waiting for less would not fail them.
const QUIET: Duration = Duration::from_millis(200);

/// Resolves once `progress` has not changed for a while, or cannot any more.
pub async fn stuck<T>(progress: &mut watch::Receiver<T>) {
    while let Ok(Ok(())) = timeout(QUIET, progress.changed()).await {}
}

/// A message of 64 bytes that holds its number.
pub fn numbered(number: u32) -> Packet {
    let mut payload = vec![0x5A; 64];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    Packet::binary(payload)
}

/// The number of a [`numbered`] message.
///
/// # Panics
/// Where the payload is shorter than a number.
pub fn number_of(packet: &Packet) -> u32 {
    let number = packet.payload.first_chunk();
    u32::from_be_bytes(*number.expect("a number"))
}

/// Echoes every message from its handler.
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        let echo = Packet::echo(packet.message_id, packet.payload);
        session.send(echo).await?;
        Ok(())
    }
}

/// Echoes every message from a task of its own, through the server's handle.
pub fn echo_by_events<S: Schemes>(server: &TransportServer<S>) {
    let mut events = server.events();
    let replies = server.clone();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let TransportEvent::MessageReceived { session_id, packet } = event {
                let echo = Packet::echo(packet.message_id, packet.payload);
                if replies.send_to(session_id, echo).await.is_err() {
                    return;
                }
            }
        }
    });
}
