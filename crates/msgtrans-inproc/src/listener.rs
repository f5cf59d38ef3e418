//! Listening: a name in a table of the process, and the queue of those who dialled it.
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

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use msgtrans_core::{BindError, Limits, WireVersions};
use msgtrans_transport::{
    AcceptError, BoxFuture, Endpoint, Incoming, ListenContext, Listener, ProtocolConfig,
    ServerProtocol,
};
use tokio::sync::mpsc;

use crate::connection::InprocConnection;
use crate::{InprocServerConfig, SCHEME};

/// Where to leave a connection for the listener of a name, and within which limits it reads its first packet.
#[derive(Clone)]
pub(crate) struct Dialled {
    pub(crate) backlog: mpsc::Sender<InprocConnection>,
    pub(crate) limits: Limits,
}

/// Every name that is listened under now. A listener takes its name out when it goes.
static NAMES: Mutex<Option<HashMap<String, Dialled>>> = Mutex::new(None);

fn names() -> MutexGuard<'static, Option<HashMap<String, Dialled>>> {
    // Nothing panics while the lock is held.
    NAMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The listener of `name`, if there is one.
pub(crate) fn find(name: &str) -> Option<Dialled> {
    names().as_ref()?.get(name).cloned()
}

impl ServerProtocol for InprocServerConfig {
    fn bind<'a>(
        &'a self,
        context: &'a ListenContext,
    ) -> BoxFuture<'a, Result<Box<dyn Listener>, BindError>> {
        Box::pin(async move {
            let fail = |source| BindError {
                endpoint: self.endpoint().to_string(),
                source,
            };
            self.validate()
                .map_err(|error| fail(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            let (backlog, waiting) = mpsc::channel(self.backlog);
            match names().get_or_insert_default().entry(self.name.clone()) {
                Entry::Occupied(_) => return Err(fail(io::ErrorKind::AddrInUse.into())),
                Entry::Vacant(free) => {
                    free.insert(Dialled {
                        backlog,
                        limits: context.limits,
                    });
                }
            }
            Ok(Box::new(NameListener {
                name: self.name.clone(),
                waiting,
            }) as Box<dyn Listener>)
        })
    }

    // There is no version 1 in process, so silence never means a peer of that version.
    fn wire(&self) -> Option<WireVersions> {
        Some(WireVersions::V2)
    }
}

struct NameListener {
    name: String,
    waiting: mpsc::Receiver<InprocConnection>,
}

impl Listener for NameListener {
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<Incoming, AcceptError>> {
        self.waiting
            .poll_recv(cx)
            .map(|connection| match connection {
                // There is no handshake below the session; otherwise this would be an `Incoming::Handshake`.
                Some(connection) => Ok(Incoming::Connection(Box::new(connection))),
                // The table holds a sender for as long as the listener lives.
                None => Err(AcceptError::Fatal(io::ErrorKind::NotConnected.into())),
            })
    }

    fn local_endpoint(&self) -> Endpoint {
        Endpoint::new(SCHEME, &self.name, None)
    }
}

impl Drop for NameListener {
    fn drop(&mut self) {
        let gone = names().as_mut().and_then(|names| names.remove(&self.name));
        // After the lock: connections that nobody accepted are dropped with the receiver, and their peers woken.
        drop(gone);
    }
}
