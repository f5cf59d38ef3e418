//! TLS under WebSocket: where its settings come from, and the two handshakes.

use std::io;
use std::sync::{Arc, OnceLock};

use msgtrans_core::{ConfigError, ConnectError};
use msgtrans_tls::rustls::{ClientConfig, ServerConfig};
use msgtrans_tls::{ClientTls, Identity, Roots, ServerTls, SpkiPin, TlsError};
use msgtrans_transport::{Endpoint, EndpointOptions};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// What `wss` is called in ALPN: the upgrade is HTTP/1.1.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// Where a listener's TLS comes from.
#[derive(Clone, Debug)]
pub(crate) enum ServerTlsSource {
    Value(ServerTls),
    Development,
    Files { cert: String, key: String },
}

impl ServerTlsSource {
    /// What the options of a URL say, if they say all that is needed.
    pub(crate) fn take(options: &mut EndpointOptions<'_>) -> Result<Option<Self>, ConfigError> {
        let cert = options.take::<String>("cert", "a file name")?;
        let key = options.take::<String>("key", "a file name")?;
        Ok(match (cert, key) {
            (Some(cert), None) if cert == "development" => Some(Self::Development),
            (Some(cert), Some(key)) => Some(Self::Files { cert, key }),
            _ => None,
        })
    }

    /// The options that say it, where a URL can.
    pub(crate) fn put(&self, endpoint: Endpoint) -> Endpoint {
        match self {
            Self::Value(_) => endpoint,
            Self::Development => endpoint.with_option("cert", "development"),
            Self::Files { cert, key } => endpoint.with_option("cert", cert).with_option("key", key),
        }
    }

    /// Reads what is to be read, blocking: files are small, and this is done once, while binding.
    pub(crate) fn build(&self) -> io::Result<Arc<ServerConfig>> {
        let tls = match self {
            Self::Value(tls) => Ok(tls.clone()),
            Self::Development => Identity::development().map(ServerTls::new),
            Self::Files { cert, key } => Identity::from_pem_files(cert, key).map(ServerTls::new),
        };
        tls.and_then(|tls| tls.build(ALPN))
            .map_err(io::Error::other)
    }
}

/// Where a connector's TLS comes from. Built at the first dial and shared by all later ones, so that
/// sessions are resumed.
#[derive(Clone, Debug)]
pub(crate) struct ClientTlsSource {
    tls: ClientTls,
    ca: Option<String>,
    /// The options of the URL that it came from.
    options: Vec<(&'static str, String)>,
    built: Arc<OnceLock<Arc<ClientConfig>>>,
}

impl ClientTlsSource {
    pub(crate) fn value(tls: ClientTls) -> Self {
        Self {
            tls,
            ca: None,
            options: Vec::new(),
            built: Arc::default(),
        }
    }

    /// What the options of a URL say, if they say whom to believe.
    pub(crate) fn take(options: &mut EndpointOptions<'_>) -> Result<Option<Self>, ConfigError> {
        let ca = options.take::<String>("ca", "a file name")?;
        let pin = options.take::<SpkiPin>("pin", "the pin of a public key")?;
        let server_name = options.take::<String>("server_name", "a host name")?;
        let insecure = options.take("insecure", "true or false")? == Some(true);
        if ca.is_none() && pin.is_none() && !insecure {
            return Ok(None);
        }
        let mut this = Self::value(ClientTls::new());
        if insecure {
            this.options.push(("insecure", "true".to_owned()));
            this = this.insecure()?;
        }
        if let Some(ca) = ca {
            this.options.push(("ca", ca.clone()));
            this.ca = Some(ca);
        }
        if let Some(pin) = pin {
            this.options.push(("pin", pin.to_string()));
            this.tls = this.tls.pin(pin);
        }
        if let Some(server_name) = server_name {
            this.options.push(("server_name", server_name.clone()));
            this.tls = this.tls.server_name(server_name);
        }
        Ok(Some(this))
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
        for (name, value) in &self.options {
            endpoint = endpoint.with_option(*name, value);
        }
        endpoint
    }

    fn build(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(config) = self.built.get() {
            return Ok(config.clone());
        }
        let tls = match &self.ca {
            None => self.tls.clone(),
            Some(ca) => self.tls.clone().roots(Roots::from_pem_file(ca)?),
        };
        let config = tls.build(ALPN)?;
        Ok(self.built.get_or_init(|| config).clone())
    }

    /// The client's handshake.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        endpoint: &Endpoint,
    ) -> Result<client::TlsStream<TcpStream>, ConnectError> {
        let invalid = |error: TlsError| {
            failed(
                endpoint.to_string(),
                &io::Error::new(io::ErrorKind::InvalidData, error),
            )
        };
        let config = self.build().map_err(invalid)?;
        let name = self.tls.name_for(endpoint.host()).map_err(invalid)?;
        if self.tls.skips_verification() {
            tracing::warn!(%endpoint, "the server's certificate is not verified");
        }
        TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| failed(endpoint.to_string(), &error))
    }
}

/// The server's handshake.
pub(crate) async fn accept(
    config: Arc<ServerConfig>,
    stream: TcpStream,
    peer: &impl ToString,
) -> Result<server::TlsStream<TcpStream>, ConnectError> {
    TlsAcceptor::from(config)
        .accept(stream)
        .await
        .map_err(|error| failed(peer.to_string(), &error))
}

/// A certificate that is not believed today will not be believed at the next attempt either; a connection that was lost
/// during its handshake may come through then.
fn failed(endpoint: String, error: &io::Error) -> ConnectError {
    ConnectError::Handshake {
        endpoint,
        stage: "tls",
        what: error.to_string(),
        // What rustls has to say about the peer's bytes is invalid data; the rest is the network's.
        retryable: error.kind() != io::ErrorKind::InvalidData,
    }
}
