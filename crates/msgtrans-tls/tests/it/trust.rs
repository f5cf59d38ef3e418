//! Servers that a client believes, and those it refuses.

use msgtrans_tls::{ClientTls, Identity, PinMismatch, ServerTls, SpkiPin, TlsError};
use rcgen::KeyPair;
use rustls::{CertificateError, Error};
use rustls_pki_types::ServerName;

use crate::authority::{Authority, Dates, self_signed};
use crate::pump::{Refusal, connect};

/// Why the client refused the server's certificate.
fn refused(client: &ClientTls, server: Identity, host: &str) -> CertificateError {
    match connect(client, &ServerTls::new(server), host).map(|_| ()) {
        Err(Refusal::ByClient(Error::InvalidCertificate(reason))) => reason,
        other => panic!("not refused by the client: {other:?}"),
    }
}

fn pin_mismatch(reason: &CertificateError) -> &PinMismatch {
    match reason {
        CertificateError::Other(other) => other.0.downcast_ref().unwrap(),
        other => panic!("not about a pin: {other:?}"),
    }
}

#[test]
fn a_server_of_the_right_authority_is_believed() {
    let authority = Authority::new();
    let client = ClientTls::new().roots(authority.roots());
    for name in ["node.example", "192.0.2.7", "2001:db8::7"] {
        let server = ServerTls::new(authority.issue(name));
        assert!(connect(&client, &server, name).is_ok(), "{name}");
    }
}

#[test]
fn the_wrong_host_is_refused() {
    let authority = Authority::new();
    let client = ClientTls::new().roots(authority.roots());
    for (issued, dialled) in [
        ("node.example", "other.example"),
        ("node.example", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.8"),
        ("*.example.org", "deep.node.example.org"),
    ] {
        let reason = refused(&client, authority.issue(issued), dialled);
        assert!(
            matches!(reason, CertificateError::NotValidForNameContext { .. }),
            "{issued} for {dialled}: {reason:?}"
        );
    }
}

#[test]
fn an_expired_certificate_and_one_of_tomorrow_are_refused() {
    let authority = Authority::new();
    let client = ClientTls::new().roots(authority.roots());
    let past = authority.issue_dated("node.example", Dates::Past);
    assert!(matches!(
        refused(&client, past, "node.example"),
        CertificateError::ExpiredContext { .. }
    ));
    let future = authority.issue_dated("node.example", Dates::Future);
    assert!(matches!(
        refused(&client, future, "node.example"),
        CertificateError::NotValidYetContext { .. }
    ));
}

#[test]
fn a_self_signed_certificate_is_refused() {
    let client = ClientTls::new().roots(Authority::new().roots());
    let server = self_signed("node.example", Dates::Now);
    assert_eq!(
        refused(&client, server, "node.example"),
        CertificateError::UnknownIssuer
    );
}

#[test]
fn another_authority_of_the_same_name_is_refused() {
    let client = ClientTls::new().roots(Authority::new().roots());
    let server = Authority::new().issue("node.example");
    // Both authorities have the same subject, so that only the signature tells them apart.
    assert_eq!(
        refused(&client, server, "node.example"),
        CertificateError::BadSignature
    );
}

#[test]
fn the_server_name_replaces_the_host_dialled() {
    let authority = Authority::new();
    let server = ServerTls::new(authority.issue("node.example"));
    let client = ClientTls::new().roots(authority.roots());
    assert!(connect(&client, &server, "127.0.0.1").is_err());
    let client = client.server_name("node.example");
    assert_eq!(
        client.name_for("127.0.0.1").unwrap(),
        ServerName::try_from("node.example").unwrap()
    );
    let established = connect(&client, &server, "127.0.0.1").unwrap();
    assert_eq!(established.server.server_name(), Some("node.example"));
}

#[test]
fn a_host_that_is_no_name_is_an_error_that_shows_it() {
    for bad in ["", "a b", "[::1", "host:443", "-x."] {
        let error = ClientTls::new().name_for(bad).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{bad:?} is neither a dns name nor an ip address")
        );
        let client = ClientTls::new().roots(Authority::new().roots());
        assert!(matches!(
            client.server_name(bad).build(&[]),
            Err(TlsError::ServerName { value }) if value == bad
        ));
    }
}

#[test]
fn a_client_that_was_told_nothing_says_what_to_do() {
    let error = ClientTls::new().build(&[]).unwrap_err();
    assert!(matches!(error, TlsError::NothingToVerifyWith));
    let text = error.to_string();
    assert!(
        text.contains("Roots::from_pem_file") && text.contains("SpkiPin"),
        "{text}"
    );
}

#[test]
fn a_pinned_key_is_believed_without_roots_whatever_else_the_certificate_says() {
    for dates in [Dates::Now, Dates::Past] {
        let identity = self_signed("node.example", dates);
        let client = ClientTls::new().pin(identity.spki_pin());
        let established = connect(&client, &ServerTls::new(identity), "other.example");
        assert!(established.is_ok());
    }
}

#[test]
fn a_key_that_is_not_pinned_is_refused_and_named() {
    let identity = self_signed("node.example", Dates::Now);
    let presented = identity.spki_pin();
    let client = ClientTls::new()
        .pin(SpkiPin::from_sha256([1; 32]))
        .pin(SpkiPin::from_sha256([2; 32]));
    let reason = refused(&client, identity, "node.example");
    let mismatch = pin_mismatch(&reason);
    assert_eq!((mismatch.presented, mismatch.pinned), (presented, 2));
}

#[test]
fn any_of_several_pins_will_do_so_that_keys_can_rotate() {
    let old = self_signed("node.example", Dates::Now);
    let new = self_signed("node.example", Dates::Now);
    let client = ClientTls::new().pin(old.spki_pin()).pin(new.spki_pin());
    for identity in [old, new] {
        assert!(connect(&client, &ServerTls::new(identity), "node.example").is_ok());
    }
}

#[test]
fn a_pin_outlives_the_certificate_as_long_as_the_key_stays() {
    let authority = Authority::new();
    let key = KeyPair::generate().unwrap();
    let old = authority.issue_with_key("old.example", Dates::Past, &key);
    let renewed = authority.issue_with_key("new.example", Dates::Now, &key);
    assert_ne!(old.certificates(), renewed.certificates());
    assert_eq!(old.spki_pin(), renewed.spki_pin());
}

#[test]
fn with_roots_and_pins_a_server_must_pass_both() {
    let authority = Authority::new();
    let right = authority.issue("node.example");
    let client = ClientTls::new()
        .roots(authority.roots())
        .pin(right.spki_pin());
    assert!(connect(&client, &ServerTls::new(right.clone()), "node.example").is_ok());

    // The right key under the wrong name.
    assert!(matches!(
        refused(&client, right, "other.example"),
        CertificateError::NotValidForNameContext { .. }
    ));
    // The right name with another key.
    let reason = refused(&client, authority.issue("node.example"), "node.example");
    assert_eq!(pin_mismatch(&reason).pinned, 1);
    // The right key from nobody.
    let stranger = self_signed("node.example", Dates::Now);
    let client = ClientTls::new()
        .roots(authority.roots())
        .pin(stranger.spki_pin());
    assert_eq!(
        refused(&client, stranger, "node.example"),
        CertificateError::UnknownIssuer
    );
}

#[test]
fn a_pinned_certificate_without_its_key_is_refused() {
    use crate::pump::connect_configs;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use std::sync::Arc;

    // An impostor who has the public certificate and signs with a key of their own.
    let victim = Identity::development().unwrap();
    let impostor = KeyPair::generate().unwrap();
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(impostor.serialize_der());
    let provider = rustls::crypto::ring::default_provider();
    let signer = provider.key_provider.load_private_key(key.into()).unwrap();
    let forged = CertifiedKey::new(victim.certificates().to_vec(), signer);

    for (min_version, version) in [
        (msgtrans_tls::TlsVersion::Tls13, &rustls::version::TLS13),
        (msgtrans_tls::TlsVersion::Tls12, &rustls::version::TLS12),
    ] {
        let server = rustls::ServerConfig::builder_with_provider(provider.clone().into())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(forged.clone())));
        let clients = [
            ClientTls::new().pin(victim.spki_pin()),
            #[cfg(feature = "dangerous-insecure")]
            ClientTls::new().dangerous().skip_verification(),
        ];
        for client in clients {
            let config = client.min_version(min_version).build(&[]).unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            assert_eq!(
                connect_configs(&config, &Arc::new(server.clone()), name).map(|_| ()),
                Err(Refusal::ByClient(CertificateError::BadSignature.into()))
            );
        }
    }
}

#[cfg(feature = "dangerous-insecure")]
mod skipped {
    use super::*;

    #[test]
    fn verification_can_be_skipped_by_name_only_and_the_caller_can_see_it() {
        let client = ClientTls::new();
        assert!(!client.skips_verification());
        let client = client.dangerous().skip_verification();
        assert!(client.skips_verification());
        for dates in [Dates::Now, Dates::Past] {
            let server = ServerTls::new(self_signed("node.example", dates));
            assert!(connect(&client, &server, "other.example").is_ok());
        }
    }

    #[test]
    fn skipping_wins_over_roots_but_pins_hold() {
        let server = self_signed("node.example", Dates::Now);
        let client = ClientTls::new()
            .roots(Authority::new().roots())
            .dangerous()
            .skip_verification();
        assert!(connect(&client, &ServerTls::new(server.clone()), "node.example").is_ok());
        let client = client.pin(SpkiPin::from_sha256([0; 32]));
        let reason = refused(&client, server, "node.example");
        assert_eq!(pin_mismatch(&reason).pinned, 1);
    }
}
