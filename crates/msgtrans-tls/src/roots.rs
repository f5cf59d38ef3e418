//! Certificate authorities that are believed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::{TlsError, file};

/// Certificates that a chain must end in: for a client the authority of its servers, for a server
/// that of its clients.
///
/// Cloning is cheap. A self-signed certificate can be its own root if it is not marked as an
/// authority (`openssl req -x509` marks it); a [`SpkiPin`](crate::SpkiPin) works for either.
#[derive(Clone)]
pub struct Roots(Arc<RootCertStore>);

impl Roots {
    /// Every certificate in a PEM file, which may be a bundle such as
    /// `/etc/ssl/certs/ca-certificates.crt`. Blocks on the file; reads at most 4 MiB.
    ///
    /// # Errors
    /// [`TlsError::Read`], [`FileTooLarge`](TlsError::FileTooLarge), and those of
    /// [`from_pem`](Self::from_pem).
    pub fn from_pem_file(path: impl AsRef<Path>) -> Result<Self, TlsError> {
        let path = path.as_ref();
        Self::parse(&file::read(path)?, &path.display().to_string())
    }

    /// Every certificate in PEM.
    ///
    /// # Errors
    /// [`TlsError::Pem`], [`Missing`](TlsError::Missing) if there is none, or
    /// [`Root`](TlsError::Root) with the number of the first that cannot be used: a root that
    /// silently is not there would show as a refused peer much later.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        Self::parse(pem, "the given root pem")
    }

    /// Certificates in DER.
    ///
    /// # Errors
    /// [`TlsError::Missing`] if there is none, or [`Root`](TlsError::Root).
    pub fn from_der<'a>(
        certificates: impl IntoIterator<Item = CertificateDer<'a>>,
    ) -> Result<Self, TlsError> {
        Self::collect(certificates.into_iter().map(Ok), "the given root der")
    }

    fn parse(pem: &[u8], origin: &str) -> Result<Self, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(pem).map(|certificate| {
            certificate.map_err(|source| TlsError::Pem {
                origin: origin.to_owned(),
                source,
            })
        });
        Self::collect(certificates, origin)
    }

    fn collect<'a>(
        certificates: impl Iterator<Item = Result<CertificateDer<'a>, TlsError>>,
        origin: &str,
    ) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for (index, certificate) in certificates.enumerate() {
            store.add(certificate?).map_err(|source| TlsError::Root {
                number: index + 1,
                origin: origin.to_owned(),
                source,
            })?;
        }
        if store.is_empty() {
            return Err(TlsError::Missing {
                item: "certificate",
                origin: origin.to_owned(),
            });
        }
        Ok(Self(Arc::new(store)))
    }

    pub(crate) fn store(&self) -> Arc<RootCertStore> {
        self.0.clone()
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.0.len())
    }
}
