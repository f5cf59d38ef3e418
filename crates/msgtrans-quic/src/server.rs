//! [`QuicServerConfig`]: where and how to listen, typed and as a URL.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use msgtrans_core::{ConfigError, WireVersions};
use msgtrans_tls::{Identity, ServerTls, TlsError};
use msgtrans_transport::{Endpoint, ProtocolConfig};

use crate::tuning::{Tuning, tuning_knobs};
use crate::{UdpOffloads, address_of, display_address, parse_address, put_wire, socket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Open handshakes of peers whose address nobody has proved.
const RETRY_ABOVE: u32 = 256;

/// Where and how to listen for QUIC connections.
///
/// Without [`with_pem_files`](Self::with_pem_files) or [`with_identity`](Self::with_identity) a development
/// certificate is made at each bind, and its pin is logged.
///
/// ```
/// use msgtrans_quic::QuicServerConfig;
/// use msgtrans_transport::{Endpoint, ProtocolConfig};
///
/// let typed = QuicServerConfig::new("0.0.0.0:8082").stream_window(1 << 20);
/// typed.validate()?;
/// let url = Endpoint::parse("quic://0.0.0.0:8082?stream_window=1048576")?;
/// assert_eq!(QuicServerConfig::from_endpoint(&url)?.endpoint(), typed.endpoint());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct QuicServerConfig {
    address: String,
    identity: IdentitySource,
    pub(crate) tuning: Tuning,
    pub(crate) migration: bool,
    pub(crate) backlog: u32,
    pub(crate) retry_above: u32,
    pub(crate) wire: Option<WireVersions>,
    /// Shared by clones: a server is given one, and another asks what became of it.
    bound: Arc<Mutex<Option<UdpOffloads>>>,
}

/// Where the certificate comes from.
#[derive(Clone, Debug)]
enum IdentitySource {
    Development,
    Files { cert: PathBuf, key: PathBuf },
    Given(Identity),
}

impl QuicServerConfig {
    /// Listens at `host:port`; a port of 0 is given by the system. A bad address is an error of
    /// [`validate`](ProtocolConfig::validate) and of binding.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            identity: IdentitySource::Development,
            tuning: Tuning::default(),
            migration: false,
            backlog: BACKLOG,
            retry_above: RETRY_ABOVE,
            wire: None,
            bound: Arc::default(),
        }
    }

    /// Reads a URL: `quic://host:port` with the options `cert` and `key` (PEM files), `preset` (`lan`, `wan`,
    /// `lossy`), `wire` (`v1`, `v2`, `auto`),
    /// `max_idle_timeout`, `keep_alive` (`30s`), `stream_window`, `connection_window`, `send_window`, `mtu`,
    /// `udp_buffer` (bytes), `congestion` (`cubic`, `bbr`, `new_reno`), `migration`, `backlog` and `retry_above`.
    ///
    /// # Errors
    /// Another scheme, no port, a path, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let mut this = Self::new(address_of(endpoint)?);
        let mut options = endpoint.options();
        let cert: Option<PathBuf> = options.take("cert", "a PEM file")?;
        let key: Option<PathBuf> = options.take("key", "a PEM file")?;
        this.identity = match (cert, key) {
            (None, None) => IdentitySource::Development,
            (Some(cert), Some(key)) => IdentitySource::Files { cert, key },
            (Some(cert), None) => {
                return Err(ConfigError::new(
                    "cert",
                    cert.display(),
                    "needs key beside it",
                ));
            }
            (None, Some(key)) => {
                return Err(ConfigError::new(
                    "key",
                    key.display(),
                    "needs cert beside it",
                ));
            }
        };
        this.tuning = this.tuning.take(&mut options)?;
        let connections = "a number of connections";
        if let Some(backlog) = options.take("backlog", connections)? {
            this.backlog = backlog;
        }
        if let Some(retry_above) = options.take("retry_above", connections)? {
            this.retry_above = retry_above;
        }
        if let Some(migration) = options.take("migration", "true or false")? {
            this.migration = migration;
        }
        this.wire = options.take("wire", "v1, v2 or auto")?;
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    /// Shows the certificate chain in the PEM file `cert` (own certificate first), whose private key is in `key`. The
    /// files are read when the listener is bound; a key that others can read is refused.
    #[must_use]
    pub fn with_pem_files(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = IdentitySource::Files {
            cert: cert.into(),
            key: key.into(),
        };
        self
    }

    /// Shows this identity.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = IdentitySource::Given(identity);
        self
    }

    /// Shows a self-signed certificate for localhost and the loopback addresses, made when the listener is bound; the
    /// default. Clients know it by the pin that is logged.
    #[must_use]
    pub fn development(mut self) -> Self {
        self.identity = IdentitySource::Development;
        self
    }

    tuning_knobs!();

    /// What the system does for the UDP socket that this value or a clone of it has bound last. Before there is one, one
    /// like it is opened for the answer, and closed.
    ///
    /// # Errors
    /// No UDP socket can be opened on loopback.
    pub fn offloads(&self) -> io::Result<UdpOffloads> {
        // A value of its own, whole at any time.
        let bound = *self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.map_or_else(|| socket::probe(&self.tuning), Ok)
    }

    /// Keeps what the system does for the socket of a listener.
    pub(crate) fn note(&self, offloads: Option<UdpOffloads>) {
        *self.bound.lock().unwrap_or_else(PoisonError::into_inner) = offloads;
    }

    /// Whether a client may go on from another address, as when a phone changes networks; off by default.
    #[must_use]
    pub fn migration(mut self, migration: bool) -> Self {
        self.migration = migration;
        self
    }

    /// Connections that may wait to be accepted, 1 to 65 535; 1 024 by default. More are ignored
    /// until there is room, and try again by themselves. Each may keep 16 KiB of what its client sends early.
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Open handshakes of clients that have not proved their address, 1 to 65 535; 256 by default. Beyond them a new
    /// client must prove it first (Retry), which costs it a round trip and a forger everything.
    #[must_use]
    pub fn retry_above(mut self, connections: u32) -> Self {
        self.retry_above = connections;
        self
    }

    /// The wire versions that this listener accepts; those of the server by default.
    #[must_use]
    pub fn wire(mut self, wire: WireVersions) -> Self {
        self.wire = Some(wire);
        self
    }

    /// The address as an endpoint without options.
    pub(crate) fn address(&self) -> Result<Endpoint, ConfigError> {
        parse_address(&self.address)
    }

    /// What the listener shows; reads the files.
    pub(crate) fn tls(&self) -> Result<ServerTls, TlsError> {
        let identity = match &self.identity {
            IdentitySource::Given(identity) => identity.clone(),
            IdentitySource::Files { cert, key } => Identity::from_pem_files(cert, key)?,
            IdentitySource::Development => {
                let identity = Identity::development()?;
                tracing::info!(
                    address = %self.address,
                    pin = %identity.spki_pin(),
                    "shows a development certificate"
                );
                identity
            }
        };
        Ok(ServerTls::new(identity))
    }
}

impl ProtocolConfig for QuicServerConfig {
    fn endpoint(&self) -> Endpoint {
        let mut endpoint = display_address(&self.address);
        if let IdentitySource::Files { cert, key } = &self.identity {
            endpoint = endpoint
                .with_option("cert", cert.display())
                .with_option("key", key.display());
        }
        endpoint = self.tuning.put(&Tuning::default(), endpoint);
        if self.backlog != BACKLOG {
            endpoint = endpoint.with_option("backlog", self.backlog);
        }
        if self.retry_above != RETRY_ABOVE {
            endpoint = endpoint.with_option("retry_above", self.retry_above);
        }
        if self.migration {
            endpoint = endpoint.with_option("migration", true);
        }
        put_wire(endpoint, self.wire)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.address()?;
        self.tuning.validate()?;
        for (field, value) in [("backlog", self.backlog), ("retry_above", self.retry_above)] {
            if !(1..=65_535).contains(&value) {
                return Err(ConfigError::new(field, value, "must be from 1 to 65535"));
            }
        }
        Ok(())
    }
}
