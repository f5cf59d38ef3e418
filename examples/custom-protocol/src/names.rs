//! What stands for a network here: names that are listened under, and who has dialled them.
//!
//! Nothing in this file is part of a protocol. Over sockets the system has all of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use msgtrans_core::{BindError, ConfigError, ConnectError};
use msgtrans_transport::{AcceptError, Endpoint, ProtocolConfig};
use tokio::sync::mpsc;

/// Peers that wait to be accepted; who dials beyond it waits.
const BACKLOG: usize = 128;

/// Every name of one protocol, and where to leave the far ends of connections to it.
pub(crate) struct Names<T>(Mutex<BTreeMap<String, mpsc::Sender<T>>>);

/// A name that is listened under until this is dropped.
pub(crate) struct Bound<T: Send + 'static> {
    names: &'static Names<T>,
    endpoint: Endpoint,
    waiting: mpsc::Receiver<T>,
}

impl<T: Send> Names<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, mpsc::Sender<T>>> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens under the name of `config`.
    pub(crate) fn bind(&'static self, config: &dyn ProtocolConfig) -> Result<Bound<T>, BindError> {
        let endpoint = config.endpoint().without_options();
        let fail = |source| BindError {
            endpoint: endpoint.to_string(),
            source,
        };
        config
            .validate()
            .map_err(|error| fail(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let (sender, waiting) = mpsc::channel(BACKLOG);
        match self.lock().entry(endpoint.host().to_owned()) {
            Entry::Occupied(_) => return Err(fail(io::ErrorKind::AddrInUse.into())),
            Entry::Vacant(free) => free.insert(sender),
        };
        Ok(Bound {
            names: self,
            endpoint,
            waiting,
        })
    }

    /// Leaves `far_end` with whoever listens under the name of `config`.
    pub(crate) async fn dial(
        &self,
        config: &dyn ProtocolConfig,
        far_end: T,
    ) -> Result<(), ConnectError> {
        config.validate()?;
        let endpoint = config.endpoint();
        let refused = || ConnectError::Io {
            endpoint: endpoint.to_string(),
            source: io::ErrorKind::ConnectionRefused.into(),
        };
        let listener = self.lock().get(endpoint.host()).cloned();
        let listener = listener.ok_or_else(refused)?;
        listener.send(far_end).await.map_err(|_| refused())
    }
}

impl<T: Send> Bound<T> {
    /// The next far end that somebody left.
    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, AcceptError>> {
        self.waiting.poll_recv(cx).map(|far_end| {
            // The table holds a sender for as long as this lives.
            far_end.ok_or_else(|| AcceptError::Fatal(io::ErrorKind::NotConnected.into()))
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl<T: Send> Drop for Bound<T> {
    fn drop(&mut self) {
        self.names.lock().remove(self.endpoint.host());
    }
}

/// The name in a URL of `scheme` that has nothing else in front of its options.
pub(crate) fn name_of(scheme: &str, endpoint: &Endpoint) -> Result<String, ConfigError> {
    let plain = Endpoint::new(scheme, endpoint.host(), None);
    if endpoint.clone().without_options() != plain {
        let expected = format!("must be {scheme}://name");
        return Err(ConfigError::new("endpoint", endpoint, expected));
    }
    Ok(endpoint.host().to_owned())
}

/// A name is what a URL can say, so that a typed configuration and its URL mean the same.
pub(crate) fn check_name(scheme: &str, name: &str) -> Result<(), ConfigError> {
    let read = Endpoint::parse(&format!("{scheme}://{name}"));
    if read.is_ok_and(|url| url == Endpoint::new(scheme, name, None)) {
        return Ok(());
    }
    let expected = "must be a plain word: no space, colon, slash, bracket, '?' or '#'";
    Err(ConfigError::new(
        "name",
        format_args!("\"{name}\""),
        expected,
    ))
}
