//! What the two sides agree to speak.

use msgtrans_tls::{ClientTls, ServerTls, TlsError};
use rustls::{AlertDescription, Error};

use crate::authority::Authority;
use crate::pump::{Refusal, connect_configs};

fn check(client: &[&[u8]], server: &[&[u8]]) -> Result<Option<Vec<u8>>, Refusal> {
    let authority = Authority::new();
    let server = ServerTls::new(authority.issue("node.example"))
        .build(server)
        .unwrap();
    let client_tls = ClientTls::new().roots(authority.roots());
    let name = client_tls.name_for("node.example").unwrap();
    let established = connect_configs(&client_tls.build(client).unwrap(), &server, name)?;
    let agreed = established.client.alpn_protocol();
    assert_eq!(agreed, established.server.alpn_protocol());
    Ok(agreed.map(<[u8]>::to_vec))
}

#[test]
fn a_common_name_is_agreed_on_in_the_servers_order() {
    let agreed = check(
        &[b"msgtrans/1", b"msgtrans/2"],
        &[b"msgtrans/2", b"msgtrans/1"],
    );
    assert_eq!(agreed, Ok(Some(b"msgtrans/2".to_vec())));
}

#[test]
fn names_without_a_match_are_refused_by_the_server() {
    assert_eq!(
        check(&[b"http/1.1"], &[b"msgtrans/2"]),
        Err(Refusal::ByServer(Error::NoApplicationProtocol))
    );
}

#[test]
fn a_client_is_told_why_it_was_refused() {
    use rustls::{ClientConnection, ServerConnection};

    let authority = Authority::new();
    let tls = ClientTls::new().roots(authority.roots());
    let name = tls.name_for("node.example").unwrap();
    let mut client = ClientConnection::new(tls.build(&[b"h2"]).unwrap(), name).unwrap();
    let server = ServerTls::new(authority.issue("node.example"));
    let mut server = ServerConnection::new(server.build(&[b"msgtrans/2"]).unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    server.read_tls(&mut bytes.as_slice()).unwrap();
    assert!(server.process_new_packets().is_err());
    bytes.clear();
    server.write_tls(&mut bytes).unwrap();
    client.read_tls(&mut bytes.as_slice()).unwrap();
    assert_eq!(
        client.process_new_packets().map(|_| ()),
        Err(Error::AlertReceived(
            AlertDescription::NoApplicationProtocol
        ))
    );
}

#[test]
fn alpn_is_offered_and_accepted_but_not_required() {
    assert_eq!(check(&[], &[b"msgtrans/2"]), Ok(None));
    assert_eq!(check(&[b"msgtrans/2"], &[]), Ok(None));
}

#[test]
fn names_that_do_not_fit_are_an_error_that_states_the_length() {
    let identity = msgtrans_tls::Identity::development().unwrap();
    let client = ClientTls::new().pin(identity.spki_pin());
    let server = ServerTls::new(identity);
    let long = [b'x'; 256];
    for (name, bad) in [(&b""[..], 0), (&long[..], 256)] {
        for error in [
            server.build(&[b"ok", name]).map(|_| ()),
            client.build(&[b"ok", name]).map(|_| ()),
        ] {
            assert!(matches!(error, Err(TlsError::AlpnName { len }) if len == bad));
        }
    }
    assert!(server.build(&[&long[..255]]).is_ok());
}
