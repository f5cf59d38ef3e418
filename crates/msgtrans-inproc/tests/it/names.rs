//! Names: taken, free, unknown, and both spellings of a configuration.

use std::io;

use msgtrans_core::{ConnectError, Limits, WireVersion, WireVersions};
use msgtrans_inproc::{InprocClientConfig, InprocServerConfig};
use msgtrans_testkit::{Bell, accept};
use msgtrans_transport::{
    Connection, Connector, DialContext, Endpoint, ListenContext, Listener, ProtocolConfig,
    ServerProtocol,
};

use crate::conformance::{fresh_name, soon};

async fn bind(config: &InprocServerConfig) -> Result<Box<dyn Listener>, msgtrans_core::BindError> {
    let context = ListenContext::new(WireVersions::Any, Limits::default());
    config.bind(&context).await
}

async fn dial(name: &str) -> Result<Box<dyn Connection>, ConnectError> {
    let context = DialContext::new(WireVersions::V2, Limits::default());
    InprocClientConfig::new(name).connect(&context).await
}

fn refused(error: ConnectError) -> bool {
    matches!(error, ConnectError::Io { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn a_name_is_taken_until_its_listener_is_gone() {
    let config = InprocServerConfig::new(fresh_name());
    let first = bind(&config).await.expect("free");
    let error = bind(&config).await.err().expect("taken");
    assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    assert_eq!(error.endpoint, config.endpoint().to_string());
    drop(first);
    bind(&config).await.expect("free again");
}

#[tokio::test]
async fn an_unknown_name_refuses() {
    let name = fresh_name();
    match dial(&name).await.err().expect("nobody listens") {
        ConnectError::Io { endpoint, source } => {
            assert_eq!(endpoint, format!("inproc://{name}"));
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_dials_a_full_backlog_waits_until_there_is_room() {
    let name = fresh_name();
    let config = InprocServerConfig::new(&name).backlog(1);
    let mut listener = bind(&config).await.expect("free");
    let _first = dial(&name).await.expect("waits to be accepted");
    let bell = Bell::new();
    let mut second = Box::pin(dial(&name));
    assert!(bell.poll(|cx| second.as_mut().poll(cx)).is_pending());
    accept(listener.as_mut()).await.expect("the first");
    soon(bell.until(|cx| second.as_mut().poll(cx)))
        .await
        .expect("there is room");
}

#[tokio::test]
async fn who_waits_in_the_backlog_of_a_listener_that_goes_is_refused() {
    let name = fresh_name();
    let config = InprocServerConfig::new(&name).backlog(1);
    let listener = bind(&config).await.expect("free");
    let mut first = dial(&name).await.expect("waits to be accepted");
    let mut second = Box::pin(dial(&name));
    assert!(Bell::new().poll(|cx| second.as_mut().poll(cx)).is_pending());
    drop(listener);
    assert!(refused(soon(second).await.err().expect("nobody listens")));
    let mut batch = msgtrans_core::PacketBatch::new();
    let lost = soon(std::future::poll_fn(|cx| {
        first.poll_recv(cx, usize::MAX, &mut batch)
    }))
    .await;
    assert!(lost.is_err(), "nobody will accept it any more: {lost:?}");
}

#[tokio::test]
async fn version_2_is_certain_before_any_packet() {
    let name = fresh_name();
    let config = InprocServerConfig::new(&name);
    assert_eq!(ServerProtocol::wire(&config), Some(WireVersions::V2));
    let mut listener = bind(&config).await.expect("free");
    let client = dial(&name).await.expect("somebody listens");
    let server = accept(listener.as_mut()).await.expect("came");
    for info in [client.info(), server.info()] {
        assert_eq!(info.negotiated, Some(WireVersion::V2));
        assert_eq!(info.peer.to_string(), name);
        assert_eq!(info.peer.capped_ip(), None);
    }
}

#[test]
fn configurations_are_spelled_the_same_typed_and_as_urls() {
    let url = |text: &str| Endpoint::parse(text).expect("a URL");
    let server = InprocServerConfig::new("orders").backlog(7);
    let spelled = url("inproc://orders?backlog=7");
    assert_eq!(
        InprocServerConfig::from_endpoint(&spelled),
        Ok(server.clone())
    );
    assert_eq!(server.endpoint(), spelled);
    let client = InprocClientConfig::new("orders");
    assert_eq!(
        InprocClientConfig::from_endpoint(&client.endpoint()),
        Ok(client)
    );

    for (text, field) in [
        ("tcp://h:1", "scheme"),
        ("inproc://name:80", "port"),
        ("inproc://name/path", "path"),
        ("inproc://name?nodelay=true", "nodelay"),
    ] {
        let server = InprocServerConfig::from_endpoint(&url(text));
        assert_eq!(server.expect_err(text).field(), field, "{text}");
        let client = InprocClientConfig::from_endpoint(&url(text));
        assert_eq!(client.expect_err(text).field(), field, "{text}");
    }
    for backlog in [0, 65_536] {
        let config = InprocServerConfig::new("orders").backlog(backlog);
        assert_eq!(config.validate().expect_err("bounds").field(), "backlog");
    }
}

#[tokio::test]
async fn a_name_that_no_url_can_say_is_an_error_that_names_it() {
    for bad in ["", "a b", "a/b", "a:1", "a:b", "a?b", "a#b", "[a]", "a\n"] {
        let config = InprocServerConfig::new(bad);
        assert_eq!(config.validate().expect_err(bad).field(), "name", "{bad:?}");
        let error = bind(&config).await.err().expect(bad);
        assert_eq!(error.source.kind(), io::ErrorKind::InvalidInput, "{bad:?}");
        assert!(
            matches!(dial(bad).await, Err(ConnectError::Config(_))),
            "{bad:?}"
        );
    }
}
