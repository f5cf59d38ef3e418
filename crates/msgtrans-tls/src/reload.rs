//! Swapping a server's certificate while it serves.
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

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::UnixTime;

use crate::params::provider;
use crate::{Identity, TlsError};

/// Replaces the identity of a [`ServerTls`](crate::ServerTls) in every configuration built from it.
///
/// Handshakes that begin afterwards show the new certificate. Those under way finish with the old
/// one, connections stay, and tickets issued before stay good. Cloning gives another handle to the
/// same server.
#[derive(Debug, Clone)]
pub struct IdentityReloader {
    current: Arc<CurrentIdentity>,
}

impl IdentityReloader {
    pub(crate) fn new(current: Arc<CurrentIdentity>) -> Self {
        Self { current }
    }

    /// Shows `identity` from now on.
    ///
    /// That key and certificate are a pair was checked when the [`Identity`] was made. Also sound
    /// when two reloads race: one of the two identities is shown, never a mixture.
    ///
    /// # Errors
    /// [`TlsError::Reload`] if the new certificate has expired or is not valid yet. The old one
    /// stays.
    pub fn reload(&self, identity: Identity) -> Result<(), TlsError> {
        check_dates(&identity, UnixTime::now())?;
        *self
            .current
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(())
    }

    /// [`Identity::from_pem_files`], then [`reload`](Self::reload). Blocks on the files.
    ///
    /// Certificate and key files change at different moments: a reload that falls in between is a
    /// [`TlsError::KeyMismatch`], keeps the old identity, and is worth repeating.
    ///
    /// # Errors
    /// Those of both. The old identity stays.
    pub fn reload_pem_files(
        &self,
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<(), TlsError> {
        self.reload(Identity::from_pem_files(certificates, key)?)
    }

    /// The identity shown now.
    pub fn identity(&self) -> Identity {
        self.current.get()
    }
}

/// The cell that rustls asks at each full handshake. A lock and not an atomic pointer: it is held
/// for one reference count, next to a signature of some 20 µs.
#[derive(Debug)]
pub(crate) struct CurrentIdentity(RwLock<Identity>);

impl CurrentIdentity {
    pub(crate) fn new(identity: Identity) -> Self {
        Self(RwLock::new(identity))
    }

    pub(crate) fn get(&self) -> Identity {
        // A poisoned lock changes nothing: the identity is replaced whole or not at all.
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl ResolvesServerCert for CurrentIdentity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get().certified())
    }
}

/// rustls shows no dates, but it looks at them before it looks for an issuer. With no roots at all
/// a certificate within its dates fails for want of an issuer, and that is the good outcome here.
fn check_dates(identity: &Identity, now: UnixTime) -> Result<(), TlsError> {
    let [own, intermediates @ ..] = identity.certificates() else {
        return Ok(());
    };
    let verdict = ParsedCertificate::try_from(own).and_then(|own| {
        verify_server_cert_signed_by_trust_anchor(
            &own,
            &RootCertStore::empty(),
            intermediates,
            now,
            provider().signature_verification_algorithms.all,
        )
    });
    match verdict {
        Err(
            source @ rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ),
        ) => Err(TlsError::Reload { source }),
        _ => Ok(()),
    }
}
