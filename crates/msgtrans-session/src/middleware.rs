//! [`Middleware`]: what every packet passes, in and out; [`LoggingMiddleware`].

use msgtrans_core::{CloseReason, HandlerError, Packet};

use crate::handler::{ConnectRequest, Refusal};
use crate::session::Session;

/// Looks at connects, packets and closes before the handler does. Synchronous, because it runs per packet: what needs
/// to wait belongs into the handler. Middlewares run in the order they were added, inbound and outbound alike.
///
/// With any middleware a broadcast is encoded once per session instead of once.
pub trait Middleware: Send + Sync + 'static {
    /// A peer wants to open a session.
    ///
    /// # Errors
    /// Refuses it.
    fn on_connect(&self, session: &Session, request: &ConnectRequest) -> Result<(), Refusal> {
        let _ = (session, request);
        Ok(())
    }

    /// A one-way message, request or response has come in, decompressed. May change it.
    ///
    /// # Errors
    /// Keeps the packet from the handler: a request is answered with a Failure, a response fails its waiter, a message
    /// is counted as refused and reported as an event.
    fn on_inbound(&self, session: &Session, packet: &mut Packet) -> Result<(), HandlerError> {
        let _ = (session, packet);
        Ok(())
    }

    /// A packet is about to be queued. May change it.
    ///
    /// # Errors
    /// The sender gets the packet back.
    fn on_outbound(&self, session: &Session, packet: &mut Packet) -> Result<(), HandlerError> {
        let _ = (session, packet);
        Ok(())
    }

    /// A session has ended.
    fn on_close(&self, session: &Session, reason: &CloseReason) {
        let _ = (session, reason);
    }
}

/// Logs through `tracing`: connects and closes at info, packets at trace, never payloads.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoggingMiddleware(());

impl LoggingMiddleware {
    /// A logger.
    pub fn new() -> Self {
        Self(())
    }
}

impl Middleware for LoggingMiddleware {
    fn on_connect(&self, session: &Session, request: &ConnectRequest) -> Result<(), Refusal> {
        let info = session.info();
        tracing::info!(session = %session.id(), protocol = info.protocol, peer = %info.peer, version = ?request.version, "session opens");
        Ok(())
    }

    fn on_inbound(&self, session: &Session, packet: &mut Packet) -> Result<(), HandlerError> {
        tracing::trace!(session = %session.id(), ?packet, "packet in");
        Ok(())
    }

    fn on_outbound(&self, session: &Session, packet: &mut Packet) -> Result<(), HandlerError> {
        tracing::trace!(session = %session.id(), ?packet, "packet out");
        Ok(())
    }

    fn on_close(&self, session: &Session, reason: &CloseReason) {
        tracing::info!(session = %session.id(), %reason, "session closed");
    }
}
