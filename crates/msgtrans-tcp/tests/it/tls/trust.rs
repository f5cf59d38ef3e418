//! Who is believed, and every option that says so.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use msgtrans_core::{ConnectError, WireVersion, WireVersions};
use msgtrans_tcp::{TcpClientConfig, TcpServerConfig};
use msgtrans_testkit::Peer;
use msgtrans_tls::{ClientAuth, ClientTls, Identity, ServerTls};
use msgtrans_transport::{ConnectionError, ProtocolConfig};

use super::{Dialled, bind, dial, identity, local, meet, pinning, roots, url};

const V2: WireVersions = WireVersions::V2;

/// A file of one test, which goes with it.
struct TestFile(PathBuf);

impl Deref for TestFile {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn file(text: &str) -> TestFile {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (process, count) = (std::process::id(), COUNT.fetch_add(1, Relaxed));
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{process}-{count}.pem"));
    fs::write(&path, text).expect("written");
    // Keys must be their owner's alone.
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("permitted");
    TestFile(path)
}

fn certificates(identity: &Identity) -> TestFile {
    file(&identity.to_pem().certificates)
}

fn client(text: &str) -> TcpClientConfig {
    TcpClientConfig::from_endpoint(&url(text)).expect(text)
}

fn server(text: &str) -> TcpServerConfig {
    TcpServerConfig::from_endpoint(&url(text)).expect(text)
}

fn assert_not_believed(dialled: Dialled, what: &str) {
    match dialled.map(drop) {
        Err(error @ ConnectError::Handshake { stage: "tls", .. }) => {
            assert!(!error.is_retryable(), "{what}: {error}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn only_a_server_that_is_known_is_believed() {
    let (own, stranger) = (identity(), identity());
    let (mut listener, address) = bind(&local(&own)).await;
    let port = listener.local_endpoint().port().expect("a port");
    let (ca, other) = (certificates(&own), certificates(&stranger));
    let (ca, other) = (ca.display(), other.display());
    let (pin, other_pin) = (own.spki_pin(), stranger.spki_pin());
    for good in [
        format!("tls://{address}?ca={ca}"),
        format!("tls://{address}?pin={pin}"),
        format!("tls://{address}?ca={ca}&pin={pin}"),
        format!("tls://{address}?ca={ca}&server_name=localhost"),
        format!("tls://localhost:{port}?ca={ca}"),
    ] {
        let (accepted, dialled) = meet(listener.as_mut(), &client(&good), V2).await;
        assert!(accepted.is_ok() && dialled.is_ok(), "{good}");
    }
    for bad in [
        format!("tls://{address}?ca={other}"),
        format!("tls://{address}?pin={other_pin}"),
        format!("tls://{address}?ca={ca}&pin={other_pin}"),
        format!("tls://{address}?ca={other}&pin={pin}"),
        format!("tls://{address}?ca={ca}&server_name=example.org"),
    ] {
        let (accepted, dialled) = meet(listener.as_mut(), &client(&bad), V2).await;
        assert!(accepted.is_err(), "{bad}");
        assert_not_believed(dialled, &bad);
    }
}

#[tokio::test]
async fn the_host_dialled_must_be_the_one_of_the_certificate() {
    let identity = identity();
    let everywhere = TcpServerConfig::new("0.0.0.0:0").tls(ServerTls::new(identity.clone()));
    let (mut listener, _) = bind(&everywhere).await;
    let port = listener.local_endpoint().port().expect("a port");
    let tls = ClientTls::new().roots(roots(&identity));
    for (host, believed) in [("127.0.0.1", true), ("127.0.0.2", false)] {
        let client = TcpClientConfig::new(format!("{host}:{port}")).tls(tls.clone());
        let (_, dialled) = meet(listener.as_mut(), &client, V2).await;
        if believed {
            assert!(dialled.is_ok(), "{host}");
        } else {
            assert_not_believed(dialled, host);
        }
    }
}

#[tokio::test]
async fn a_server_shows_the_certificate_of_its_files() {
    let identity = identity();
    let key = file(&identity.to_pem().private_key);
    let (cert, key) = (certificates(&identity), key.display());
    let text = format!("tls://127.0.0.1:0?cert={}&key={key}", cert.display());
    let config = server(&text);
    assert_eq!(config.endpoint(), url(&text));
    let (mut listener, address) = bind(&config).await;
    let (_, dialled) = meet(listener.as_mut(), &pinning(&address, &identity), V2).await;
    assert!(dialled.is_ok());
}

#[tokio::test]
async fn a_development_certificate_is_made_for_each_bind() {
    let config = server("tls://127.0.0.1:0?cert=development");
    assert_eq!(config.endpoint(), url("tls://127.0.0.1:0?cert=development"));
    let (mut listener, address) = bind(&config).await;
    let (_, dialled) = meet(listener.as_mut(), &pinning(&address, &identity()), V2).await;
    assert_not_believed(dialled, "nobody can know its key beforehand");
}

#[tokio::test]
async fn a_client_without_the_certificate_that_is_asked_for_is_refused() {
    let (own, friend, stranger) = (identity(), identity(), identity());
    let tls = ServerTls::new(own.clone()).client_auth(ClientAuth::Required(roots(&friend)));
    let (mut listener, address) = bind(&TcpServerConfig::new("127.0.0.1:0").tls(tls)).await;
    let trusting = || ClientTls::new().roots(roots(&own));
    for (tls, welcome) in [
        (trusting().identity(friend), true),
        (trusting().identity(stranger), false),
        (trusting(), false),
    ] {
        let client = TcpClientConfig::new(&address).tls(tls);
        let (accepted, dialled) = meet(listener.as_mut(), &client, V2).await;
        assert_eq!(accepted.is_ok(), welcome);
        if welcome {
            assert!(dialled.is_ok());
            continue;
        }
        // In TLS 1.3 the client is done before the server has looked at its certificate.
        if let Ok(connection) = dialled {
            let received = Peer::new(connection, WireVersion::V2).recv().await;
            assert!(
                matches!(received, Err(ConnectionError::Io(_))),
                "{received:?}"
            );
        }
    }
}

#[tokio::test]
async fn files_that_cannot_be_read_are_named() {
    let missing = "tls://127.0.0.1:0?cert=/no/such/cert.pem&key=/no/such/key.pem";
    let context = msgtrans_transport::ListenContext::new(V2, msgtrans_core::Limits::default());
    let bound = msgtrans_transport::ServerProtocol::bind(&server(missing), &context).await;
    let error = bound.map(drop).expect_err("no such file");
    assert!(error.source.to_string().contains("/no/such/"), "{error:?}");

    let (_listener, address) = bind(&local(&identity())).await;
    let client = client(&format!("tls://{address}?ca=/no/such/roots.pem"));
    match dial(&client, V2).await.map(drop) {
        Err(ConnectError::Config(error)) => assert_eq!(error.field(), "ca"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn secure_urls_are_complete_and_plain_ones_take_no_tls_options() {
    let pin = identity().spki_pin();
    for (text, field) in [
        ("tls://h:1", "cert"),
        ("tls://h:1?cert=a.pem", "cert"),
        ("tls://h:1?key=a.pem", "cert"),
        ("tls://h:1?cert=development&key=a.pem&ca=x", "ca"),
        ("tcp://h:1?cert=development", "cert"),
        ("tls://h:1/path?cert=development", "path"),
        ("wss://h:1?cert=development", "scheme"),
    ] {
        let error = TcpServerConfig::from_endpoint(&url(text)).expect_err(text);
        assert_eq!(error.field(), field, "{text}");
    }
    for (text, field) in [
        ("tls://h:1".to_owned(), "trust"),
        ("tls://h:1?server_name=x".to_owned(), "trust"),
        ("tls://h:1?insecure=false".to_owned(), "trust"),
        ("tls://h:1?pin=abc".to_owned(), "pin"),
        (
            format!("tls://h:1?pin={pin}&server_name=-x."),
            "server_name",
        ),
        (format!("tls://-x.:1?pin={pin}"), "server_name"),
        (format!("tcp://h:1?pin={pin}"), "pin"),
    ] {
        let error = TcpClientConfig::from_endpoint(&url(&text)).expect_err(&text);
        assert_eq!(error.field(), field, "{text}");
    }
    let nobody = TcpClientConfig::new("h:1").tls(ClientTls::new());
    assert_eq!(
        nobody.validate().expect_err("believes nobody").field(),
        "tls"
    );
}

#[test]
fn a_client_is_spelled_the_same_when_it_is_read_back() {
    let pin = identity().spki_pin();
    let text = format!("tls://h:1?nodelay=false&ca=roots.pem&pin={pin}&server_name=x.org&wire=v1");
    assert_eq!(client(&text).endpoint(), url(&text));
}

#[cfg(not(feature = "dangerous-insecure"))]
#[test]
fn verification_cannot_be_skipped_without_the_feature() {
    let error = TcpClientConfig::from_endpoint(&url("tls://h:1?insecure=true"));
    assert_eq!(error.expect_err("needs the feature").field(), "insecure");
}

#[cfg(feature = "dangerous-insecure")]
mod insecure {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Counts warnings.
    struct Warnings(Arc<AtomicUsize>);

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            if event.metadata().target().starts_with("msgtrans_tcp") {
                self.0.fetch_add(1, Relaxed);
            }
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[tokio::test]
    async fn verification_can_be_skipped_and_each_dial_is_warned_about() {
        let warnings = Arc::new(AtomicUsize::new(0));
        let _guard = tracing::subscriber::set_default(Warnings(warnings.clone()));
        let (mut listener, address) = bind(&local(&identity())).await;
        let client = client(&format!("tls://{address}?insecure=true"));
        let spelled = url(&format!("tls://{address}?insecure=true"));
        assert_eq!(client.endpoint(), spelled);
        for dials in 1..=2 {
            let (accepted, dialled) = meet(listener.as_mut(), &client, V2).await;
            assert!(accepted.is_ok() && dialled.is_ok());
            assert_eq!(warnings.load(Relaxed), dials);
        }
        let pinned = pinning(&address, &identity());
        let (_, dialled) = meet(listener.as_mut(), &pinned, V2).await;
        assert_not_believed(dialled, "a pin still holds");
        assert_eq!(warnings.load(Relaxed), 2, "a pin is nothing to warn about");
    }
}
