//! Pins: believing a key instead of, or on top of, those who vouch for it.
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
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::TlsError;
use crate::pem::{decode_base64_32, push_base64};

const PREFIX: &str = "sha256/";

/// The SHA-256 of a certificate's SubjectPublicKeyInfo: the name of a key.
///
/// It survives a renewed certificate as long as the key stays. Written `sha256/` and base64;
/// curl's `sha256//` is understood as well. With openssl:
///
/// ```text
/// openssl x509 -in cert.pem -pubkey -noout | openssl pkey -pubin -outform der \
///     | openssl dgst -sha256 -binary | base64
/// ```
///
/// ```
/// use msgtrans_tls::SpkiPin;
///
/// let pin: SpkiPin = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".parse()?;
/// assert_eq!(pin, SpkiPin::from_sha256([0; 32]));
/// # Ok::<(), msgtrans_tls::TlsError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpkiPin([u8; 32]);

impl SpkiPin {
    /// A pin from the hash itself.
    pub const fn from_sha256(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The pin of a certificate's key.
    ///
    /// # Errors
    /// [`TlsError::Certificate`] when this is not an X.509 v3 certificate.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        Self::parse(certificate).map_err(|source| TlsError::Certificate {
            origin: "the given certificate".to_owned(),
            source,
        })
    }

    /// The hash.
    pub const fn as_sha256(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn parse(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let spki = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        Ok(Self(sha256(&spki)?))
    }
}

impl FromStr for SpkiPin {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, TlsError> {
        text.strip_prefix(PREFIX)
            // A base64 digit may be a slash too; the fixed length tells which one this is.
            .and_then(|rest| {
                decode_base64_32(rest).or_else(|| rest.strip_prefix('/').and_then(decode_base64_32))
            })
            .map(Self)
            .ok_or_else(|| TlsError::Pin {
                value: text.chars().take(80).collect(),
            })
    }
}

impl fmt::Display for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = PREFIX.to_owned();
        push_base64(&mut text, &self.0);
        f.write_str(&text)
    }
}

impl fmt::Debug for SpkiPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpkiPin({self})")
    }
}

/// The server proved that it holds a key, but not one of the pinned ones.
///
/// Found in [`rustls::Error::InvalidCertificate`] as [`CertificateError::Other`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the server's key {presented} is none of the {pinned} pinned")]
#[non_exhaustive]
pub struct PinMismatch {
    /// The key that the server showed.
    pub presented: SpkiPin,
    /// How many pins it was compared with.
    pub pinned: usize,
}

/// SHA-256 of the crypto provider, reached through a cipher suite that is built on it: rustls
/// exports no hash on its own, and `ring` as a direct dependency would be one more to keep level.
fn sha256(bytes: &[u8]) -> Result<[u8; 32], rustls::Error> {
    let no_sha256 = || rustls::Error::General("crypto provider without sha-256".to_owned());
    let suite = rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let suite = suite.tls13().ok_or_else(no_sha256)?;
    let hash = suite.common.hash_provider.hash(bytes);
    hash.as_ref().try_into().map_err(|_| no_sha256())
}

/// Demands that the server's own key is pinned, and a valid chain and name where there are roots.
///
/// Only the first certificate counts. Those behind it are whatever the server chose to send: a
/// match there would prove nothing unless the chain was verified up to it.
///
/// Without roots, name and dates are not looked at. Nobody vouches for them, and whoever stole the
/// key can write others into a new certificate: they would lock out only the rightful owner.
#[derive(Debug)]
pub(crate) struct PinVerifier {
    pins: Vec<SpkiPin>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinVerifier {
    pub(crate) fn new(
        pins: Vec<SpkiPin>,
        chain: Option<Arc<WebPkiServerVerifier>>,
        provider: &CryptoProvider,
    ) -> Self {
        debug_assert!(!pins.is_empty(), "no pin would refuse every server");
        Self {
            pins,
            chain,
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        }
        let presented = SpkiPin::parse(end_entity)?;
        if self.pins.contains(&presented) {
            return Ok(ServerCertVerified::assertion());
        }
        let mismatch = PinMismatch {
            presented,
            pinned: self.pins.len(),
        };
        Err(CertificateError::Other(OtherError(Arc::new(mismatch))).into())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_is_sha256() {
        let empty = sha256(b"")
            .map(SpkiPin::from_sha256)
            .map(|pin| pin.to_string());
        assert_eq!(
            empty.as_deref(),
            Ok("sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
        );
    }

    #[test]
    fn a_pin_is_read_in_our_spelling_and_in_curls() {
        // All ones: the first digit is a slash itself.
        let pin = SpkiPin::from_sha256([0xFF; 32]);
        let text = pin.to_string();
        assert!(text.starts_with("sha256//"), "{text}");
        assert_eq!(text.parse::<SpkiPin>().ok(), Some(pin));
        let curl = text.replacen("sha256/", "sha256//", 1);
        assert_eq!(curl.parse::<SpkiPin>().ok(), Some(pin));
    }

    #[test]
    fn a_bad_pin_is_named_in_the_error_and_cut() {
        for bad in ["", "sha256/", "sha1/AAAA", "AAAA"] {
            let error = bad.parse::<SpkiPin>().map_err(|e| e.to_string());
            assert_eq!(
                error,
                Err(format!(
                    "pin {bad:?} is not \"sha256/\" and the base64 of 32 bytes"
                ))
            );
        }
        let long = "x"
            .repeat(10_000)
            .parse::<SpkiPin>()
            .map_err(|e| e.to_string());
        assert!(long.is_err_and(|text| text.len() < 200));
    }
}
