//! Closures as handlers: one takes messages, one takes requests. Their futures are as static as a [`Handler`]'s.

use std::future::Future;
use std::marker::PhantomData;

use msgtrans_core::{HandlerError, Packet, SessionId};

use crate::handler::Handler;
use crate::session::Session;

/// A closure that takes one-way messages.
pub struct MessageFn<F, Fut> {
    function: F,
    future: PhantomData<fn() -> Fut>,
}

/// A closure that answers requests.
pub struct RequestFn<F, Fut> {
    function: F,
    future: PhantomData<fn() -> Fut>,
}

impl<F, Fut> MessageFn<F, Fut>
where
    F: Fn(SessionId, Packet) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    /// The closure as a handler.
    pub fn new(function: F) -> Self {
        Self {
            function,
            future: PhantomData,
        }
    }
}

impl<F, Fut> RequestFn<F, Fut>
where
    F: Fn(SessionId, Packet) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Packet, HandlerError>> + Send + 'static,
{
    /// The closure as a handler.
    pub fn new(function: F) -> Self {
        Self {
            function,
            future: PhantomData,
        }
    }
}

impl<F, Fut> Handler for MessageFn<F, Fut>
where
    F: Fn(SessionId, Packet) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    fn on_message(
        &self,
        session: &Session,
        packet: Packet,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        (self.function)(session.id(), packet)
    }
}

impl<F, Fut> Handler for RequestFn<F, Fut>
where
    F: Fn(SessionId, Packet) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Packet, HandlerError>> + Send + 'static,
{
    fn on_request(
        &self,
        session: &Session,
        request: Packet,
    ) -> impl Future<Output = Result<Packet, HandlerError>> + Send {
        (self.function)(session.id(), request)
    }
}

impl<F, Fut> std::fmt::Debug for MessageFn<F, Fut> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageFn")
    }
}

impl<F, Fut> std::fmt::Debug for RequestFn<F, Fut> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RequestFn")
    }
}
