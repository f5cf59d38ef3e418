//! [`TcpServerConfig`] and [`TcpClientConfig`]: the same settings typed and as a URL.

use std::time::Duration;

use msgtrans_core::{ConfigError, WireVersions};
#[cfg(feature = "tls")]
use msgtrans_tls::{ClientTls, ServerTls};
use msgtrans_transport::socket::TcpOptions;
use msgtrans_transport::{Endpoint, EndpointOptions, ProtocolConfig};

#[cfg(feature = "tls")]
use crate::tls::{ClientTlsSource, ServerTlsSource};
use crate::{SCHEME, SCHEME_TLS};

/// Where and how to listen for TCP connections, plain or under TLS.
///
/// ```
/// use msgtrans_tcp::TcpServerConfig;
/// use msgtrans_transport::{Endpoint, ProtocolConfig};
///
/// let typed = TcpServerConfig::new("0.0.0.0:8080").nodelay(false).backlog(64);
/// typed.validate()?;
/// let url = Endpoint::parse("tcp://0.0.0.0:8080?nodelay=false&backlog=64")?;
/// assert_eq!(TcpServerConfig::from_endpoint(&url)?.endpoint(), typed.endpoint());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TcpServerConfig {
    address: String,
    pub(crate) options: TcpOptions,
    pub(crate) wire: Option<WireVersions>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ServerTlsSource>,
}

/// Where and how to dial TCP connections, plain or under TLS.
///
/// ```
/// use msgtrans_tcp::TcpClientConfig;
/// use msgtrans_transport::{Endpoint, ProtocolConfig};
///
/// let typed = TcpClientConfig::new("localhost:8080").send_buffer(65_536);
/// typed.validate()?;
/// let url = Endpoint::parse("tcp://localhost:8080?send_buffer=65536")?;
/// assert_eq!(TcpClientConfig::from_endpoint(&url)?.endpoint(), typed.endpoint());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct TcpClientConfig {
    address: String,
    pub(crate) options: TcpOptions,
    pub(crate) wire: Option<WireVersions>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ClientTlsSource>,
}

macro_rules! common_knobs {
    () => {
        /// Whether small writes leave at once instead of waiting for an acknowledgement; on by default.
        #[must_use]
        pub fn nodelay(mut self, nodelay: bool) -> Self {
            self.options.nodelay = nodelay;
            self
        }

        /// Lets the kernel probe a peer that is silent for this long, 1 s to 9 h, cut to whole milliseconds. Off by
        /// default, because version 2 sessions have a heartbeat of their own.
        #[must_use]
        pub fn keepalive(mut self, keepalive: Duration) -> Self {
            // What a URL can say, so that both spellings of a configuration are equal.
            let ms = u64::try_from(keepalive.as_millis()).unwrap_or(u64::MAX);
            self.options.keepalive = Some(Duration::from_millis(ms));
            self
        }

        /// The kernel's send buffer of each connection in bytes, 4 096 to 1 GiB (Linux doubles it for its own
        /// bookkeeping); the kernel's own choice, which adapts, by default.
        #[must_use]
        pub fn send_buffer(mut self, bytes: usize) -> Self {
            self.options.send_buffer = Some(bytes);
            self
        }

        /// The kernel's receive buffer of each connection in bytes, 4 096 to 1 GiB (Linux doubles it for its own
        /// bookkeeping); the kernel's own choice, which adapts, by default.
        #[must_use]
        pub fn recv_buffer(mut self, bytes: usize) -> Self {
            self.options.recv_buffer = Some(bytes);
            self
        }
    };
}

impl TcpServerConfig {
    /// Listens at `host:port`; a port of 0 is given by the system. A bad address is an error of
    /// [`validate`](ProtocolConfig::validate) and of binding.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            options: TcpOptions::default(),
            wire: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Reads a URL: `tcp://host:port`, or `tls://host:port` with the feature `tls`, with the options `nodelay`,
    /// `keepalive` (`30s`), `send_buffer`, `recv_buffer`, `backlog`, `reuse_port` and `wire` (`v1`, `v2`, `auto`); for
    /// `tls` also `cert` and `key`, which are PEM files read when the listener is bound, or `cert=development` for a
    /// certificate of localhost made on the spot, whose pin is logged.
    ///
    /// # Errors
    /// Another scheme, no port, a path, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let mut this = Self::new(address_of(endpoint)?);
        let mut options = endpoint.options();
        this.options = TcpOptions::take_server(&mut options)?;
        this.wire = take_wire(&mut options)?;
        #[cfg(feature = "tls")]
        if endpoint.scheme() == SCHEME_TLS {
            this.tls = Some(ServerTlsSource::take(&mut options)?);
        }
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    common_knobs!();

    /// Connections that may wait to be accepted, 1 to 65 535; 4 096 by default. The system may cut it
    /// (`net.core.somaxconn`).
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.options.backlog = connections;
        self
    }

    /// Whether several sockets may listen on this port, the kernel spreading connections over them; off by default,
    /// and an error on systems without it.
    #[must_use]
    pub fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.options.reuse_port = reuse_port;
        self
    }

    /// The wire versions that this listener accepts; those of the server by default.
    #[must_use]
    pub fn wire(mut self, wire: WireVersions) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Serves over TLS, as `tls://`. There is no URL for settings given here.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(ServerTlsSource::Value(tls));
        self
    }

    /// The address as an endpoint without options.
    pub(crate) fn address(&self) -> Result<Endpoint, ConfigError> {
        Endpoint::from_address(self.scheme(), &self.address)
    }

    pub(crate) fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return SCHEME_TLS;
        }
        SCHEME
    }
}

impl TcpClientConfig {
    /// Dials `host:port`. A bad address is an error of [`validate`](ProtocolConfig::validate) and of dialling.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            options: TcpOptions::default(),
            wire: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Reads a URL: `tcp://host:port`, or `tls://host:port` with the feature `tls`, with the options `nodelay`,
    /// `keepalive` (`30s`), `send_buffer`, `recv_buffer` and `wire` (`v1`, `v2`, `auto`); for `tls` also `ca`, a PEM file
    /// of the authorities to believe, read by the first dial, `pin` (`sha256/…`) of the one key to believe,
    /// `server_name`, and `insecure` (feature `dangerous-insecure`).
    ///
    /// # Errors
    /// Another scheme, no port, a path, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let mut this = Self::new(address_of(endpoint)?);
        let mut options = endpoint.options();
        this.options = TcpOptions::take_client(&mut options)?;
        this.wire = take_wire(&mut options)?;
        #[cfg(feature = "tls")]
        if endpoint.scheme() == SCHEME_TLS {
            this.tls = Some(ClientTlsSource::take(&mut options)?);
        }
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    common_knobs!();

    /// The wire versions that this client offers; those of the client by default. `Any` tries version 2 and falls back
    /// to version 1.
    #[must_use]
    pub fn wire(mut self, wire: WireVersions) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Dials over TLS, as `tls://`. There is no URL for settings given here.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(ClientTlsSource::value(tls));
        self
    }

    /// The address as an endpoint without options.
    pub(crate) fn address(&self) -> Result<Endpoint, ConfigError> {
        Endpoint::from_address(self.scheme(), &self.address)
    }

    fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return SCHEME_TLS;
        }
        SCHEME
    }
}

impl ProtocolConfig for TcpServerConfig {
    fn endpoint(&self) -> Endpoint {
        let endpoint = self
            .options
            .put_server(display(self.scheme(), &self.address));
        #[cfg(feature = "tls")]
        let endpoint = match &self.tls {
            Some(tls) => tls.put(endpoint),
            None => endpoint,
        };
        put_wire(endpoint, self.wire)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.address()?;
        self.options.validate()
    }
}

impl ProtocolConfig for TcpClientConfig {
    fn endpoint(&self) -> Endpoint {
        let endpoint = self
            .options
            .put_client(display(self.scheme(), &self.address));
        #[cfg(feature = "tls")]
        let endpoint = match &self.tls {
            Some(tls) => tls.put(endpoint),
            None => endpoint,
        };
        put_wire(endpoint, self.wire)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let address = self.address()?;
        if address.port() == Some(0) {
            return Err(ConfigError::new(
                "address",
                format_args!("\"{}\"", self.address),
                "must have a port other than 0 to dial",
            ));
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            tls.validate(address.host())?;
        }
        self.options.validate()
    }
}

/// The endpoint of an address, or one that shows an address that is none.
fn display(scheme: &str, address: &str) -> Endpoint {
    Endpoint::from_address(scheme, address).unwrap_or_else(|_| Endpoint::new(scheme, address, None))
}

/// `host:port` of a URL that has nothing else in front of its options.
fn address_of(endpoint: &Endpoint) -> Result<String, ConfigError> {
    let scheme = endpoint.scheme();
    match scheme {
        SCHEME => {}
        // A secure URL never falls back to plain.
        SCHEME_TLS if cfg!(feature = "tls") => {}
        SCHEME_TLS => return Err(ConfigError::new("scheme", scheme, "needs the feature tls")),
        _ => {
            let expected = format!("must be {SCHEME}:// or {SCHEME_TLS}:// here");
            return Err(ConfigError::new("scheme", scheme, expected));
        }
    }
    if !matches!(endpoint.path(), "" | "/") {
        let expected = format!("{scheme}:// has no paths");
        return Err(ConfigError::new("path", endpoint.path(), expected));
    }
    endpoint.authority()
}

fn take_wire(options: &mut EndpointOptions<'_>) -> Result<Option<WireVersions>, ConfigError> {
    options.take("wire", "v1, v2 or auto")
}

fn put_wire(endpoint: Endpoint, wire: Option<WireVersions>) -> Endpoint {
    match wire {
        None => endpoint,
        Some(WireVersions::V1) => endpoint.with_option("wire", "v1"),
        Some(WireVersions::V2) => endpoint.with_option("wire", "v2"),
        Some(WireVersions::Any) => endpoint.with_option("wire", "auto"),
    }
}
