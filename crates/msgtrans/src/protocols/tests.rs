//! Each scheme is there with its features, and says what is missing without them.

use super::*;

fn outcome(url: &str) -> (Result<(), String>, Result<(), String>) {
    let endpoint = Endpoint::parse(url).expect("a URL");
    (
        BuiltIn::server(&endpoint)
            .map(drop)
            .map_err(|error| error.to_string()),
        BuiltIn::connector(&endpoint)
            .map(drop)
            .map_err(|error| error.to_string()),
    )
}

/// What both sides say where they are refused; `None` where one of them is not.
fn refused(url: &str) -> Option<String> {
    let (server, client) = outcome(url);
    let (server, client) = (server.err()?, client.err()?);
    assert_eq!(server, client);
    Some(server)
}

const PIN: &str = "pin=sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

#[test]
fn every_scheme_is_there_with_its_features_or_names_those_that_are_off() {
    for (scheme, features, on_this_system) in TABLE {
        let (server, client) = match *scheme {
            "tls" | "wss" => (
                format!("{scheme}://h:1?cert=development"),
                format!("{scheme}://h:1?{PIN}"),
            ),
            "quic" => ("quic://h:1".to_owned(), format!("quic://h:1?{PIN}")),
            "unix" => ("unix:///a".to_owned(), "unix:///a".to_owned()),
            "inproc" => ("inproc://a".to_owned(), "inproc://a".to_owned()),
            plain => (format!("{plain}://h:1"), format!("{plain}://h:1")),
        };
        if features.iter().all(|(_, on)| *on) && *on_this_system {
            assert_eq!(outcome(&server).0, Ok(()));
            assert_eq!(outcome(&client).1, Ok(()));
            continue;
        }
        let why = refused(&server).expect(scheme);
        for (feature, on) in *features {
            assert_eq!(why.contains(&format!("\"{feature}\"")), !on, "{why}");
        }
    }
}

#[test]
fn an_unknown_scheme_is_told_which_there_are() {
    let why = refused("carrier-pigeon://h:1").expect("unknown");
    assert!(
        why.contains("tcp, tls, ws, wss, quic, unix, inproc"),
        "{why}"
    );
}
