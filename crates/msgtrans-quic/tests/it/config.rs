//! Every setting is checked by name, and has two spellings.

use std::time::Duration;

use msgtrans_core::{ConfigError, WireVersions};
use msgtrans_quic::{QuicClientConfig, QuicCongestion, QuicServerConfig};
use msgtrans_tls::Identity;
use msgtrans_transport::{Endpoint, ListenContext, ProtocolConfig, ServerProtocol};

fn server(url: &str) -> Result<QuicServerConfig, ConfigError> {
    QuicServerConfig::from_endpoint(&Endpoint::parse(url)?)
}

fn client(url: &str) -> Result<QuicClientConfig, ConfigError> {
    QuicClientConfig::from_endpoint(&Endpoint::parse(url)?)
}

fn pin() -> String {
    Identity::development()
        .expect("an identity")
        .spki_pin()
        .to_string()
}

#[test]
fn urls_and_calls_say_the_same() {
    let typed = QuicServerConfig::new("0.0.0.0:8082")
        .with_pem_files("chain.pem", "key.pem")
        .max_idle_timeout(Duration::from_secs(30))
        .keep_alive(Duration::from_secs(5))
        .stream_window(1 << 20)
        .connection_window(1 << 21)
        .send_window(1 << 22)
        .udp_buffer(1 << 23)
        .mtu(1400)
        .congestion(QuicCongestion::NewReno)
        .backlog(7)
        .retry_above(8)
        .migration(true)
        .wire(WireVersions::V2);
    let url = "quic://0.0.0.0:8082?cert=chain.pem&key=key.pem&max_idle_timeout=30s&keep_alive=5s\
               &stream_window=1048576&connection_window=2097152&send_window=4194304&udp_buffer=8388608\
               &mtu=1400&congestion=new_reno&backlog=7&retry_above=8&migration=true&wire=v2";
    let read = server(url).expect("a configuration").endpoint();
    assert_eq!(read, typed.endpoint());
    let again = QuicServerConfig::from_endpoint(&read).expect("its own spelling");
    assert_eq!(again.endpoint(), read);

    let pin = pin();
    let typed = QuicClientConfig::new("[::1]:8082")
        .with_roots_pem_file("roots.pem")
        .with_pin(pin.parse().expect("a pin"))
        .with_server_name("example.org")
        .max_idle_timeout(Duration::from_secs(40))
        .mtu(1300)
        .wire(WireVersions::Any);
    let url = format!(
        "quic://[::1]:8082?ca=roots.pem&pin={pin}&server_name=example.org&max_idle_timeout=40s&mtu=1300&wire=auto"
    );
    let read = client(&url).expect("a configuration").endpoint();
    assert_eq!(read, typed.endpoint());
    let again = QuicClientConfig::from_endpoint(&read).expect("its own spelling");
    assert_eq!(again.endpoint(), read);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (options, field) in [
        ("max_idle_timeout=0s", "max_idle_timeout"),
        ("max_idle_timeout=2000m", "max_idle_timeout"),
        ("keep_alive=0s", "keep_alive"),
        ("keep_alive=60s", "keep_alive"),
        ("stream_window=0", "stream_window"),
        ("stream_window=65535", "stream_window"),
        ("connection_window=65536", "connection_window"),
        ("send_window=0", "send_window"),
        ("udp_buffer=0", "udp_buffer"),
        ("mtu=0", "mtu"),
        ("mtu=6401", "mtu"),
        ("congestion=vegas", "congestion"),
        ("colour=red", "colour"),
        ("wire=v3", "wire"),
    ] {
        let error = server(&format!("quic://h:1?{options}")).expect_err(options);
        assert_eq!(error.field(), field, "{error}");
        let url = format!("quic://h:1?pin={}&{options}", pin());
        let error = client(&url).expect_err(options);
        assert_eq!(error.field(), field, "{error}");
    }
    for (options, field) in [
        ("cert=a", "cert"),
        ("key=a", "key"),
        ("backlog=0", "backlog"),
        ("backlog=65536", "backlog"),
        ("retry_above=0", "retry_above"),
        ("migration=2", "migration"),
        ("ca=x", "ca"),
    ] {
        let error = server(&format!("quic://h:1?{options}")).expect_err(options);
        assert_eq!(error.field(), field, "{error}");
    }
    for (url, field) in [
        ("quic://h:1", "trust"),
        ("quic://h:1?pin=x", "pin"),
        ("quic://h:0?ca=x", "address"),
        ("quic://h:1?ca=x&server_name=a_b!", "server_name"),
        ("quic://h:1?ca=x&cert=a", "cert"),
        ("quic://h:1/path?ca=x", "path"),
        ("tcp://h:1?ca=x", "scheme"),
    ] {
        let error = client(url).expect_err(url);
        assert_eq!(error.field(), field, "{error}");
    }
}

#[test]
fn insecure_is_an_option_of_a_feature() {
    let read = client("quic://h:1?insecure=true");
    if cfg!(feature = "dangerous-insecure") {
        let url = read.expect("a configuration").endpoint().to_string();
        assert_eq!(url, "quic://h:1?insecure=true");
    } else {
        assert_eq!(read.expect_err("not here").field(), "insecure");
    }
}

#[tokio::test]
async fn binding_fails_by_name() {
    let context = ListenContext::new(WireVersions::Any, msgtrans_core::Limits::default());
    let used = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = used.local_addr().expect("bound").to_string();
    for config in [
        QuicServerConfig::new(&address),
        QuicServerConfig::new("127.0.0.1:0").with_pem_files("/nowhere/a", "/nowhere/b"),
        QuicServerConfig::new("127.0.0.1:0").backlog(0),
        QuicServerConfig::new("no port"),
    ] {
        let error = config
            .bind(&context)
            .await
            .map(drop)
            .expect_err("not bound");
        assert!(error.to_string().contains("quic://"), "{error}");
    }
    let development = QuicServerConfig::new("127.0.0.1:0").development();
    development.bind(&context).await.map(drop).expect("bound");
}
