//! A new certificate for a server that is serving.

use msgtrans_tls::{ClientTls, ServerTls, SpkiPin, TlsError};

use crate::authority::{Authority, Dates};
use crate::files::{Dir, write};
use crate::pump::connect_configs;

struct Serving {
    authority: Authority,
    server: std::sync::Arc<rustls::ServerConfig>,
}

impl Serving {
    fn start() -> (Self, ServerTls) {
        let authority = Authority::new();
        let tls = ServerTls::new(authority.issue("node.example"));
        let server = tls.build(&[]).unwrap();
        (Self { authority, server }, tls)
    }

    /// The key that a new client is shown.
    fn shown(&self) -> SpkiPin {
        let client = ClientTls::new().roots(self.authority.roots());
        let name = client.name_for("node.example").unwrap();
        connect_configs(&client.build(&[]).unwrap(), &self.server, name)
            .unwrap()
            .server_pin()
    }
}

#[test]
fn new_connections_see_the_new_certificate_and_old_ones_stay() {
    let (serving, tls) = Serving::start();
    let old = tls.identity().spki_pin();
    assert_eq!(serving.shown(), old);
    let client = ClientTls::new().pin(old);
    let name = client.name_for("node.example").unwrap();
    let mut before = connect_configs(&client.build(&[]).unwrap(), &serving.server, name).unwrap();

    let new = serving.authority.issue("node.example");
    let reloader = tls.reloader();
    reloader.reload(new.clone()).unwrap();
    assert_eq!(serving.shown(), new.spki_pin());
    assert_ne!(serving.shown(), old);
    assert_eq!(reloader.identity().spki_pin(), new.spki_pin());
    before.check_echo();
}

#[test]
fn one_reload_reaches_every_configuration_of_the_server() {
    let (mut serving, tls) = Serving::start();
    let built_before = serving.server.clone();
    let new = serving.authority.issue("node.example");
    tls.clone().reloader().reload(new.clone()).unwrap();
    let built_after = tls.build(&[]).unwrap();
    for config in [built_before, built_after] {
        serving.server = config;
        assert_eq!(serving.shown(), new.spki_pin());
    }
}

#[test]
fn a_certificate_out_of_its_dates_keeps_the_old_one() {
    let (serving, tls) = Serving::start();
    let old = tls.identity().spki_pin();
    for dates in [Dates::Past, Dates::Future] {
        let bad = serving.authority.issue_dated("node.example", dates);
        let error = tls.reloader().reload(bad).unwrap_err();
        assert!(matches!(error, TlsError::Reload { .. }), "{error:?}");
        assert_eq!(serving.shown(), old);
    }
}

#[test]
fn a_pair_that_does_not_match_keeps_the_old_one_until_both_files_are_there() {
    let (serving, tls) = Serving::start();
    let old = tls.identity().spki_pin();
    let new = serving.authority.issue("node.example");
    let dir = Dir::new("reload");
    let certificate = write(&dir, "cert.pem", &new.to_pem().certificates, 0o644);
    let key = write(&dir, "key.pem", &tls.identity().to_pem().private_key, 0o600);

    // The certificate was renewed a moment before its key.
    let error = tls
        .reloader()
        .reload_pem_files(&certificate, &key)
        .unwrap_err();
    assert!(matches!(error, TlsError::KeyMismatch { .. }), "{error:?}");
    assert_eq!(serving.shown(), old);

    // A file is gone for a moment.
    std::fs::remove_file(&key).unwrap();
    let error = tls
        .reloader()
        .reload_pem_files(&certificate, &key)
        .unwrap_err();
    assert!(
        matches!(&error, TlsError::Read { path, .. } if *path == key),
        "{error:?}"
    );
    assert_eq!(serving.shown(), old);

    let key = write(&dir, "key.pem", &new.to_pem().private_key, 0o600);
    tls.reloader().reload_pem_files(&certificate, &key).unwrap();
    assert_eq!(serving.shown(), new.spki_pin());
}

#[test]
fn handshakes_during_reloads_always_find_a_matching_pair() {
    let (serving, tls) = Serving::start();
    let one = tls.identity();
    let two = serving.authority.issue("node.example");
    let pins = [one.spki_pin(), two.spki_pin()];
    std::thread::scope(|scope| {
        let reloader = tls.reloader();
        scope.spawn(move || {
            for _ in 0..200 {
                reloader.reload(two.clone()).unwrap();
                reloader.reload(one.clone()).unwrap();
            }
        });
        for _ in 0..20 {
            assert!(pins.contains(&serving.shown()));
        }
    });
}
