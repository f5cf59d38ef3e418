//! Listening and dialling: a fresh pipe, one end of it left with the listener.

use std::task::{Context, Poll};

use msgtrans_core::{BindError, ConnectError, Limits, WireVersions};
use msgtrans_transport::{
    AcceptError, BoxFuture, Connection, Connector, DialContext, Endpoint, Incoming, ListenContext,
    Listener, ServerProtocol,
};

use super::ParcelConfig;
use super::connection::ParcelConnection;
use super::pipe::Pipe;
use crate::names::{Bound, Names};

static NAMES: Names<Pipe> = Names::new();

impl ServerProtocol for ParcelConfig {
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            Ok(Box::new(ParcelListener {
                bound: NAMES.bind(self)?,
                config: self.clone(),
                limits: context.limits,
            }) as Box<dyn Listener>)
        })
    }

    // There is no version 1 here, so silence never means a peer of that version.
    fn wire(&self) -> Option<WireVersions> {
        Some(WireVersions::V2)
    }
}

struct ParcelListener {
    bound: Bound<Pipe>,
    config: ParcelConfig,
    limits: Limits,
}

impl Listener for ParcelListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        self.bound.poll_accept(cx).map_ok(|pipe| {
            let connection = ParcelConnection::new(pipe, &self.config, self.limits);
            Incoming::Connection(Box::new(connection))
        })
    }

    fn local_endpoint(&self) -> Endpoint {
        self.bound.endpoint().clone()
    }
}

impl Connector for ParcelConfig {
    fn connect<'a>(
        &'a self,
        context: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            let (ours, theirs) = Pipe::pair();
            NAMES.dial(self, theirs).await?;
            let connection = ParcelConnection::new(ours, self, context.limits);
            Ok(Box::new(connection) as Box<dyn Connection>)
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        Some(WireVersions::V2)
    }
}
