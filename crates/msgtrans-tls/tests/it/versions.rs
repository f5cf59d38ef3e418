//! TLS 1.3 unless 1.2 was asked for on both sides; nothing older exists.

use msgtrans_tls::{ClientTls, ServerTls, TlsVersion};
use rustls::ProtocolVersion;
use rustls::{Error, PeerIncompatible};

use crate::authority::Authority;
use crate::pump::{Established, Refusal, connect_configs};

/// A peer that knows TLS 1.2 alone, which [`ClientTls`] has no way to be.
fn old_client(authority: &Authority) -> rustls::ClientConfig {
    let tls = ClientTls::new()
        .roots(authority.roots())
        .min_version(TlsVersion::Tls12);
    let modern = tls.build(&[]).unwrap();
    let provider = modern.crypto_provider().clone();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate()).unwrap();
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn check(server: TlsVersion) -> Result<Established, Refusal> {
    let authority = Authority::new();
    let server = ServerTls::new(authority.issue("node.example")).min_version(server);
    let name = ClientTls::new().name_for("node.example").unwrap();
    let client = old_client(&authority).into();
    connect_configs(&client, &server.build(&[]).unwrap(), name)
}

#[test]
fn a_peer_of_tls_1_2_is_refused_by_default() {
    assert_eq!(TlsVersion::default(), TlsVersion::Tls13);
    assert_eq!(
        check(TlsVersion::Tls13).map(|_| ()),
        Err(Refusal::ByServer(Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOfferedOrEnabled
        )))
    );
}

#[test]
fn a_peer_of_tls_1_2_is_served_where_that_was_asked_for() {
    let established = check(TlsVersion::Tls12).unwrap();
    assert_eq!(
        established.server.protocol_version(),
        Some(ProtocolVersion::TLSv1_2)
    );
}

#[test]
fn allowing_1_2_does_not_choose_it() {
    let authority = Authority::new();
    let server = ServerTls::new(authority.issue("node.example")).min_version(TlsVersion::Tls12);
    let client = ClientTls::new()
        .roots(authority.roots())
        .min_version(TlsVersion::Tls12);
    let established = crate::pump::connect(&client, &server, "node.example").unwrap();
    assert_eq!(
        established.server.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
}
