//! TLS over TCP: the conformance suite, and what its tests share.

mod agreement;
mod end;
mod trust;

use bytes::{Buf, Bytes};
use msgtrans_core::{ConnectError, Limits, OutBuffer, Packet, WireVersion, WireVersions, encode};
use msgtrans_tcp::{TcpClientConfig, TcpServerConfig};
use msgtrans_testkit::{Capabilities, Failure, accept, conformance};
use msgtrans_tls::rustls::pki_types::ServerName;
use msgtrans_tls::{ClientTls, Identity, Roots, ServerTls};
use msgtrans_transport::{
    Connection, Connector, DialContext, Endpoint, ListenContext, Listener, ServerProtocol,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

fn identity() -> Identity {
    Identity::development().expect("a certificate")
}

fn roots(identity: &Identity) -> Roots {
    let pem = identity.to_pem().certificates;
    Roots::from_pem(pem.as_bytes()).expect("a certificate")
}

fn local(identity: &Identity) -> TcpServerConfig {
    TcpServerConfig::new("127.0.0.1:0").tls(ServerTls::new(identity.clone()))
}

fn url(text: &str) -> Endpoint {
    Endpoint::parse(text).expect("a URL")
}

/// A bound listener and its `host:port`.
async fn bind(config: &TcpServerConfig) -> (Box<dyn Listener>, String) {
    let context = ListenContext::new(WireVersions::Any, Limits::default());
    let listener = config.bind(&context).await.expect("bound");
    let endpoint = listener.local_endpoint();
    assert_eq!(endpoint.scheme(), "tls");
    (listener, endpoint.authority().expect("host and port"))
}

async fn dial(
    client: &TcpClientConfig,
    wire: WireVersions,
) -> Result<Box<dyn Connection>, ConnectError> {
    let context = DialContext::new(wire, Limits::default());
    client.connect(&context).await
}

type Accepted = Result<Box<dyn Connection>, Failure>;
type Dialled = Result<Box<dyn Connection>, ConnectError>;

/// One connection from both ends, however it ends.
async fn meet(
    listener: &mut dyn Listener,
    client: &TcpClientConfig,
    wire: WireVersions,
) -> (Accepted, Dialled) {
    tokio::join!(accept(listener), dial(client, wire))
}

/// A TLS client of another make that believes `identity` and offers `alpn`.
async fn raw(address: &str, identity: &Identity, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let config = ClientTls::new().roots(roots(identity)).build(alpn);
    let connector = TlsConnector::from(config.expect("legal"));
    let stream = TcpStream::connect(address).await.expect("answers");
    let name = ServerName::try_from("localhost").expect("a name");
    connector.connect(name, stream).await.expect("believed")
}

/// The bytes of a packet with a payload of this length.
fn frame(version: WireVersion, len: usize) -> Bytes {
    let mut out = OutBuffer::new();
    let packet = Packet::binary(vec![7; len]).with_message_id(1);
    encode(&packet, version, &mut out).expect("encodes");
    out.copy_to_bytes(out.remaining())
}

/// A client that knows the server by its key.
fn pinning(address: &str, identity: &Identity) -> TcpClientConfig {
    let pin = identity.spki_pin();
    TcpClientConfig::from_endpoint(&url(&format!("tls://{address}?pin={pin}"))).expect("legal")
}

async fn conforms(server: impl Fn() -> TcpServerConfig + Send + Sync + 'static, pin: String) {
    let server = move || Box::new(server()) as Box<dyn ServerProtocol>;
    let connector = move |endpoint: &Endpoint| {
        let endpoint = endpoint.clone().with_option("pin", &pin);
        let client = TcpClientConfig::from_endpoint(&endpoint).expect("can be dialled");
        Box::new(client) as Box<dyn Connector>
    };
    let report = conformance::seam(Capabilities::byte_stream(), server, connector)
        .run()
        .await;
    report.expect_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_conforms_to_the_seam() {
    let identity = identity();
    let pin = identity.spki_pin().to_string();
    conforms(move || local(&identity), pin).await;
}

#[tokio::test]
async fn tls_conforms_on_one_thread_with_small_buffers() {
    let identity = identity();
    let pin = identity.spki_pin().to_string();
    let server = move || local(&identity).send_buffer(65_536).recv_buffer(65_536);
    conforms(server, pin).await;
}
