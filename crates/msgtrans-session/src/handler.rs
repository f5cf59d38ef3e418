//! [`Handler`]: the user's code, one trait for server and client.

use std::future::Future;

use bytes::Bytes;
use msgtrans_core::{CloseReason, Code, HandlerError, Packet, WireVersion};

use crate::session::Session;

/// What a peer presents when it connects.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// The wire version of the session.
    pub version: WireVersion,
    /// The token of a version 2 Hello, for this side's authenticator.
    pub auth: Option<Bytes>,
    /// Name and version of the peer's software.
    pub agent: Option<String>,
}

impl ConnectRequest {
    pub(crate) fn new(version: WireVersion, auth: Option<Bytes>, agent: Option<String>) -> Self {
        Self {
            version,
            auth,
            agent,
        }
    }
}

impl std::fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            version,
            auth,
            agent,
        } = self;
        f.debug_struct("ConnectRequest")
            .field("version", version)
            .field("auth", &Redacted::of(auth))
            .field("agent", agent)
            .finish()
    }
}

/// What stands for a token in `Debug`: that there is one, never what it is.
pub(crate) struct Redacted(Option<usize>);

impl Redacted {
    pub(crate) fn of(token: &Option<Bytes>) -> Self {
        Self(token.as_ref().map(Bytes::len))
    }
}

impl std::fmt::Debug for Redacted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(len) => write!(f, "<{len} bytes, redacted>"),
            None => f.write_str("None"),
        }
    }
}

/// Why a peer may not connect. It goes into the Goodbye.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs; [`Code::UNAUTHORIZED`] by default.
    pub code: Code,
    /// For people.
    pub reason: String,
    /// When the peer may come back.
    pub retry_after: Option<std::time::Duration>,
}

impl Refusal {
    /// Refuses for want of authority.
    pub fn unauthorized(reason: impl Into<String>) -> Self {
        Self::new(Code::UNAUTHORIZED, reason)
    }

    /// Refuses with a code.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            retry_after: None,
        }
    }
}

impl<E: std::error::Error> From<E> for Refusal {
    /// An authenticator that fails refuses; its words stay out of the Goodbye.
    fn from(_: E) -> Self {
        Self::new(Code::INTERNAL, "the authenticator failed")
    }
}

/// The user's code behind every session, the same for servers and clients, for every protocol.
///
/// Futures run inside the session's own task: what they send leaves in the same write as the other replies of the
/// batch, and while one waits only its own lane waits. They may call anything from inside: send to their own session,
/// make requests of the very peer that waits for them, close themselves, shut the server down. A panic ends that one
/// session.
///
/// ```
/// use msgtrans_session::{Handler, HandlerError, Packet, Session};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
///         session.send(Packet::echo(packet.message_id, packet.payload)).await?;
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + Sync + 'static {
    /// Decides whether the peer may open a session. Runs before the Welcome; nothing of the peer's is handled before
    /// it has decided. Clients do not ask it.
    ///
    /// # Errors
    /// A [`Refusal`], which goes to the peer.
    ///
    /// # Cancel safety
    /// Dropped when the handshake deadline passes. Nothing is read meanwhile, so a peer that goes away keeps its place until
    /// the decision or the deadline.
    fn on_connect(
        &self,
        session: &Session,
        request: &ConnectRequest,
    ) -> impl Future<Output = Result<(), Refusal>> + Send {
        let _ = (session, request);
        std::future::ready(Ok(()))
    }

    /// A one-way message. The next one waits until this future is done.
    ///
    /// # Errors
    /// Counted, reported as an event, and the session goes on.
    ///
    /// # Cancel safety
    /// Dropped when the session is closed by this side or lost; finish what must not be lost in a task of your own.
    fn on_message(
        &self,
        session: &Session,
        packet: Packet,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        let _ = (session, packet);
        std::future::ready(Ok(()))
    }

    /// A request; what it returns is the response. Requests run beside each other, up to the session's bound.
    ///
    /// # Errors
    /// Answered with a Failure that carries the error's code and words (version 1 peers get silence).
    ///
    /// # Cancel safety
    /// Dropped when the requester no longer waits, or the session ends.
    fn on_request(
        &self,
        session: &Session,
        request: Packet,
    ) -> impl Future<Output = Result<Packet, HandlerError>> + Send {
        let _ = (session, request);
        std::future::ready(Err(HandlerError::with_code(
            Code::UNSUPPORTED,
            "this side answers no requests",
        )))
    }

    /// The session has ended; called once for each session that opened.
    ///
    /// # Cancel safety
    /// Dropped when it has not ended within the session's `send_timeout`.
    fn on_disconnect(
        &self,
        session: &Session,
        reason: &CloseReason,
    ) -> impl Future<Output = ()> + Send {
        let _ = (session, reason);
        std::future::ready(())
    }
}

#[cfg(test)]
mod tests {
    //! Secrets stay out of what is printed.

    use super::*;
    use crate::config::SessionConfig;

    #[test]
    fn tokens_are_never_printed() {
        let token = Bytes::from_static(b"canary-secret");
        let request = ConnectRequest::new(WireVersion::V2, Some(token.clone()), None);
        let config = SessionConfig {
            auth: Some(token),
            ..SessionConfig::default()
        };
        for text in [format!("{request:?}"), format!("{config:?}")] {
            assert!(
                !text.contains("canary") && !text.contains("99, 97, 110"),
                "{text}"
            );
            assert!(text.contains("<13 bytes, redacted>"), "{text}");
        }
    }
}
