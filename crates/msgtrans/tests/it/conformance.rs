//! The conformance suite of the facade over every protocol: the same cases, whatever the bytes travel in.

use std::sync::OnceLock;

use msgtrans::tls::Identity;
use msgtrans::{
    BuiltIn, ConfigError, Connector, Endpoint, QuicServerConfig, Schemes, ServerProtocol,
};
use msgtrans_testkit::{Capabilities, conformance};

use crate::support::{inproc_url, run_for_long};

/// One certificate for all tests: it takes time to make.
pub(crate) fn identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY
        .get_or_init(|| Identity::development().expect("a certificate"))
        .clone()
}

/// The built-in table, with the tests' certificate where a protocol needs one, and its pin.
struct Pinned;

impl Schemes for Pinned {
    fn server(endpoint: &Endpoint) -> Result<Box<dyn ServerProtocol>, ConfigError> {
        let address = endpoint.authority().unwrap_or_default();
        Ok(match endpoint.scheme() {
            "quic" => Box::new(QuicServerConfig::new(address).with_identity(identity())),
            #[cfg(feature = "tls")]
            "tls" => Box::new(msgtrans::TcpServerConfig::new(address).tls(server_tls())),
            #[cfg(feature = "tls")]
            "wss" => Box::new(msgtrans::WebSocketServerConfig::new(address).tls(server_tls())),
            _ => BuiltIn::server(endpoint)?,
        })
    }

    fn connector(endpoint: &Endpoint) -> Result<Box<dyn Connector>, ConfigError> {
        match endpoint.scheme() {
            "tls" | "wss" | "quic" => {
                let pin = identity().spki_pin();
                BuiltIn::connector(&endpoint.clone().with_option("pin", pin))
            }
            _ => BuiltIn::connector(endpoint),
        }
    }
}

#[cfg(feature = "tls")]
fn server_tls() -> msgtrans::tls::ServerTls {
    msgtrans::tls::ServerTls::new(identity())
}

fn conforms(capabilities: Capabilities, listen: impl Fn() -> String + Send + Sync + 'static) {
    let suite = conformance::facade::<Pinned>(capabilities, listen);
    run_for_long(suite.run()).expect_passed();
}

fn on_a_free_port(scheme: &'static str) -> impl Fn() -> String {
    move || format!("{scheme}://127.0.0.1:0")
}

#[test]
fn tcp_conforms_to_the_facade() {
    conforms(Capabilities::byte_stream(), on_a_free_port("tcp"));
}

#[test]
fn ws_conforms_to_the_facade() {
    conforms(Capabilities::byte_stream(), on_a_free_port("ws"));
}

#[test]
fn quic_conforms_to_the_facade() {
    let capabilities = Capabilities::byte_stream().refuses(false).rebinds(false);
    conforms(capabilities, on_a_free_port("quic"));
}

#[test]
fn inproc_conforms_to_the_facade() {
    conforms(Capabilities::packets(), inproc_url);
}

#[cfg(feature = "tls")]
#[test]
fn tls_conforms_to_the_facade() {
    conforms(Capabilities::byte_stream(), on_a_free_port("tls"));
}

#[cfg(feature = "tls")]
#[test]
fn wss_conforms_to_the_facade() {
    conforms(Capabilities::byte_stream(), on_a_free_port("wss"));
}

#[cfg(all(feature = "unix", unix))]
#[test]
fn unix_conforms_to_the_facade() {
    conforms(Capabilities::byte_stream(), || {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("msgtrans-facade-{}-{number}.sock", std::process::id());
        format!("unix://{}", std::env::temp_dir().join(name).display())
    });
}
