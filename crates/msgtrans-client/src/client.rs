//! [`TransportClient`]: one endpoint, one session at a time, and what can be done with it.

use std::future::{Future, IntoFuture, Ready, ready};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use msgtrans_core::{
    CloseReason, Code, ConfigError, HandlerError, Packet, SendError, SendErrorKind, SessionId,
    TransportError,
};
use msgtrans_session::{
    EventStream, MessageFn, RequestFn, RequestFuture, Session, TransportStats, in_handler, service,
};
use msgtrans_transport::Schemes;

use crate::builder::TransportClientBuilder;
use crate::inner::{Consumers, Inner, Settings};
use crate::supervisor::{first, stopped, supervise};

/// A client. Cheap to clone; every clone is the same client.
///
/// Made by [`TransportClientBuilder`]; [`connect`](Self::connect) dials. A session that the network takes, or a server
/// that is going away, is dialled again unless the builder said otherwise; the events tell. While there is no session,
/// whatever is sent fails at once and the packet comes back: nothing is buffered, so nothing is sent late or twice.
///
/// When the last handle is gone the session ends with a Goodbye in the background. A closure or handler that holds a
/// handle of its own client keeps it connected until [`disconnect`](Self::disconnect).
pub struct TransportClient<S> {
    handle: Arc<Handle>,
    schemes: PhantomData<fn() -> S>,
}

/// Shared by every handle, not by the client's own tasks.
struct Handle(Arc<Inner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What [`TransportClient::on_message`] and [`on_request`](TransportClient::on_request) return: awaiting it tells
/// whether the closure was taken. [`connect`](TransportClient::connect) tells it too.
#[derive(Debug)]
pub struct Registered(Result<(), ConfigError>);

impl IntoFuture for Registered {
    type Output = Result<(), TransportError>;
    type IntoFuture = Ready<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        ready(self.0.map_err(TransportError::from))
    }
}

impl<S> Clone for TransportClient<S> {
    fn clone(&self) -> Self {
        Self {
            handle: self.handle.clone(),
            schemes: PhantomData,
        }
    }
}

impl<S> std::fmt::Debug for TransportClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransportClient")
            .field("endpoint", &self.handle.0.endpoint())
            .field("session", &self.handle.0.session())
            .finish_non_exhaustive()
    }
}

impl<S: Schemes> TransportClient<S> {
    /// The start of every client.
    pub fn builder() -> TransportClientBuilder<S> {
        TransportClientBuilder::new()
    }
}

impl<S> TransportClient<S> {
    pub(crate) fn new(settings: Settings, consumers: Consumers) -> Self {
        Self {
            handle: Arc::new(Handle(Arc::new(Inner::new(settings, consumers)))),
            schemes: PhantomData,
        }
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.handle.0
    }

    /// Takes one-way messages: `client.on_message(|session_id, packet| async move { Ok(()) })`, with or without
    /// awaiting it. Set before [`connect`](Self::connect); requests and everything else go to
    /// [`events`](Self::events).
    pub fn on_message<F, Fut>(&self, function: F) -> Registered
    where
        F: Fn(SessionId, Packet) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
    {
        let taker = service(MessageFn::new(function));
        Registered(
            self.inner()
                .register("on_message", |consumers| consumers.messages.replace(taker)),
        )
    }

    /// Answers requests: `client.on_request(|session_id, request| async move { Ok(Packet::response("…")) })`.
    pub fn on_request<F, Fut>(&self, function: F) -> Registered
    where
        F: Fn(SessionId, Packet) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Packet, HandlerError>> + Send + 'static,
    {
        let taker = service(RequestFn::new(function));
        Registered(
            self.inner()
                .register("on_request", |consumers| consumers.requests.replace(taker)),
        )
    }

    /// The events that no closure or handler takes. May be taken at any time, once; what came before waits within the
    /// bound. The stream ends when the client has been disconnected, the server has ended the session for good, or the
    /// last handle is gone; after it, another call gives the events of the next [`connect`](Self::connect). A second
    /// call before that gives a stream with one error in it.
    pub fn events(&self) -> EventStream {
        self.inner().events()
    }

    /// Dials until there is a session or nothing is left to try.
    ///
    /// # Errors
    /// What the last attempt failed with; see [`ConnectError`](msgtrans_core::ConnectError) for what was tried again.
    /// A client that is connected, connecting or reconnecting says so and goes on. A closure that could not be set.
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt; the client is as it was before the call.
    pub async fn connect(&self) -> Result<(), TransportError> {
        let starting = self.inner().begin()?;
        let session = first(self.inner(), &starting.run).await?;
        let run = starting.run.clone();
        if !starting.succeed() {
            session.close(Code::NORMAL, "");
            return Err(stopped().into());
        }
        tokio::spawn(supervise(self.inner().clone(), run, session));
        Ok(())
    }

    /// Ends the session in good order: what is queued is written, then Goodbye, and the server has closed too or had
    /// its time. Stops reconnecting and connecting. Without a session there is nothing to do.
    ///
    /// Inside a handler of this client it returns at once, and the session ends after it.
    ///
    /// # Errors
    /// None today: a server that is gone counts as disconnected.
    ///
    /// # Cancel safety
    /// Once polled the client disconnects, whether it is awaited or not.
    pub async fn disconnect(&self) -> Result<(), TransportError> {
        if let Some(run) = self.inner().stop()
            && !in_handler()
        {
            run.ended.wait().await;
        }
        Ok(())
    }

    /// Sends a one-way message; resolves when it is queued. Waits for room up to the `send_timeout`.
    ///
    /// # Errors
    /// The packet comes back with the reason; without a session at once, as [`SendErrorKind::Closed`]. A packet that
    /// was queued on a session that is lost afterwards is lost with it: [`send_confirmed`](Self::send_confirmed) tells.
    ///
    /// # Cancel safety
    /// Dropping the future while it waits for room takes the packet back.
    pub async fn send(&self, packet: impl Into<Packet>) -> Result<(), SendError> {
        let (session, packet) = self.session_for(packet)?;
        session.send(packet).await
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// As [`send`](Self::send); a full queue hands the packet back at once.
    pub fn try_send(&self, packet: impl Into<Packet>) -> Result<(), SendError> {
        let (session, packet) = self.session_for(packet)?;
        session.try_send(packet)
    }

    /// Another name of [`try_send`](Self::try_send).
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn send_nowait(&self, packet: impl Into<Packet>) -> Result<(), SendError> {
        self.try_send(packet)
    }

    /// Sends and waits until the protocol has taken the bytes; see [`Session::send_confirmed`].
    ///
    /// # Errors
    /// As [`send`](Self::send); and [`SendErrorKind::Unconfirmed`] when the connection was lost first.
    ///
    /// # Cancel safety
    /// Once queued the packet is sent all the same.
    pub async fn send_confirmed(&self, packet: impl Into<Packet>) -> Result<(), SendError> {
        let (session, packet) = self.session_for(packet)?;
        session.send_confirmed(packet).await
    }

    /// Makes a request and waits for the response up to the `request_timeout`, on the session of the moment of the call.
    ///
    /// # Errors
    /// See [`RequestError`](msgtrans_core::RequestError); without a session the packet comes back at once. A request
    /// whose session is lost fails as [`RequestError::Closed`](msgtrans_core::RequestError::Closed) and is never repeated
    /// by itself: the server may have acted on it.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request at the server (version 2).
    pub fn request(&self, packet: impl Into<Packet>) -> RequestFuture {
        match self.session_for(packet) {
            Ok((session, packet)) => RequestFuture::over(session, packet, None),
            Err(error) => RequestFuture::failed(error.into()),
        }
    }

    /// Makes a request and waits for the response up to `deadline`; [`Duration::MAX`] waits as long as the session
    /// lives.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As [`request`](Self::request).
    pub fn request_with(&self, packet: impl Into<Packet>, deadline: Duration) -> RequestFuture {
        match self.session_for(packet) {
            Ok((session, packet)) => RequestFuture::over(session, packet, Some(deadline)),
            Err(error) => RequestFuture::failed(error.into()),
        }
    }

    /// Bound to the session of the moment: a packet never ends up on a later one.
    fn session_for(&self, packet: impl Into<Packet>) -> Result<(Session, Packet), SendError> {
        let packet = packet.into();
        match self.inner().session() {
            Some(session) => Ok((session, packet)),
            None => Err(SendError::new(
                SendErrorKind::Closed(self.inner().absent()),
                packet,
            )),
        }
    }

    /// Whether there is a session that packets can be sent on.
    pub fn is_connected(&self) -> bool {
        self.session().is_some_and(|session| session.is_connected())
    }

    /// The session of the moment; `None` before the first, between two, and after the last.
    pub fn session(&self) -> Option<Session> {
        self.inner().session()
    }

    /// The name that the server gave the session of the moment.
    pub fn session_id(&self) -> Option<SessionId> {
        self.session().map(|session| session.id())
    }

    /// Why the session ends or the last one has ended; `None` while it lives and before the first.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.inner().close_reason()
    }

    /// What all sessions of this client have done so far.
    pub fn stats(&self) -> TransportStats {
        self.inner().stats.snapshot()
    }
}
