//! [`WebSocketServerConfig`] and [`WebSocketClientConfig`]: the same settings typed and as a URL.

use std::fmt;
use std::time::Duration;

use msgtrans_core::{ConfigError, WireVersions};
#[cfg(feature = "tls")]
use msgtrans_tls::{ClientTls, ServerTls};
use msgtrans_transport::socket::TcpOptions;
use msgtrans_transport::{Endpoint, ProtocolConfig};

use crate::handshake::{ClientUpgrade, Origin, OriginPolicy};
#[cfg(feature = "tls")]
use crate::tls::{ClientTlsSource, ServerTlsSource};
use crate::upgrade::subprotocols;
use crate::{SCHEME, SCHEME_TLS};

/// Where and how to listen for WebSocket connections.
///
/// ```
/// use msgtrans_transport::{Endpoint, ProtocolConfig};
/// use msgtrans_websocket::WebSocketServerConfig;
/// use msgtrans_websocket::handshake::OriginPolicy;
///
/// let origins = OriginPolicy::AllowList(vec!["https://chat.example.com".parse()?]);
/// let typed = WebSocketServerConfig::new("0.0.0.0:8081").path("/chat").origins(origins);
/// typed.validate()?;
/// let url = Endpoint::parse("ws://0.0.0.0:8081/chat?origins=https://chat.example.com")?;
/// assert_eq!(WebSocketServerConfig::from_endpoint(&url)?.endpoint(), typed.endpoint());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WebSocketServerConfig {
    address: Address,
    pub(crate) options: TcpOptions,
    pub(crate) wire: Option<WireVersions>,
    pub(crate) origins: OriginPolicy,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<ServerTlsSource>,
}

/// Where and how to dial WebSocket connections.
///
/// ```
/// use msgtrans_transport::{Endpoint, ProtocolConfig};
/// use msgtrans_websocket::WebSocketClientConfig;
///
/// let typed = WebSocketClientConfig::new("localhost:8081").path("/chat").nodelay(false);
/// typed.validate()?;
/// let url = Endpoint::parse("ws://localhost:8081/chat?nodelay=false")?;
/// assert_eq!(WebSocketClientConfig::from_endpoint(&url)?.endpoint(), typed.endpoint());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WebSocketClientConfig {
    address: Address,
    pub(crate) options: TcpOptions,
    pub(crate) wire: Option<WireVersions>,
    origin: Option<String>,
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

        /// Lets the kernel probe a peer that is silent for this long, 1 s to 9 h, cut to whole
        /// milliseconds. Off by default, because version 2 sessions have a heartbeat of their own.
        #[must_use]
        pub fn keepalive(mut self, keepalive: Duration) -> Self {
            // What a URL can say, so that both spellings of a configuration are equal.
            let ms = u64::try_from(keepalive.as_millis()).unwrap_or(u64::MAX);
            self.options.keepalive = Some(Duration::from_millis(ms));
            self
        }

        /// The kernel's send buffer of each connection in bytes, 4 096 to 1 GiB; the kernel's own choice,
        /// which adapts, by default.
        #[must_use]
        pub fn send_buffer(mut self, bytes: usize) -> Self {
            self.options.send_buffer = Some(bytes);
            self
        }

        /// The kernel's receive buffer of each connection in bytes, 4 096 to 1 GiB; the kernel's own
        /// choice, which adapts, by default.
        #[must_use]
        pub fn recv_buffer(mut self, bytes: usize) -> Self {
            self.options.recv_buffer = Some(bytes);
            self
        }
    };
}

impl WebSocketServerConfig {
    /// Listens at `host:port`; a port of 0 is given by the system. A bad address is an error of
    /// [`validate`](ProtocolConfig::validate) and of binding.
    pub fn new(address: impl Into<String>) -> Self {
        Self::at(Address::new(address.into()))
    }

    fn at(address: Address) -> Self {
        Self {
            address,
            options: TcpOptions::default(),
            wire: None,
            origins: OriginPolicy::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Reads a URL: `ws://host:port/path` or `wss://…` with the options `nodelay`, `keepalive` (`30s`),
    /// `send_buffer`, `recv_buffer`, `backlog`, `reuse_port`, `wire` (`v1`, `v2`, `auto`) and `origins`
    /// (`same-host`, `dangerous-any`, or origins with commas between); for `wss` also `cert` and `key`,
    /// which are PEM files, or `cert=development` for a certificate of localhost made on the spot.
    ///
    /// # Errors
    /// Another scheme, no port, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let mut this = Self::at(Address::from_endpoint(endpoint)?);
        let mut options = endpoint.options();
        this.options = TcpOptions::take_server(&mut options)?;
        this.wire = options.take("wire", "v1, v2 or auto")?;
        if let Some(origins) = options.take::<String>("origins", "origins")? {
            this.origins = parse_origins(&origins)?;
        }
        #[cfg(feature = "tls")]
        if this.address.secure() {
            this.tls = ServerTlsSource::take(&mut options)?;
        }
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    /// The path that is served, compared exactly and without the query. Default: every path.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.address.path = path.into();
        self
    }

    /// Which web pages may connect; [`OriginPolicy::SameHost`] by default. Programs that are not browsers
    /// send no Origin and always may.
    #[must_use]
    pub fn origins(mut self, origins: OriginPolicy) -> Self {
        self.origins = origins;
        self
    }

    common_knobs!();

    /// Connections that may wait to be accepted, 1 to 65 535; 4 096 by default. The system may cut it
    /// (`net.core.somaxconn`).
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.options.backlog = connections;
        self
    }

    /// Whether several sockets may listen on this port, the kernel spreading connections over them; off
    /// by default, and an error on systems without it.
    #[must_use]
    pub fn reuse_port(mut self, reuse_port: bool) -> Self {
        self.options.reuse_port = reuse_port;
        self
    }

    /// The wire versions that this listener accepts; those of the server by default. A client that offers
    /// subprotocols of other versions alone is refused with status 400.
    #[must_use]
    pub fn wire(mut self, wire: WireVersions) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Serves over TLS, as `wss://`. There is no URL for settings given here.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.address.scheme = SCHEME_TLS;
        self.tls = Some(ServerTlsSource::Value(tls));
        self
    }

    /// The address as an endpoint without options.
    pub(crate) fn address(&self) -> Result<Endpoint, ConfigError> {
        self.address.endpoint()
    }

    pub(crate) fn secure(&self) -> bool {
        self.address.secure()
    }

    fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

impl ProtocolConfig for WebSocketServerConfig {
    fn endpoint(&self) -> Endpoint {
        let endpoint = put_wire(self.options.put_server(self.address.display()), self.wire);
        #[cfg(feature = "tls")]
        let endpoint = match &self.tls {
            Some(tls) => tls.put(endpoint),
            None => endpoint,
        };
        put_origins(endpoint, &self.origins)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.address.endpoint()?;
        if self.address.path.contains('?') {
            return Err(self.address.path_error("must have no query"));
        }
        self.address
            .check_tls(self.has_tls(), "needs cert and key, or cert=development")?;
        self.options.validate()
    }
}

impl WebSocketClientConfig {
    /// Dials `host:port`. A bad address is an error of [`validate`](ProtocolConfig::validate) and of
    /// dialling.
    pub fn new(address: impl Into<String>) -> Self {
        Self::at(Address::new(address.into()))
    }

    fn at(address: Address) -> Self {
        Self {
            address,
            options: TcpOptions::default(),
            wire: None,
            origin: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Reads a URL: `ws://host:port/path` or `wss://…`, without a port 80 or 443, with the options
    /// `nodelay`, `keepalive` (`30s`), `send_buffer`, `recv_buffer`, `wire` (`v1`, `v2`, `auto`) and
    /// `origin`; for `wss` also `ca`, a PEM file of the authorities to believe, `pin` of the one key to
    /// believe, and `server_name`.
    ///
    /// # Errors
    /// Another scheme, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let default_port = if endpoint.scheme() == SCHEME_TLS {
            443
        } else {
            80
        };
        let port = endpoint.port().unwrap_or(default_port);
        let mut this = Self::at(Address::from_endpoint(&endpoint.clone().with_port(port))?);
        let mut options = endpoint.options();
        this.options = TcpOptions::take_client(&mut options)?;
        this.wire = options.take("wire", "v1, v2 or auto")?;
        this.origin = options.take("origin", "an origin")?;
        #[cfg(feature = "tls")]
        if this.address.secure() {
            this.tls = ClientTlsSource::take(&mut options)?;
        }
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    /// The path to ask for, with or without a query; `/` by default. A query cannot be said in a URL,
    /// where options stand in its place.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.address.path = path.into();
        self
    }

    /// The Origin header, for servers that demand one of every client; none by default.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    common_knobs!();

    /// The wire versions that this client offers; those of the client by default. `Any` offers the
    /// subprotocols of both.
    #[must_use]
    pub fn wire(mut self, wire: WireVersions) -> Self {
        self.wire = Some(wire);
        self
    }

    /// Dials over TLS, as `wss://`. There is no URL for settings given here.
    #[cfg(feature = "tls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "tls")))]
    #[must_use]
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.address.scheme = SCHEME_TLS;
        self.tls = Some(ClientTlsSource::value(tls));
        self
    }

    /// The address as an endpoint without options.
    pub(crate) fn address(&self) -> Result<Endpoint, ConfigError> {
        self.address.endpoint()
    }

    /// The request that asks for the upgrade, with a key of its own.
    pub(crate) fn upgrade(&self, wire: WireVersions) -> Result<ClientUpgrade, ConfigError> {
        let endpoint = self.address.endpoint()?;
        let authority = endpoint.authority()?;
        // RFC 6455 section 4.1: the port of the scheme is left out.
        let default_port = if self.address.secure() { ":443" } else { ":80" };
        let host = authority.strip_suffix(default_port).unwrap_or(&authority);
        let path = match self.address.path.as_str() {
            "" => "/",
            path => path,
        };
        ClientUpgrade::new(host, path, subprotocols(wire), self.origin.as_deref()).map_err(
            |error| ConfigError::new("path", format_args!("\"{path}\""), error.to_string()),
        )
    }

    fn has_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        return self.tls.is_some();
        #[cfg(not(feature = "tls"))]
        false
    }
}

impl ProtocolConfig for WebSocketClientConfig {
    fn endpoint(&self) -> Endpoint {
        let endpoint = put_wire(self.options.put_client(self.address.display()), self.wire);
        #[cfg(feature = "tls")]
        let endpoint = match &self.tls {
            Some(tls) => tls.put(endpoint),
            None => endpoint,
        };
        match &self.origin {
            Some(origin) => endpoint.with_option("origin", origin),
            None => endpoint,
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.address.endpoint()?.port() == Some(0) {
            return Err(ConfigError::new(
                "address",
                format_args!("\"{}\"", self.address.host_and_port),
                "must have a port other than 0 to dial",
            ));
        }
        self.address.check_tls(
            self.has_tls(),
            "needs roots (ca=roots.pem) or a pin (pin=sha256/…) to know the server by",
        )?;
        self.upgrade(WireVersions::Any)?;
        self.options.validate()
    }
}

/// `host:port` as it was given, the path, and whether TLS is below.
#[derive(Clone, Debug)]
struct Address {
    scheme: &'static str,
    host_and_port: String,
    path: String,
}

impl Address {
    fn new(host_and_port: String) -> Self {
        Self {
            scheme: SCHEME,
            host_and_port,
            path: String::new(),
        }
    }

    fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let scheme = match endpoint.scheme() {
            SCHEME => SCHEME,
            SCHEME_TLS => SCHEME_TLS,
            other => {
                return Err(ConfigError::new(
                    "scheme",
                    other,
                    "must be ws:// or wss:// here",
                ));
            }
        };
        let path = endpoint.path().to_owned();
        Ok(Self {
            scheme,
            host_and_port: endpoint.authority()?,
            path,
        })
    }

    fn secure(&self) -> bool {
        self.scheme == SCHEME_TLS
    }

    fn endpoint(&self) -> Result<Endpoint, ConfigError> {
        let endpoint = Endpoint::from_address(self.scheme, &self.host_and_port)?;
        if self.path.is_empty() {
            return Ok(endpoint);
        }
        if !self.path.starts_with('/') || !self.path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.path_error("must begin with / and be ASCII without spaces"));
        }
        Ok(endpoint.with_path(&self.path))
    }

    fn path_error(&self, expected: &str) -> ConfigError {
        ConfigError::new("path", format_args!("\"{}\"", self.path), expected)
    }

    /// The endpoint, or one that shows an address that is none.
    fn display(&self) -> Endpoint {
        self.endpoint().unwrap_or_else(|_| {
            Endpoint::new(self.scheme, &self.host_and_port, None).with_path(&self.path)
        })
    }

    /// Whether scheme and TLS agree: a `wss` URL never falls back to plain.
    fn check_tls(&self, has_tls: bool, missing: &str) -> Result<(), ConfigError> {
        if self.secure() == has_tls {
            return Ok(());
        }
        let expected = if cfg!(feature = "tls") {
            missing
        } else {
            "needs the feature tls"
        };
        Err(ConfigError::new(
            "endpoint",
            format_args!("\"{}\"", self.display()),
            expected,
        ))
    }
}

fn put_wire(endpoint: Endpoint, wire: Option<WireVersions>) -> Endpoint {
    match wire {
        None => endpoint,
        Some(WireVersions::V1) => endpoint.with_option("wire", "v1"),
        Some(WireVersions::V2) => endpoint.with_option("wire", "v2"),
        Some(WireVersions::Any) => endpoint.with_option("wire", "auto"),
    }
}

fn put_origins(endpoint: Endpoint, origins: &OriginPolicy) -> Endpoint {
    match origins {
        OriginPolicy::SameHost => endpoint,
        OriginPolicy::DangerousAny => endpoint.with_option("origins", "dangerous-any"),
        OriginPolicy::AllowList(list) => {
            let list: Vec<_> = list.iter().map(Origin::to_string).collect();
            endpoint.with_option("origins", list.join(","))
        }
    }
}

fn parse_origins(text: &str) -> Result<OriginPolicy, ConfigError> {
    let invalid = |error: &dyn fmt::Display| ConfigError::new("origins", text, error.to_string());
    match text {
        "same-host" => Ok(OriginPolicy::SameHost),
        "dangerous-any" => Ok(OriginPolicy::DangerousAny),
        list => list
            .split(',')
            .map(|origin| origin.parse().map_err(|error| invalid(&error)))
            .collect::<Result<_, _>>()
            .map(OriginPolicy::AllowList),
    }
}

#[cfg(test)]
mod tests;
