//! The conformance suite of the facade over every protocol: the same cases, whatever the bytes travel in.

use std::sync::OnceLock;

use msgtrans::tls::Identity;
use msgtrans::{
    BuiltIn, ConfigError, Connector, Endpoint, QuicServerConfig, Schemes, ServerProtocol,
};
use msgtrans_testkit::{Capabilities, conformance};
use tokio::task::JoinSet;

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

/// A protocol, where it listens, and what it can do.
type Suite = (Capabilities, fn() -> String);

const TCP: Suite = (Capabilities::byte_stream(), || local("tcp"));
const WS: Suite = (Capabilities::byte_stream(), || local("ws"));
const QUIC: Suite = (
    // A UDP port where nobody is says nothing.
    Capabilities::byte_stream().refuses(false),
    || local("quic"),
);
const INPROC: Suite = (Capabilities::packets(), inproc_url);
#[cfg(feature = "tls")]
const TLS: Suite = (Capabilities::byte_stream(), || local("tls"));
#[cfg(feature = "tls")]
const WSS: Suite = (Capabilities::byte_stream(), || local("wss"));
#[cfg(all(feature = "unix", unix))]
const UNIX: Suite = (Capabilities::byte_stream(), unix_url);

const ALL: &[Suite] = &[
    TCP,
    WS,
    QUIC,
    INPROC,
    #[cfg(feature = "tls")]
    TLS,
    #[cfg(feature = "tls")]
    WSS,
    #[cfg(all(feature = "unix", unix))]
    UNIX,
];

fn local(scheme: &str) -> String {
    format!("{scheme}://127.0.0.1:0")
}

#[cfg(all(feature = "unix", unix))]
fn unix_url() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("msgtrans-facade-{}-{number}.sock", std::process::id());
    format!("unix://{}", std::env::temp_dir().join(name).display())
}

/// The cases that wait for nothing but the protocol.
fn conforms((capabilities, listen): Suite) {
    let suite = conformance::facade::<Pinned>(capabilities, listen);
    run_for_long(suite.except("heartbeats").run()).expect_passed();
}

#[test]
fn tcp_conforms_to_the_facade() {
    conforms(TCP);
}

#[test]
fn ws_conforms_to_the_facade() {
    conforms(WS);
}

#[test]
fn quic_conforms_to_the_facade() {
    conforms(QUIC);
}

#[test]
fn inproc_conforms_to_the_facade() {
    conforms(INPROC);
}

#[cfg(feature = "tls")]
#[test]
fn tls_conforms_to_the_facade() {
    conforms(TLS);
}

#[cfg(feature = "tls")]
#[test]
fn wss_conforms_to_the_facade() {
    conforms(WSS);
}

#[cfg(all(feature = "unix", unix))]
#[test]
fn unix_conforms_to_the_facade() {
    conforms(UNIX);
}

/// The same behind a server with threads of its own, which it gives back.
fn conforms_on_threads_of_its_own((capabilities, listen): Suite) {
    let suite = conformance::facade::<Pinned>(capabilities, listen).thread_per_core(2);
    run_for_long(suite.except("heartbeats").run()).expect_passed();
}

#[test]
fn tcp_conforms_to_the_facade_with_a_thread_per_core() {
    conforms_on_threads_of_its_own(TCP);
}

#[test]
fn ws_conforms_to_the_facade_with_a_thread_per_core() {
    conforms_on_threads_of_its_own(WS);
}

#[cfg(feature = "tls")]
#[test]
fn wss_conforms_to_the_facade_with_a_thread_per_core() {
    conforms_on_threads_of_its_own(WSS);
}

/// Two that cannot share a place: each is on one of the threads.
#[test]
fn quic_and_inproc_conform_to_the_facade_with_a_thread_per_core() {
    conforms_on_threads_of_its_own(QUIC);
    conforms_on_threads_of_its_own(INPROC);
}

/// All at once: they take time and nothing else.
#[test]
fn every_protocol_conforms_in_its_heartbeats() {
    let reports = run_for_long(async {
        let mut running = JoinSet::new();
        for &(capabilities, listen) in ALL {
            let suite = conformance::facade::<Pinned>(capabilities, listen);
            running.spawn(suite.only("heartbeats").run());
        }
        running.join_all().await
    });
    assert_eq!(reports.len(), ALL.len());
    for report in reports {
        report.expect_passed();
    }
}
