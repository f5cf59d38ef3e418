//! What both sides choose alike: crypto provider, versions, ALPN.

use std::sync::{Arc, OnceLock};

use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;

use crate::TlsError;

/// Oldest TLS version that is spoken.
///
/// Older ones do not exist here: rustls has no code for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3, for peers that cannot speak 1.3. Certificates then travel unencrypted.
    Tls12,
    /// TLS 1.3 alone. The default, and the only choice that QUIC makes use of.
    #[default]
    Tls13,
}

static TLS13_ALONE: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

impl TlsVersion {
    pub(crate) fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => rustls::ALL_VERSIONS,
            Self::Tls13 => TLS13_ALONE,
        }
    }
}

/// The one crypto provider. Always passed on, never installed: the process default belongs to the
/// application, and rustls panics when two are compiled in and none is installed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
        .clone()
}

/// Checks lengths here, since rustls would find out in the middle of a handshake.
pub(crate) fn alpn_names(names: &[&[u8]]) -> Result<Vec<Vec<u8>>, TlsError> {
    names
        .iter()
        .map(|name| match name.len() {
            1..=255 => Ok(name.to_vec()),
            len => Err(TlsError::AlpnName { len }),
        })
        .collect()
}
