//! Addresses, binding, dialling, and both spellings of a configuration.

use std::io;
use std::time::Duration;

use msgtrans_core::{BindError, ConnectError, DecodeError, Limits, WireVersion, WireVersions};
use msgtrans_tcp::{TcpClientConfig, TcpServerConfig};
use msgtrans_testkit::{Peer, accept};
use msgtrans_transport::{
    Connection, ConnectionError, Connector, DialContext, Endpoint, ListenContext, Listener,
    ProtocolConfig, ServerProtocol,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn bind(config: &TcpServerConfig) -> Result<Box<dyn Listener>, BindError> {
    let context = ListenContext::new(WireVersions::Any, Limits::default());
    config.bind(&context).await
}

async fn dial(config: &TcpClientConfig) -> Result<Box<dyn Connection>, ConnectError> {
    let context = DialContext::new(WireVersions::V2, Limits::default());
    config.connect(&context).await
}

fn at(listener: &dyn Listener) -> String {
    let endpoint = listener.local_endpoint();
    endpoint.authority().expect("host and port")
}

fn url(text: &str) -> Endpoint {
    Endpoint::parse(text).expect("a URL")
}

#[tokio::test]
async fn port_0_becomes_the_port_that_was_given() {
    let listener = bind(&TcpServerConfig::new("127.0.0.1:0"))
        .await
        .expect("bound");
    let endpoint = listener.local_endpoint();
    assert_eq!((endpoint.scheme(), endpoint.host()), ("tcp", "127.0.0.1"));
    assert_ne!(endpoint.port(), Some(0));
    let client = TcpClientConfig::from_endpoint(&endpoint).expect("can be dialled");
    dial(&client).await.expect("answers");
}

#[tokio::test]
async fn ipv6_listens_and_dials() {
    let mut listener = bind(&TcpServerConfig::new("[::1]:0")).await.expect("bound");
    let endpoint = listener.local_endpoint();
    assert_eq!(endpoint.host(), "::1");
    let client = TcpClientConfig::new(at(listener.as_ref()));
    let (dialled, accepted) = tokio::join!(dial(&client), accept(listener.as_mut()));
    let dialled = dialled.expect("answers");
    assert_eq!(dialled.info().peer.to_string(), at(listener.as_ref()));
    assert!(
        accepted
            .expect("came")
            .info()
            .peer
            .to_string()
            .starts_with("[::1]:")
    );
}

#[tokio::test]
async fn host_names_listen_and_dial() {
    let listener = bind(&TcpServerConfig::new("localhost:0"))
        .await
        .expect("bound");
    let port = listener.local_endpoint().port().expect("a port");
    let client = TcpClientConfig::new(format!("localhost:{port}"));
    dial(&client).await.expect("answers");
}

#[tokio::test]
async fn a_name_without_an_address_is_an_error_that_names_it() {
    let error = dial(&TcpClientConfig::new("no-such-name.invalid:1")).await;
    match error.err().expect("cannot resolve") {
        ConnectError::Resolve { host, .. } => assert_eq!(host, "no-such-name.invalid"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_used_port_is_a_bind_error_that_names_the_endpoint() {
    let first = bind(&TcpServerConfig::new("127.0.0.1:0"))
        .await
        .expect("bound");
    let error = bind(&TcpServerConfig::new(at(first.as_ref()))).await;
    let error = error.err().expect("used");
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.endpoint, first.local_endpoint().to_string());
    let port = first.local_endpoint();
    drop(first);
    let config = TcpServerConfig::from_endpoint(&port).expect("an endpoint");
    bind(&config).await.expect("free again");
}

#[tokio::test]
async fn reuse_port_binds_twice() {
    let first = TcpServerConfig::new("127.0.0.1:0").reuse_port(true);
    let first = bind(&first).await.expect("bound");
    let second = TcpServerConfig::new(at(first.as_ref()));
    assert!(bind(&second).await.is_err(), "without the option");
    bind(&second.reuse_port(true))
        .await
        .expect("with the option");
}

#[tokio::test]
async fn the_backlog_bounds_who_waits_to_be_accepted() {
    async fn dialled_within(backlog: u32, patience: Duration) -> usize {
        let config = TcpServerConfig::new("127.0.0.1:0").backlog(backlog);
        let listener = bind(&config).await.expect("bound");
        let mut connected = Vec::new();
        for _ in 0..8 {
            match timeout(patience, TcpStream::connect(at(listener.as_ref()))).await {
                Ok(stream) => connected.push(stream.expect("nobody refuses")),
                Err(_) => break,
            }
        }
        connected.len()
    }
    assert_eq!(dialled_within(64, Duration::from_secs(10)).await, 8);
    // Beyond the backlog the kernel is silent, so a dial waits for its first retry, a second later.
    assert!(dialled_within(1, Duration::from_millis(100)).await < 8);
}

#[tokio::test]
async fn a_refused_dial_names_the_endpoint() {
    let listener = bind(&TcpServerConfig::new("127.0.0.1:0"))
        .await
        .expect("bound");
    let endpoint = listener.local_endpoint();
    drop(listener);
    let client = TcpClientConfig::from_endpoint(&endpoint).expect("an endpoint");
    match dial(&client).await.err().expect("nobody listens") {
        ConnectError::Io {
            endpoint: named,
            source,
        } => {
            assert_eq!(named, endpoint.to_string());
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bad_addresses_are_errors_of_validate_bind_and_connect() {
    for bad in [
        "",
        "8080",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:65536",
        "localhost:+1",
        "::1:80",
        "[::1:80",
        "[x]:80",
        ":80",
        "a b:80",
        "a:80/path",
        "a:80?nodelay=true",
    ] {
        let server = TcpServerConfig::new(bad);
        let client = TcpClientConfig::new(bad);
        assert_eq!(
            server.validate().expect_err(bad).field(),
            "address",
            "{bad}"
        );
        assert_eq!(
            client.validate().expect_err(bad).field(),
            "address",
            "{bad}"
        );
        let error = bind(&server).await.err().expect(bad);
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput, "{bad}");
        let error = dial(&client).await.err().expect(bad);
        assert!(matches!(error, ConnectError::Config(_)), "{bad}: {error:?}");
    }
    let zero = TcpClientConfig::new("localhost:0").validate();
    assert_eq!(zero.expect_err("cannot be dialled").field(), "address");
}

#[test]
fn settings_out_of_bounds_are_named() {
    let server = || TcpServerConfig::new("0.0.0.0:1");
    for (config, field) in [
        (server().backlog(0), "backlog"),
        (server().backlog(65_536), "backlog"),
        (server().send_buffer(0), "send_buffer"),
        (server().send_buffer(4095), "send_buffer"),
        (server().recv_buffer((1 << 30) + 1), "recv_buffer"),
        (server().keepalive(Duration::from_millis(999)), "keepalive"),
    ] {
        assert_eq!(config.validate().expect_err(field).field(), field);
    }
}

#[test]
fn a_server_is_spelled_the_same_typed_and_as_a_url() {
    let typed = TcpServerConfig::new("[::]:8080")
        .nodelay(false)
        .keepalive(Duration::from_secs(30))
        .send_buffer(5000)
        .recv_buffer(6000)
        .backlog(7)
        .reuse_port(true)
        .wire(WireVersions::V1);
    let spelled = url(
        "tcp://[::]:8080?wire=v1&reuse_port=true&backlog=7&recv_buffer=6000&\
                       send_buffer=5000&keepalive=30s&nodelay=false",
    );
    let read = TcpServerConfig::from_endpoint(&spelled).expect("legal");
    assert_eq!(read.endpoint(), typed.endpoint());
    let canonical = url(
        "tcp://[::]:8080?nodelay=false&keepalive=30000ms&send_buffer=5000&recv_buffer=6000&\
                         backlog=7&reuse_port=true&wire=v1",
    );
    assert_eq!(typed.endpoint(), canonical);
    let again = TcpServerConfig::from_endpoint(&typed.endpoint()).expect("legal");
    assert_eq!(again.endpoint(), typed.endpoint());
    let plain = TcpServerConfig::new("0.0.0.0:8080");
    assert_eq!(plain.endpoint(), url("tcp://0.0.0.0:8080"));
}

#[test]
fn a_client_is_spelled_the_same_typed_and_as_a_url() {
    let typed = TcpClientConfig::new("localhost:8080")
        .nodelay(false)
        .keepalive(Duration::from_millis(1500))
        .send_buffer(5000)
        .recv_buffer(6000)
        .wire(WireVersions::Any);
    let spelled = url(
        "tcp://localhost:8080?wire=auto&recv_buffer=6000&send_buffer=5000&\
                       keepalive=1500ms&nodelay=false",
    );
    let read = TcpClientConfig::from_endpoint(&spelled).expect("legal");
    assert_eq!(read.endpoint(), typed.endpoint());
    let canonical = url(
        "tcp://localhost:8080?nodelay=false&keepalive=1500ms&send_buffer=5000&\
                         recv_buffer=6000&wire=auto",
    );
    assert_eq!(typed.endpoint(), canonical);
    let again = TcpClientConfig::from_endpoint(&typed.endpoint()).expect("legal");
    assert_eq!(again.endpoint(), typed.endpoint());
}

#[test]
fn urls_with_anything_else_are_refused_by_name() {
    for (text, field) in [
        ("ws://h:1", "scheme"),
        ("tcp://h", "endpoint"),
        ("tcp://h:1/path", "path"),
        ("tcp://h:1?no_delay=true", "no_delay"),
        ("tcp://h:1?nodelay=yes", "nodelay"),
        ("tcp://h:1?wire=v3", "wire"),
        ("tcp://h:1?keepalive=30", "keepalive"),
        ("tcp://h:1?send_buffer=0", "send_buffer"),
    ] {
        let server = TcpServerConfig::from_endpoint(&url(text));
        assert_eq!(server.expect_err(text).field(), field, "{text}");
        let client = TcpClientConfig::from_endpoint(&url(text));
        assert_eq!(client.expect_err(text).field(), field, "{text}");
    }
    for text in ["tcp://h:1?backlog=5", "tcp://h:1?reuse_port=true"] {
        let server = TcpServerConfig::from_endpoint(&url(text));
        assert!(server.is_ok(), "{text}");
        let client = TcpClientConfig::from_endpoint(&url(text));
        assert!(client.is_err(), "{text} is a listener's");
    }
}

/// A listener narrowed to version 2 refuses a version 1 frame although the server would take it.
#[tokio::test]
async fn wire_narrows_what_a_listener_accepts() {
    let config = TcpServerConfig::new("127.0.0.1:0").wire(WireVersions::V2);
    assert_eq!(ServerProtocol::wire(&config), Some(WireVersions::V2));
    let mut listener = bind(&config).await.expect("bound");
    let mut client = TcpStream::connect(at(listener.as_ref()))
        .await
        .expect("answers");
    let v1_one_way = [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    client.write_all(&v1_one_way).await.expect("written");
    let connection = accept(listener.as_mut()).await.expect("came");
    match Peer::new(connection, WireVersion::V1).recv().await {
        Err(ConnectionError::Decode(DecodeError::VersionRefused { version })) => {
            assert_eq!(version, WireVersion::V1);
        }
        other => panic!("{other:?}"),
    }
}
