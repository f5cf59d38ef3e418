//! Returning clients.

use std::sync::Arc;

use msgtrans_tls::{ClientAuth, ClientTls, Identity, Resumption, ServerTls, TlsError, TlsVersion};
use rustls::HandshakeKind;

use crate::authority::Authority;
use crate::pump::connect_configs;

/// How the second handshake of one client with one server goes.
fn second(client: &ClientTls, server: &ServerTls) -> HandshakeKind {
    let client_config = client.build(&[]).unwrap();
    let server_config = server.build(&[]).unwrap();
    let connect = || {
        let name = client.name_for("node.example").unwrap();
        connect_configs(&client_config, &server_config, name)
            .unwrap()
            .kind()
    };
    assert_eq!(connect(), HandshakeKind::Full);
    connect()
}

#[test]
fn a_client_resumes_unless_one_side_declined() {
    for version in [TlsVersion::Tls13, TlsVersion::Tls12] {
        let authority = Authority::new();
        let client = ClientTls::new()
            .roots(authority.roots())
            .min_version(version);
        let server = ServerTls::new(authority.issue("node.example")).min_version(version);
        let memory = Resumption::Memory { sessions_max: 8 };
        for (server, kind) in [
            (server.clone(), HandshakeKind::Resumed),
            (server.clone().resumption(memory), HandshakeKind::Resumed),
            (
                server.clone().resumption(Resumption::Off),
                HandshakeKind::Full,
            ),
        ] {
            assert_eq!(second(&client, &server), kind, "{server:?}");
        }
        assert_eq!(
            second(&client.resumption(false), &server),
            HandshakeKind::Full
        );
    }
}

#[test]
fn client_certificates_are_looked_at_each_time_unless_resumption_was_asked_for() {
    let authority = Authority::new();
    let client = ClientTls::new()
        .roots(authority.roots())
        .identity(authority.issue("client.example"));
    let server = ServerTls::new(authority.issue("node.example"))
        .client_auth(ClientAuth::Required(authority.roots()));
    assert_eq!(second(&client, &server), HandshakeKind::Full);
    let server = server.resumption(Resumption::Tickets);
    assert_eq!(second(&client, &server), HandshakeKind::Resumed);
}

#[test]
fn a_ticket_is_worth_nothing_to_another_configuration_of_the_same_server() {
    let authority = Authority::new();
    let tls = ClientTls::new().roots(authority.roots());
    let client = tls.build(&[]).unwrap();
    let server = ServerTls::new(authority.issue("node.example"));
    for config in [server.build(&[]).unwrap(), server.build(&[]).unwrap()] {
        let name = tls.name_for("node.example").unwrap();
        let established = connect_configs(&client, &config, name).unwrap();
        assert_eq!(established.kind(), HandshakeKind::Full);
    }
}

#[test]
fn a_cache_of_no_sessions_is_refused() {
    let server = ServerTls::new(Identity::development().unwrap())
        .resumption(Resumption::Memory { sessions_max: 0 });
    assert!(matches!(server.build(&[]), Err(TlsError::NoSessions)));
}

#[test]
fn early_data_is_off() {
    let identity = Identity::development().unwrap();
    let client = ClientTls::new()
        .pin(identity.spki_pin())
        .build(&[])
        .unwrap();
    let server: Arc<_> = ServerTls::new(identity)
        .resumption(Resumption::Memory { sessions_max: 8 })
        .build(&[])
        .unwrap();
    assert!(!client.enable_early_data);
    assert_eq!(server.max_early_data_size, 0);
}
