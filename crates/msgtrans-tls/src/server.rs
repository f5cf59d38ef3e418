//! What a listener shows and asks for.
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

use rustls::ServerConfig;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};

use crate::params::{TlsVersion, alpn_names, provider};
use crate::reload::{CurrentIdentity, IdentityReloader};
use crate::{Identity, Roots, TlsError};

/// Whether clients prove who they are with a certificate of their own (mTLS).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum ClientAuth {
    /// Clients are not asked. The default.
    #[default]
    None,
    /// Clients are asked and may decline. A certificate that is shown must be valid.
    Optional(Roots),
    /// Clients without a valid certificate from one of these authorities are refused.
    Required(Roots),
}

/// How returning clients save the signature and the certificates of a full handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Resumption {
    /// Every handshake is a full one.
    Off,
    /// The client keeps its session as a ticket, encrypted with a key that only this
    /// configuration has, is replaced every 6 hours and is forgotten after 12. Costs the server no
    /// memory, whatever the number of clients.
    Tickets,
    /// The server keeps the sessions. The only kind that allows 0-RTT, which a protocol switches on
    /// in its copy of the configuration: a session can be struck out once it was used.
    Memory {
        /// How many; the oldest give way. About 1 KiB each, more with client certificates.
        sessions_max: usize,
    },
}

/// The TLS side of a listener.
///
/// One value can serve several protocols, each with its own ALPN: they share the identity, and one
/// [`reloader`](Self::reloader) renews it in all of them. So do clones.
#[derive(Debug, Clone)]
#[must_use = "build() makes the configuration"]
pub struct ServerTls {
    current: Arc<CurrentIdentity>,
    client_auth: ClientAuth,
    min_version: TlsVersion,
    resumption: Option<Resumption>,
}

impl ServerTls {
    /// Shows `identity`, asks clients for nothing, speaks TLS 1.3.
    pub fn new(identity: Identity) -> Self {
        Self {
            current: Arc::new(CurrentIdentity::new(identity)),
            client_auth: ClientAuth::None,
            min_version: TlsVersion::default(),
            resumption: None,
        }
    }

    /// Asks clients for certificates. Default [`ClientAuth::None`].
    pub fn client_auth(mut self, client_auth: ClientAuth) -> Self {
        self.client_auth = client_auth;
        self
    }

    /// Oldest TLS version accepted. Default [`TlsVersion::Tls13`].
    pub fn min_version(mut self, min_version: TlsVersion) -> Self {
        self.min_version = min_version;
        self
    }

    /// How clients resume. Default [`Resumption::Tickets`], and [`Resumption::Off`] where clients
    /// are asked for certificates: a resumed session stands for a certificate that was valid hours
    /// ago and is not looked at again.
    pub fn resumption(mut self, resumption: Resumption) -> Self {
        self.resumption = Some(resumption);
        self
    }

    /// A handle that renews the identity, also in configurations built before and after.
    pub fn reloader(&self) -> IdentityReloader {
        IdentityReloader::new(self.current.clone())
    }

    /// The identity shown now.
    pub fn identity(&self) -> Identity {
        self.current.get()
    }

    /// The rustls configuration of a protocol that is called `alpn`, most preferred first.
    ///
    /// A client that offers ALPN must share a name with the list; one that offers none is accepted,
    /// except by QUIC. An empty list ignores what clients offer. 0-RTT is off.
    ///
    /// Build once and share: tickets are good for the configuration that issued them, so that a
    /// session of one protocol is never resumed in another.
    ///
    /// # Errors
    /// [`TlsError::AlpnName`], [`NoSessions`](TlsError::NoSessions),
    /// [`ClientAuth`](TlsError::ClientAuth), or [`Config`](TlsError::Config) when the system gives
    /// no randomness for the ticket key.
    pub fn build(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, TlsError> {
        let refused = |source| TlsError::Config { source };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.min_version.and_newer())
            .map_err(refused)?
            .with_client_cert_verifier(self.client_verifier()?)
            .with_cert_resolver(self.current.clone());
        config.alpn_protocols = alpn_names(alpn)?;
        match self.resumption.unwrap_or(self.default_resumption()) {
            // Without a place to keep sessions rustls issues no tickets.
            Resumption::Off => config.session_storage = Arc::new(NoServerSessionStorage {}),
            Resumption::Tickets => {
                config.session_storage = Arc::new(NoServerSessionStorage {});
                config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(refused)?;
            }
            Resumption::Memory { sessions_max: 0 } => return Err(TlsError::NoSessions),
            Resumption::Memory { sessions_max } => {
                config.session_storage = ServerSessionMemoryCache::new(sessions_max);
            }
        }
        Ok(Arc::new(config))
    }

    fn default_resumption(&self) -> Resumption {
        match self.client_auth {
            ClientAuth::None => Resumption::Tickets,
            ClientAuth::Optional(_) | ClientAuth::Required(_) => Resumption::Off,
        }
    }

    fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
        let (roots, optional) = match &self.client_auth {
            ClientAuth::None => return Ok(WebPkiClientVerifier::no_client_auth()),
            ClientAuth::Optional(roots) => (roots, true),
            ClientAuth::Required(roots) => (roots, false),
        };
        let mut builder = WebPkiClientVerifier::builder_with_provider(roots.store(), provider());
        if optional {
            builder = builder.allow_unauthenticated();
        }
        builder
            .build()
            .map_err(|source| TlsError::ClientAuth { source })
    }
}

impl From<Identity> for ServerTls {
    fn from(identity: Identity) -> Self {
        Self::new(identity)
    }
}
