//! [`QuicClientConfig`]: where to dial and whom to believe, typed and as a URL.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use msgtrans_core::{ConfigError, WireVersions};
use msgtrans_tls::{ClientTls, Roots, SpkiPin};
use msgtrans_transport::{Endpoint, ProtocolConfig};

use crate::connector::Dialer;
use crate::tuning::{Tuning, tuning_knobs};
use crate::{
    UdpOffloads, address_of, display_address, parse_address, put_wire, socket, with_causes,
};

/// Where to dial QUIC connections, and whom to believe.
///
/// A server must be known by [`with_roots`](Self::with_roots) or [`with_roots_pem_file`](Self::with_roots_pem_file), by
/// [`with_pin`](Self::with_pin), or by both. All connections of a value share one UDP socket, which is opened by the
/// first; a clone has its own.
///
/// ```
/// use msgtrans_quic::QuicClientConfig;
/// use msgtrans_transport::{Endpoint, ProtocolConfig};
///
/// let typed = QuicClientConfig::new("example.org:8082").with_roots_pem_file("roots.pem");
/// typed.validate()?;
/// let url = Endpoint::parse("quic://example.org:8082?ca=roots.pem")?;
/// assert_eq!(QuicClientConfig::from_endpoint(&url)?.endpoint(), typed.endpoint());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct QuicClientConfig {
    address: String,
    tls: ClientTls,
    trusts: bool,
    ca: Option<PathBuf>,
    pins: Vec<SpkiPin>,
    server_name: Option<String>,
    pub(crate) tuning: Tuning,
    pub(crate) wire: Option<WireVersions>,
    pub(crate) dialer: Dialer,
}

impl QuicClientConfig {
    /// Dials `host:port`. A bad address is an error of [`validate`](ProtocolConfig::validate) and of dialling.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            tls: ClientTls::new(),
            trusts: false,
            ca: None,
            pins: Vec::new(),
            server_name: None,
            tuning: Tuning::client(),
            wire: None,
            dialer: Dialer::default(),
        }
    }

    /// Reads a URL: `quic://host:port` with the options `ca` (PEM file), `pin` (`sha256/…`), `server_name`, `insecure`
    /// (feature `dangerous-insecure`), `preset` (`lan`, `wan`, `lossy`), `wire` (`v1`, `v2`, `auto`), `max_idle_timeout`,
    /// `keep_alive` (`30s`),
    /// `stream_window`, `connection_window`, `send_window`, `mtu`, `udp_buffer` (bytes) and `congestion` (`cubic`, `bbr`,
    /// `new_reno`).
    ///
    /// # Errors
    /// Another scheme, no port, a path, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let mut this = Self::new(address_of(endpoint)?);
        let mut options = endpoint.options();
        if let Some(ca) = options.take::<PathBuf>("ca", "a PEM file")? {
            this = this.with_roots_pem_file(ca);
        }
        if let Some(pin) = options.take("pin", "sha256/ and the base64 of 32 bytes")? {
            this = this.with_pin(pin);
        }
        if let Some(name) = options.take::<String>("server_name", "a name")? {
            this = this.with_server_name(name);
        }
        if options.take("insecure", "true or false")? == Some(true) {
            this = this.insecure()?;
        }
        this.tuning = this.tuning.take(&mut options)?;
        this.wire = options.take("wire", "v1, v2 or auto")?;
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    /// Believes servers whose certificate comes from one of these authorities.
    #[must_use]
    pub fn with_roots(mut self, roots: Roots) -> Self {
        self.tls = self.tls.roots(roots);
        self.trusts = true;
        self.ca = None;
        self
    }

    /// Believes servers whose certificate comes from an authority in this PEM file, which is read by the first dial.
    #[must_use]
    pub fn with_roots_pem_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(path.into());
        self
    }

    /// Believes a server that holds this key; repeat it for the next key, before the server changes to it.
    #[must_use]
    pub fn with_pin(mut self, pin: SpkiPin) -> Self {
        self.tls = self.tls.pin(pin);
        self.pins.push(pin);
        self
    }

    /// The name that the server's certificate must be for, instead of the host dialled.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.tls = self.tls.server_name(name.clone());
        self.server_name = Some(name);
        self
    }

    tuning_knobs!();

    /// What the system does for the UDP socket of this value's connections. Before the first dial there is none: then
    /// one like it is opened for the answer, and closed. A clone has a socket of its own.
    ///
    /// # Errors
    /// No UDP socket can be opened on loopback.
    pub fn offloads(&self) -> io::Result<UdpOffloads> {
        match self.dialer.offloads() {
            Some(offloads) => Ok(offloads),
            None => socket::probe(&self.tuning),
        }
    }

    /// The wire versions that this client offers; those of the client by default. The server chooses, and prefers
    /// version 2.
    #[must_use]
    pub fn wire(mut self, wire: WireVersions) -> Self {
        self.wire = Some(wire);
        self
    }

    /// The choices that make encryption worth less.
    #[cfg(feature = "dangerous-insecure")]
    #[cfg_attr(docsrs, doc(cfg(feature = "dangerous-insecure")))]
    pub fn dangerous(self) -> DangerousQuicClientConfig {
        DangerousQuicClientConfig(self)
    }

    #[cfg(feature = "dangerous-insecure")]
    fn insecure(self) -> Result<Self, ConfigError> {
        Ok(self.dangerous().skip_verification())
    }

    #[cfg(not(feature = "dangerous-insecure"))]
    fn insecure(self) -> Result<Self, ConfigError> {
        let expected = "needs the feature dangerous-insecure; a pin does the same job safely";
        Err(ConfigError::new("insecure", true, expected))
    }

    /// The address as an endpoint without options.
    pub(crate) fn address(&self) -> Result<Endpoint, ConfigError> {
        parse_address(&self.address)
    }

    /// Whom to believe; reads the file.
    pub(crate) fn tls(&self) -> Result<ClientTls, ConfigError> {
        let Some(ca) = &self.ca else {
            return Ok(self.tls.clone());
        };
        let roots = Roots::from_pem_file(ca)
            .map_err(|error| ConfigError::new("ca", ca.display(), with_causes(&error)))?;
        Ok(self.tls.clone().roots(roots))
    }
}

/// A [`QuicClientConfig`] about to be weakened. Made by [`QuicClientConfig::dangerous`].
#[cfg(feature = "dangerous-insecure")]
#[derive(Debug)]
#[must_use = "the choice gives the configuration back"]
pub struct DangerousQuicClientConfig(QuicClientConfig);

#[cfg(feature = "dangerous-insecure")]
impl DangerousQuicClientConfig {
    /// Believes every server, whoever it is; pins still hold. Each connection is warned about in the log.
    pub fn skip_verification(self) -> QuicClientConfig {
        let mut config = self.0;
        config.tls = config.tls.dangerous().skip_verification();
        config
    }
}

impl ProtocolConfig for QuicClientConfig {
    fn endpoint(&self) -> Endpoint {
        let mut endpoint = display_address(&self.address);
        if let Some(ca) = &self.ca {
            endpoint = endpoint.with_option("ca", ca.display());
        }
        // A URL has one option of a name; the first pin stands for all.
        if let Some(pin) = self.pins.first() {
            endpoint = endpoint.with_option("pin", pin);
        }
        if let Some(name) = &self.server_name {
            endpoint = endpoint.with_option("server_name", name);
        }
        if self.tls.skips_verification() {
            endpoint = endpoint.with_option("insecure", true);
        }
        put_wire(self.tuning.put(&Tuning::client(), endpoint), self.wire)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let address = self.address()?;
        if address.port() == Some(0) {
            let value = format_args!("\"{}\"", self.address);
            let expected = "must have a port other than 0 to dial";
            return Err(ConfigError::new("address", value, expected));
        }
        if self.ca.is_none()
            && !self.trusts
            && self.pins.is_empty()
            && !self.tls.skips_verification()
        {
            let expected =
                "needs roots (ca=roots.pem) or a pin (pin=sha256/…) to know the server by";
            return Err(ConfigError::new("trust", "nobody", expected));
        }
        self.tls.name_for(address.host()).map_err(|error| {
            let name = self.server_name.as_deref().unwrap_or(address.host());
            ConfigError::new("server_name", name, with_causes(&error))
        })?;
        self.tuning.validate()
    }
}
