//! Both spellings of a configuration, and what is wrong with bad ones.

use super::*;

fn url(text: &str) -> Endpoint {
    Endpoint::parse(text).expect("a URL")
}

#[track_caller]
fn refused(error: Result<impl Sized, ConfigError>, words: &str) {
    let error = error.err().expect("accepted").to_string();
    assert!(error.contains(words), "{error}");
}

#[test]
fn a_url_says_what_the_typed_configuration_says() {
    for text in [
        "ws://0.0.0.0:8081",
        "ws://0.0.0.0:8081/",
        "ws://[::]:0/chat?nodelay=false&backlog=64&wire=v2",
        "ws://0.0.0.0:80?wire=auto&origins=https://a.example,http://b.example:3000",
        "ws://0.0.0.0:80?origins=dangerous-any",
    ] {
        let config = WebSocketServerConfig::from_endpoint(&url(text)).expect(text);
        assert_eq!(config.endpoint().to_string(), text);
    }
    let text = "ws://localhost:8081/chat?keepalive=30000ms&wire=v1&origin=https://a.example";
    let config = WebSocketClientConfig::from_endpoint(&url(text)).expect(text);
    assert_eq!(config.endpoint().to_string(), text);
    let config = WebSocketClientConfig::from_endpoint(&url("websocket://localhost/chat"));
    assert_eq!(
        config.expect("legal").endpoint().to_string(),
        "ws://localhost:80/chat"
    );
}

#[test]
fn bad_settings_are_named() {
    refused(WebSocketServerConfig::new("nowhere").validate(), "nowhere");
    refused(
        WebSocketServerConfig::new("localhost:1")
            .path("chat")
            .validate(),
        "begin with /",
    );
    refused(
        WebSocketServerConfig::new("localhost:1")
            .path("/a?b")
            .validate(),
        "no query",
    );
    refused(
        WebSocketServerConfig::from_endpoint(&url("tcp://localhost:1")),
        "ws://",
    );
    refused(
        WebSocketServerConfig::from_endpoint(&url("ws://localhost")),
        "port",
    );
    refused(
        WebSocketServerConfig::from_endpoint(&url("ws://localhost:1?orgins=x")),
        "orgins",
    );
    refused(
        WebSocketServerConfig::from_endpoint(&url("ws://localhost:1?origins=a")),
        "scheme://",
    );
    refused(
        WebSocketServerConfig::from_endpoint(&url("ws://localhost:1?cert=a&key=b")),
        "cert",
    );
    refused(
        WebSocketClientConfig::new("localhost:0").validate(),
        "other than 0",
    );
    refused(
        WebSocketClientConfig::new("localhost:1")
            .path("/a b")
            .validate(),
        "path",
    );
    refused(
        WebSocketClientConfig::new("localhost:1")
            .origin("a\r\nb")
            .validate(),
        "origin",
    );
}

#[test]
fn a_secure_url_never_means_a_plain_connection() {
    let words = if cfg!(feature = "tls") {
        "needs "
    } else {
        "feature tls"
    };
    refused(
        WebSocketServerConfig::from_endpoint(&url("wss://localhost:1")),
        words,
    );
    refused(
        WebSocketClientConfig::from_endpoint(&url("wss://localhost:1")),
        words,
    );
}

#[cfg(feature = "tls")]
#[test]
fn tls_settings_of_a_url_come_back() {
    for text in [
        "wss://0.0.0.0:443?cert=development",
        "wss://0.0.0.0:443?cert=a.pem&key=b.pem",
    ] {
        let config = WebSocketServerConfig::from_endpoint(&url(text)).expect(text);
        assert_eq!(config.endpoint().to_string(), text);
    }
    let text = "wss://localhost:8443/chat?ca=ca.pem&server_name=example.com";
    let config = WebSocketClientConfig::from_endpoint(&url(text)).expect(text);
    assert_eq!(config.endpoint().to_string(), text);
}

#[test]
fn the_host_header_leaves_the_scheme_s_port_out() {
    for (address, host) in [
        ("example.com:80", "Host: example.com\r\n"),
        ("example.com:8080", "Host: example.com:8080\r\n"),
        ("[::1]:80", "Host: [::1]\r\n"),
    ] {
        let upgrade = WebSocketClientConfig::new(address)
            .upgrade(WireVersions::V2)
            .expect("legal");
        let request = String::from_utf8_lossy(upgrade.request()).into_owned();
        assert!(request.contains(host), "{request}");
    }
}
