//! TLS over TCP: where its settings come from, and the two handshakes.
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
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use msgtrans_core::{ConfigError, ConnectError, ConnectionInfo, PeerAddress};
use msgtrans_core::{Limits, WireVersion, WireVersions};
use msgtrans_tls::rustls::{ClientConfig, ServerConfig};
use msgtrans_tls::{ClientTls, Identity, Roots, ServerTls, SpkiPin};
use msgtrans_transport::Probe;
use msgtrans_transport::socket::{first_bytes, tcp_peer_gone};
use msgtrans_transport::{Connection, Endpoint, EndpointOptions, StreamConnection};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::SCHEME_TLS;
use crate::connection::TlsConnection;

/// What version 2 is called in ALPN. Version 1 has no name there.
const ALPN_V2: &[u8] = b"msgtrans/2";

/// The names to offer and to accept. None at all ignores what the other side offers.
fn alpn(wire: WireVersions) -> &'static [&'static [u8]] {
    if wire.contains(WireVersion::V2) {
        &[ALPN_V2]
    } else {
        &[]
    }
}

/// Where a listener's TLS comes from.
#[derive(Clone, Debug)]
pub(crate) enum ServerTlsSource {
    Value(ServerTls),
    Development,
    Files { cert: PathBuf, key: PathBuf },
}

impl ServerTlsSource {
    /// What the options of a `tls://` URL say.
    pub(crate) fn take(options: &mut EndpointOptions<'_>) -> Result<Self, ConfigError> {
        let cert = options.take::<PathBuf>("cert", "a PEM file")?;
        let key = options.take::<PathBuf>("key", "a PEM file")?;
        match (cert, key) {
            (Some(cert), None) if cert.as_os_str() == "development" => Ok(Self::Development),
            (Some(cert), Some(key)) => Ok(Self::Files { cert, key }),
            (Some(cert), None) => Err(ConfigError::new(
                "cert",
                cert.display(),
                "needs key beside it, the PEM file of its private key",
            )),
            (None, key) => {
                let key = key.map_or("none".to_owned(), |key| {
                    format!("none beside key={}", key.display())
                });
                let expected = "must be a PEM file with key beside it, or cert=development";
                Err(ConfigError::new("cert", key, expected))
            }
        }
    }

    /// The options that say it, where a URL can.
    pub(crate) fn put(&self, endpoint: Endpoint) -> Endpoint {
        match self {
            Self::Value(_) => endpoint,
            Self::Development => endpoint.with_option("cert", "development"),
            Self::Files { cert, key } => endpoint
                .with_option("cert", cert.display())
                .with_option("key", key.display()),
        }
    }

    /// Reads what is to be read, blocking: files are small, and this is done once, while binding.
    pub(crate) fn build(
        &self,
        wire: WireVersions,
        address: &Endpoint,
    ) -> io::Result<Arc<ServerConfig>> {
        let tls = match self {
            Self::Value(tls) => Ok(tls.clone()),
            Self::Files { cert, key } => Identity::from_pem_files(cert, key).map(ServerTls::new),
            Self::Development => Identity::development().map(|identity| {
                let pin = identity.spki_pin();
                tracing::info!(%address, %pin, "shows a development certificate");
                ServerTls::new(identity)
            }),
        };
        tls.and_then(|tls| tls.build(alpn(wire)))
            .map_err(io::Error::other)
    }
}

/// Where a connector's TLS comes from. Built once and shared by all dials, so that sessions are resumed.
#[derive(Clone, Debug)]
pub(crate) struct ClientTlsSource {
    tls: ClientTls,
    /// The roots, read by the first dial.
    ca: Option<PathBuf>,
    /// What a URL says that `tls` cannot be asked for.
    pin: Option<SpkiPin>,
    server_name: Option<String>,
    built: Arc<Built>,
}

/// One configuration for dials that offer version 2 in ALPN, one for those that do not.
#[derive(Debug, Default)]
struct Built {
    v2: OnceLock<Arc<ClientConfig>>,
    v1: OnceLock<Arc<ClientConfig>>,
}

impl ClientTlsSource {
    pub(crate) fn value(tls: ClientTls) -> Self {
        Self {
            tls,
            ca: None,
            pin: None,
            server_name: None,
            built: Arc::default(),
        }
    }

    /// What the options of a `tls://` URL say.
    pub(crate) fn take(options: &mut EndpointOptions<'_>) -> Result<Self, ConfigError> {
        let mut this = Self::value(ClientTls::new());
        this.ca = options.take("ca", "a PEM file")?;
        if let Some(pin) = options.take::<SpkiPin>("pin", "sha256/ and the base64 of 32 bytes")? {
            this.tls = this.tls.pin(pin);
            this.pin = Some(pin);
        }
        if let Some(name) = options.take::<String>("server_name", "a host name")? {
            this.tls = this.tls.server_name(name.clone());
            this.server_name = Some(name);
        }
        let insecure = options.take("insecure", "true or false")? == Some(true);
        if insecure {
            this = this.insecure()?;
        }
        if this.ca.is_none() && this.pin.is_none() && !insecure {
            let expected =
                "needs roots (ca=roots.pem) or a pin (pin=sha256/…) to know the server by";
            return Err(ConfigError::new("trust", "nobody", expected));
        }
        Ok(this)
    }

    #[cfg(feature = "dangerous-insecure")]
    fn insecure(mut self) -> Result<Self, ConfigError> {
        self.tls = self.tls.dangerous().skip_verification();
        Ok(self)
    }

    #[cfg(not(feature = "dangerous-insecure"))]
    fn insecure(self) -> Result<Self, ConfigError> {
        let expected = "needs the feature dangerous-insecure; a pin does the same job safely";
        Err(ConfigError::new("insecure", true, expected))
    }

    /// The options that say it, where a URL can.
    pub(crate) fn put(&self, mut endpoint: Endpoint) -> Endpoint {
        if let Some(ca) = &self.ca {
            endpoint = endpoint.with_option("ca", ca.display());
        }
        if let Some(pin) = &self.pin {
            endpoint = endpoint.with_option("pin", pin);
        }
        if let Some(name) = &self.server_name {
            endpoint = endpoint.with_option("server_name", name);
        }
        if self.tls.skips_verification() {
            endpoint = endpoint.with_option("insecure", true);
        }
        endpoint
    }

    /// Everything that can be known without reading a file.
    pub(crate) fn validate(&self, host: &str) -> Result<(), ConfigError> {
        self.tls.name_for(host).map_err(|error| {
            let name = self.server_name.as_deref().unwrap_or(host);
            ConfigError::new("server_name", name, with_causes(&error))
        })?;
        if self.ca.is_none() {
            self.build(WireVersions::V2)?;
        }
        Ok(())
    }

    /// What rustls is told; reads the file of roots once, blocking.
    fn build(&self, wire: WireVersions) -> Result<Arc<ClientConfig>, ConfigError> {
        let built = if wire.contains(WireVersion::V2) {
            &self.built.v2
        } else {
            &self.built.v1
        };
        if let Some(config) = built.get() {
            return Ok(config.clone());
        }
        let tls = match &self.ca {
            None => self.tls.clone(),
            Some(ca) => {
                let roots = Roots::from_pem_file(ca)
                    .map_err(|error| ConfigError::new("ca", ca.display(), with_causes(&error)))?;
                self.tls.clone().roots(roots)
            }
        };
        let config = tls
            .build(alpn(wire))
            .map_err(|error| ConfigError::new("tls", "settings", with_causes(&error)))?;
        Ok(built.get_or_init(|| config).clone())
    }

    /// The client's handshake.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        endpoint: &Endpoint,
        peer: PeerAddress,
        wire: WireVersions,
        limits: Limits,
    ) -> Result<Box<dyn Connection>, ConnectError> {
        if self.tls.skips_verification() {
            tracing::warn!(%endpoint, "the server's certificate is not verified");
        }
        let name = self.tls.name_for(endpoint.host()).map_err(|error| {
            ConfigError::new("server_name", endpoint.host(), with_causes(&error))
        })?;
        let stream = TlsConnector::from(self.build(wire)?)
            .connect(name, stream)
            .await
            .map_err(|error| failed(endpoint.to_string(), &error))?;
        let alpn = stream.get_ref().1.alpn_protocol();
        let (info, accept) = agreed(alpn, peer, wire);
        Ok(Box::new(TlsConnection(
            StreamConnection::new(stream, info, accept, limits, true).with_probe(&Probe {
                peer_gone: |stream| tcp_peer_gone(stream.get_ref().0),
                ..Probe::NONE
            }),
        )))
    }
}

/// The server's handshake. The server bounds the time and the number of these.
pub(crate) async fn accept(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    peer: PeerAddress,
    wire: WireVersions,
    limits: Limits,
) -> Result<Box<dyn Connection>, ConnectError> {
    first_bytes(&stream).await;
    // Boxed: peers that have said nothing are many, and TLS state is large.
    let stream = Box::pin(TlsAcceptor::from(config).accept(stream))
        .await
        .map_err(|error| failed(peer.to_string(), &error))?;
    let alpn = stream.get_ref().1.alpn_protocol();
    let (info, accept) = agreed(alpn, peer, wire);
    Ok(Box::new(TlsConnection(
        StreamConnection::new(stream, info, accept, limits, true).with_probe(&Probe {
            peer_gone: |stream| tcp_peer_gone(stream.get_ref().0),
            ..Probe::NONE
        }),
    )))
}

/// What ALPN says holds for every frame; without it the first frame decides.
fn agreed(
    alpn: Option<&[u8]>,
    peer: PeerAddress,
    wire: WireVersions,
) -> (ConnectionInfo, WireVersions) {
    let info = ConnectionInfo::new(SCHEME_TLS, peer).secure();
    if alpn == Some(ALPN_V2) {
        (info.negotiated(WireVersion::V2), WireVersions::V2)
    } else {
        (info, wire)
    }
}

/// A certificate that is not believed today will not be believed at the next attempt either; a connection that was lost
/// during its handshake may come through then.
fn failed(endpoint: String, error: &io::Error) -> ConnectError {
    ConnectError::Handshake {
        endpoint,
        stage: "tls",
        what: with_causes(error),
        // What rustls has to say about the peer's bytes is invalid data; the rest is the network's.
        retryable: error.kind() != io::ErrorKind::InvalidData,
    }
}

/// What went wrong, with its causes.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
