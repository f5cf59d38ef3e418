//! The certificate that is made on the spot: its dates, its key, and whom it is for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use msgtrans_tls::{ClientTls, Identity, Roots, ServerTls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::{ServerName, UnixTime, alg_id};

use crate::pump::connect;

const DAY: u64 = 24 * 60 * 60;

/// What a client with a clock that is off by `seconds` says.
fn check_at(seconds: i64) -> Result<(), Error> {
    let identity = Identity::development().unwrap();
    let certificate = &identity.certificates()[0];
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.into())
        .build()
        .unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let then = now.as_secs().checked_add_signed(seconds).unwrap();
    let then = UnixTime::since_unix_epoch(Duration::from_secs(then));
    let localhost = ServerName::try_from("localhost").unwrap();
    verifier
        .verify_server_cert(certificate, &[], &localhost, &[], then)
        .map(|_| ())
}

#[test]
fn it_lives_for_thirteen_days_and_starts_a_little_early() {
    let days = |days: u64| i64::try_from(days * DAY).unwrap();
    for good in [0, -3_000, days(12), days(13) - 60] {
        assert_eq!(check_at(good), Ok(()), "{good} s from now");
    }
    assert!(matches!(
        check_at(days(13) + 60),
        Err(Error::InvalidCertificate(
            CertificateError::ExpiredContext { .. }
        ))
    ));
    // Browsers want less than 14 days between the two dates, not from today.
    assert!(matches!(
        check_at(days(13) + 60 - days(14)),
        Err(Error::InvalidCertificate(
            CertificateError::NotValidYetContext { .. }
        ))
    ));
}

#[test]
fn its_key_is_ecdsa_p256() {
    let identity = Identity::development().unwrap();
    let parsed = ParsedCertificate::try_from(&identity.certificates()[0]).unwrap();
    let spki = parsed.subject_public_key_info();
    // SEQUENCE { SEQUENCE { algorithm }, BIT STRING }
    assert!(spki[4..].starts_with(&alg_id::ECDSA_P256));
}

#[test]
fn it_is_its_own_root_for_every_loopback_name_and_no_other() {
    let identity = Identity::development().unwrap();
    let roots = Roots::from_pem(identity.to_pem().certificates.as_bytes()).unwrap();
    let client = ClientTls::new().roots(roots);
    let server = ServerTls::new(identity);
    for host in ["localhost", "127.0.0.1", "::1", "[::1]"] {
        assert!(connect(&client, &server, host).is_ok(), "{host}");
    }
    for host in ["example.org", "127.0.0.2", "::2"] {
        assert!(connect(&client, &server, host).is_err(), "{host}");
    }
}

#[test]
fn it_serves_as_a_client_certificate_too() {
    use msgtrans_tls::ClientAuth;

    let identity = Identity::development().unwrap();
    let roots = Roots::from_der(identity.certificates().iter().cloned()).unwrap();
    let server = ServerTls::new(identity.clone()).client_auth(ClientAuth::Required(roots.clone()));
    let client = ClientTls::new().roots(roots).identity(identity);
    assert!(connect(&client, &server, "localhost").is_ok());
}

#[test]
fn each_has_a_key_of_its_own() {
    let one = Identity::development().unwrap();
    let two = Identity::development().unwrap();
    assert_ne!(one.spki_pin(), two.spki_pin());
}
