//! Whom a connector believes.
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

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::ServerName;

use crate::params::{TlsVersion, alpn_names, provider};
use crate::pin::PinVerifier;
use crate::{Identity, Roots, SpkiPin, TlsError};

/// The TLS side of a connector.
///
/// A server is believed when it passes everything that is set, and something must be set:
///
/// | set | the server's certificate |
/// |---|---|
/// | [`roots`](Self::roots) | leads to one of them, is for the host's name, and is within its dates |
/// | [`pin`](Self::pin) | has a pinned key, whatever its issuer, name and dates |
/// | both | passes both |
///
/// Either way the server proves, by the signature of the handshake, that it holds the key.
/// The roots of the operating system are not consulted on their own;
/// [`Roots::from_pem_file`] reads their bundle.
#[derive(Debug, Clone, Default)]
#[must_use = "build() makes the configuration"]
pub struct ClientTls {
    roots: Option<Roots>,
    pins: Vec<SpkiPin>,
    identity: Option<Identity>,
    server_name: Option<String>,
    min_version: TlsVersion,
    no_resumption: bool,
    skip_verification: bool,
}

impl ClientTls {
    /// Believes nobody yet, shows nothing, speaks TLS 1.3.
    pub fn new() -> Self {
        Self::default()
    }

    /// Believes servers whose certificate comes from one of these authorities. Replaces the roots
    /// set before.
    pub fn roots(mut self, roots: Roots) -> Self {
        self.roots = Some(roots);
        self
    }

    /// Believes a server that holds this key. Repeat it for the next key, before the server
    /// changes to it. Only the server's own key counts, not those of its authorities.
    pub fn pin(mut self, pin: SpkiPin) -> Self {
        self.pins.push(pin);
        self
    }

    /// Shows this identity to servers that ask for one (mTLS).
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The name that the server's certificate must be for, and that is sent as SNI, instead of the
    /// host dialled.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Oldest TLS version spoken. Default [`TlsVersion::Tls13`].
    pub fn min_version(mut self, min_version: TlsVersion) -> Self {
        self.min_version = min_version;
        self
    }

    /// Whether to resume earlier sessions, the last few of up to 256 servers. Default `true`.
    pub fn resumption(mut self, resumption: bool) -> Self {
        self.no_resumption = !resumption;
        self
    }

    /// Whether the certificate of the server is ignored. Whoever connects should then say so, at
    /// each connection, in a log and in a metric.
    pub fn skips_verification(&self) -> bool {
        self.skip_verification
    }

    /// The name to verify a server by: the override, or else the `host` dialled. A host may be a
    /// DNS name or an IP address, IPv6 in brackets or not.
    ///
    /// # Errors
    /// [`TlsError::ServerName`] when it is neither.
    pub fn name_for(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let bare = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(name);
        ServerName::try_from(bare)
            .map(|name| name.to_owned())
            .map_err(|_| TlsError::ServerName {
                value: name.chars().take(255).collect(),
            })
    }

    /// The rustls configuration of a protocol that is called `alpn`, most preferred first. An empty
    /// list offers no ALPN. 0-RTT is off.
    ///
    /// Build once and share: sessions are resumed only within one configuration.
    ///
    /// A server without ALPN agrees to none, which is no error here: who requires one looks at
    /// `alpn_protocol()` after the handshake.
    ///
    /// # Errors
    /// [`TlsError::NothingToVerifyWith`] without roots and pins,
    /// [`ServerName`](TlsError::ServerName) for a bad override, [`AlpnName`](TlsError::AlpnName),
    /// or [`Config`](TlsError::Config).
    pub fn build(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(name) = &self.server_name {
            self.name_for(name)?;
        }
        // "Dangerous" is rustls's word for any verifier that is handed to it. The one for roots
        // alone is its own.
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.and_newer())
            .map_err(|source| TlsError::Config { source })?
            .dangerous()
            .with_custom_certificate_verifier(self.server_verifier()?);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified()))),
        };
        config.alpn_protocols = alpn_names(alpn)?;
        if self.no_resumption {
            config.resumption = Resumption::disabled();
        }
        Ok(Arc::new(config))
    }

    fn server_verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        let provider = provider();
        let chain = match &self.roots {
            Some(roots) if !self.skip_verification => Some(chain_verifier(roots)?),
            _ => None,
        };
        // Pins hold even where verification is skipped: whoever sets one means it.
        if !self.pins.is_empty() {
            return Ok(Arc::new(PinVerifier::new(
                self.pins.clone(),
                chain,
                &provider,
            )));
        }
        if let Some(chain) = chain {
            return Ok(chain);
        }
        #[cfg(feature = "dangerous-insecure")]
        if self.skip_verification {
            return Ok(Arc::new(crate::dangerous::NoCertificateVerification::new(
                &provider,
            )));
        }
        Err(TlsError::NothingToVerifyWith)
    }

    #[cfg(feature = "dangerous-insecure")]
    pub(crate) fn skip_verification(mut self) -> Self {
        self.skip_verification = true;
        self
    }
}

fn chain_verifier(roots: &Roots) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    WebPkiServerVerifier::builder_with_provider(roots.store(), provider())
        .build()
        // Its two errors are an empty store, which `Roots` excludes, and revocation lists, of which
        // there are none.
        .map_err(|_| TlsError::NothingToVerifyWith)
}
