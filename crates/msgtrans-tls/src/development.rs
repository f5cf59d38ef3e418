//! The certificate of the first five minutes: made on the spot, for this machine alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::{Identity, TlsError};

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// From now until it expires.
const LIFETIME: Duration = Duration::from_secs(13 * 24 * 60 * 60);
/// How far a client's clock may be behind. Together with the lifetime still below the 14 days that
/// browsers allow.
const BACKDATE: Duration = Duration::from_secs(60 * 60);

pub(crate) fn generate() -> Result<Identity, TlsError> {
    let (certificate, key) = self_signed().map_err(|source| TlsError::Generate { source })?;
    Identity::from_der(
        vec![certificate],
        PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    )
}

fn self_signed() -> Result<(rustls_pki_types::CertificateDer<'static>, KeyPair), rcgen::Error> {
    // P-256 and not Ed25519: browsers take certificates by hash with this one only.
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(NAMES.map(String::from))?;
    params
        .distinguished_name
        .push(DnType::CommonName, "msgtrans development");
    // A clock before 1970 gives a certificate of 1970: invalid elsewhere, and no panic here.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATE);
    params.not_after = epoch + now + LIFETIME;
    // Not marked as an authority, so that it can be its own root: rustls refuses an authority in a
    // server's place.
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params.self_signed(&key)?;
    Ok((certificate.der().clone(), key))
}
