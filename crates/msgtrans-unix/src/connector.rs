//! Dialling: a connected socket, also where more dial than a server has accepted.
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
use std::path::Path;
use std::time::Duration;

use msgtrans_core::{ConnectError, ConnectionInfo, PeerAddress, WireVersions};
use msgtrans_transport::{
    BoxFuture, Connection, Connector, DialContext, ProtocolConfig, SharedUnix, StreamConnection,
};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::{SCHEME, UnixClientConfig};

/// The first and the longest pause before a full backlog is tried again.
const AGAIN_AFTER_MIN: Duration = Duration::from_millis(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_millis(50);

impl Connector for UnixClientConfig {
    fn connect<'a>(
        &'a self,
        context: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        Box::pin(async move {
            self.validate()?;
            let stream = dial(self.path()).await.map_err(|source| ConnectError::Io {
                endpoint: self.endpoint().to_string(),
                source,
            })?;
            // A client that offers both versions says in the context which one this attempt is for.
            let accept = match self.wire {
                None | Some(WireVersions::Any) => context.wire,
                Some(one) => one,
            };
            let peer = PeerAddress::Local(self.path().to_string_lossy().into_owned());
            let info = ConnectionInfo::new(SCHEME, peer);
            let connection =
                StreamConnection::new(SharedUnix::new(stream), info, accept, context.limits, false)
                    .with_probe(&crate::PROBE);
            Ok(Box::new(connection) as Box<dyn Connection>)
        })
    }

    fn wire(&self) -> Option<WireVersions> {
        self.wire
    }
}

/// Connects. Where TCP would wait for a place in the backlog, a Unix socket says at once that there is none.
async fn dial(path: &Path) -> io::Result<UnixStream> {
    let mut pause = AGAIN_AFTER_MIN;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(AGAIN_AFTER_MAX);
            }
            connected => return connected,
        }
    }
}
