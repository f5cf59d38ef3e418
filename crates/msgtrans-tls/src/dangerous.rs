//! Believing any server. Reached only by naming it.
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

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::ClientTls;

impl ClientTls {
    /// The choices that make TLS worth less.
    #[cfg_attr(docsrs, doc(cfg(feature = "dangerous-insecure")))]
    pub fn dangerous(self) -> DangerousClientTls {
        DangerousClientTls(self)
    }
}

/// A [`ClientTls`] about to be weakened. Made by [`ClientTls::dangerous`].
#[derive(Debug)]
#[must_use = "the choice gives the ClientTls back"]
pub struct DangerousClientTls(ClientTls);

impl DangerousClientTls {
    /// Believes every server: roots, names and dates no longer matter. The connection is encrypted,
    /// with whomever it is.
    ///
    /// Pins still hold, and the handshake's signature is still verified.
    /// [`ClientTls::skips_verification`] tells the caller to warn.
    pub fn skip_verification(self) -> ClientTls {
        self.0.skip_verification()
    }
}

/// Accepts every certificate, and only that: the server must still prove that it holds the key.
///
/// It keeps a listener off connections that others made; it does nothing against a man in the
/// middle, who shows a certificate of their own.
#[derive(Debug)]
pub struct NoCertificateVerification {
    algorithms: WebPkiSupportedAlgorithms,
}

impl NoCertificateVerification {
    pub(crate) fn new(provider: &CryptoProvider) -> Self {
        Self {
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for NoCertificateVerification {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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
