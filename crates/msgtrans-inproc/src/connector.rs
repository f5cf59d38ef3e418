//! Dialling: a fresh pair of connections, one of them left with the listener.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::io;

use msgtrans_core::{ConnectError, WireVersions};
use msgtrans_transport::{BoxFuture, Connection, Connector, DialContext, ProtocolConfig};

use crate::InprocClientConfig;
use crate::connection::InprocConnection;
use crate::listener::find;

impl Connector for InprocClientConfig {
    fn connect<'a>(
        &'a self,
        context: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            self.validate()?;
            let refused = || ConnectError::Io {
                endpoint: self.endpoint().to_string(),
                source: io::ErrorKind::ConnectionRefused.into(),
            };
            let listener = find(&self.name).ok_or_else(refused)?;
            let (ours, theirs) =
                InprocConnection::pair(&self.name, context.limits, listener.limits);
            // Waits while the backlog is full; the caller bounds the time, and dropping the future drops both ends.
            listener.backlog.send(theirs).await.map_err(|_| refused())?;
            Ok(Box::new(ours) as Box<dyn Connection>)
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        Some(WireVersions::V2)
    }
}
