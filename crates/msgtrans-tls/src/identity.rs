//! A certificate chain and its private key, known to be a pair.
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

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::InconsistentKeys;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::file::{self, KeyFileMode};
use crate::params::provider;
use crate::pem::push_section;
use crate::{SpkiPin, TlsError};

/// What this side shows to prove who it is: a certificate chain and the private key of its first
/// certificate.
///
/// That the two belong together is checked on the way in, so a value of this type is always
/// usable. Dates are not checked: a clock may be wrong at boot, and the peer looks at them
/// ([`IdentityReloader`](crate::IdentityReloader) does check, since it has something to keep).
/// Cloning is cheap. `Debug` shows the key's pin and never the key.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    certified: Arc<CertifiedKey>,
    key: PrivateKeyDer<'static>,
    pin: SpkiPin,
}

/// An [`Identity`] as PEM text, to be printed or stored.
///
/// `Debug` redacts the key.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentityPem {
    /// The chain, own certificate first.
    pub certificates: String,
    /// The private key. Store it where only its owner can read it (mode 0600).
    pub private_key: String,
}

impl Identity {
    /// Reads a chain (own certificate first) and a private key from PEM files, which may be one
    /// and the same. Blocks on the files; reads at most 4 MiB of each.
    ///
    /// # Errors
    /// On Unix a key file that its group or others can read or write is refused with
    /// [`TlsError::ExposedKeyFile`]. Further [`Read`](TlsError::Read),
    /// [`FileTooLarge`](TlsError::FileTooLarge), and those of [`from_pem`](Self::from_pem), all
    /// with the path.
    pub fn from_pem_files(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        Self::read(certificates.as_ref(), key.as_ref(), KeyFileMode::OwnerOnly)
    }

    /// [`from_pem_files`](Self::from_pem_files) for a key file whose permissions let others in.
    ///
    /// Dangerous: whoever can read the key can be this server. Meant for mounts that cannot
    /// express modes, such as secrets mounted into a container of one user.
    ///
    /// # Errors
    /// Those of [`from_pem_files`](Self::from_pem_files), except for the permissions.
    pub fn dangerous_from_exposed_key_file(
        certificates: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<Self, TlsError> {
        Self::read(certificates.as_ref(), key.as_ref(), KeyFileMode::Any)
    }

    /// Parses a chain (own certificate first) and a private key (PKCS #8, PKCS #1 or SEC 1) from
    /// PEM. Sections of other kinds are skipped, so both arguments may be the same bytes.
    ///
    /// # Errors
    /// [`TlsError::Missing`] names which of the two is not there;
    /// [`EncryptedKey`](TlsError::EncryptedKey), [`Pem`](TlsError::Pem),
    /// [`Certificate`](TlsError::Certificate), [`Key`](TlsError::Key), and
    /// [`KeyMismatch`](TlsError::KeyMismatch) if they do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Self::parse(
            certificates,
            "the given certificate pem",
            key,
            "the given key pem",
        )
    }

    /// Takes a chain (own certificate first) and a private key in DER.
    ///
    /// # Errors
    /// [`TlsError::Missing`] for an empty chain, and those of [`from_pem`](Self::from_pem) that
    /// are not about PEM.
    pub fn from_der(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, TlsError> {
        Self::pair(
            certificates,
            "the given certificate der",
            key,
            "the given key der",
        )
    }

    /// A fresh self-signed certificate for `localhost`, `127.0.0.1` and `::1`, with an ECDSA P-256
    /// key, valid from an hour ago for 13 days.
    ///
    /// For development: nobody vouches for it, so clients take it as their root
    /// ([`to_pem`](Self::to_pem)), pin it ([`spki_pin`](Self::spki_pin)), or refuse it. The dates
    /// keep it below the 14 days that browsers allow for certificates accepted by their hash.
    ///
    /// # Errors
    /// [`TlsError::Generate`] when the system gives no randomness.
    pub fn development() -> Result<Self, TlsError> {
        crate::development::generate()
    }

    /// The chain, own certificate first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.certified.cert
    }

    /// The pin with which a client recognises this identity.
    pub fn spki_pin(&self) -> SpkiPin {
        self.0.pin
    }

    /// Chain **and private key** as PEM text, as [`from_pem`](Self::from_pem) reads it.
    pub fn to_pem(&self) -> IdentityPem {
        let mut certificates = String::new();
        for certificate in self.certificates() {
            push_section(&mut certificates, "CERTIFICATE", certificate);
        }
        let label = match &self.0.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            // Pkcs8, and whatever else is added to that enum: it would not have parsed.
            _ => "PRIVATE KEY",
        };
        let mut private_key = String::new();
        push_section(&mut private_key, label, self.0.key.secret_der());
        IdentityPem {
            certificates,
            private_key,
        }
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.0.certified.clone()
    }

    fn read(certificates: &Path, key: &Path, mode: KeyFileMode) -> Result<Self, TlsError> {
        let certificates_pem = file::read(certificates)?;
        let key_pem = file::read_key(key, mode)?;
        Self::parse(
            &certificates_pem,
            &certificates.display().to_string(),
            &key_pem,
            &key.display().to_string(),
        )
    }

    fn parse(
        certificates: &[u8],
        certificates_origin: &str,
        key: &[u8],
        key_origin: &str,
    ) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| TlsError::Pem {
                origin: certificates_origin.to_owned(),
                source,
            })?;
        let key = private_key(key, key_origin)?;
        Self::pair(chain, certificates_origin, key, key_origin)
    }

    fn pair(
        chain: Vec<CertificateDer<'static>>,
        chain_origin: &str,
        key: PrivateKeyDer<'static>,
        key_origin: &str,
    ) -> Result<Self, TlsError> {
        let Some(own) = chain.first() else {
            return Err(TlsError::Missing {
                item: "certificate",
                origin: chain_origin.to_owned(),
            });
        };
        let unusable = |source| TlsError::Certificate {
            origin: chain_origin.to_owned(),
            source,
        };
        let pin = SpkiPin::parse(own).map_err(unusable)?;
        let signer = provider()
            .key_provider
            .load_private_key(key.clone_key())
            .map_err(|source| TlsError::Key {
                origin: key_origin.to_owned(),
                source,
            })?;
        let certified = CertifiedKey::new(chain, signer);
        // Not `CertifiedKey::from_der`: it accepts a key that cannot tell its public half.
        certified.keys_match().map_err(|source| match source {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::KeyMismatch {
                    certificate: chain_origin.to_owned(),
                    key: key_origin.to_owned(),
                }
            }
            source => unusable(source),
        })?;
        Ok(Self(Arc::new(Inner {
            certified: Arc::new(certified),
            key,
            pin,
        })))
    }
}

fn private_key(pem: &[u8], origin: &str) -> Result<PrivateKeyDer<'static>, TlsError> {
    const ENCRYPTED: &[u8] = b"ENCRYPTED";

    let first = PrivateKeyDer::pem_slice_iter(pem).next();
    // Both encrypted forms say so in clear text (the label of PKCS #8, the `Proc-Type` header of
    // the older ones), but the parser skips the first and stumbles over the second.
    if !matches!(first, Some(Ok(_))) && pem.windows(ENCRYPTED.len()).any(|w| w == ENCRYPTED) {
        return Err(TlsError::EncryptedKey {
            origin: origin.to_owned(),
        });
    }
    match first {
        Some(Ok(key)) => Ok(key),
        Some(Err(source)) => Err(TlsError::Pem {
            origin: origin.to_owned(),
            source,
        }),
        None => Err(TlsError::Missing {
            item: "private key",
            origin: origin.to_owned(),
        }),
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            certified,
            key: _,
            pin,
        } = &*self.0;
        f.debug_struct("Identity")
            .field("certificates", &certified.cert.len())
            .field("pin", pin)
            .field("key", &"redacted")
            .finish()
    }
}

impl fmt::Debug for IdentityPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            certificates,
            private_key: _,
        } = self;
        f.debug_struct("IdentityPem")
            .field("certificates", certificates)
            .field("private_key", &"redacted")
            .finish()
    }
}
