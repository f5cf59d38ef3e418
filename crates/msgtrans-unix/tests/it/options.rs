//! Both spellings of a configuration, and every option of one.

use std::io::ErrorKind;
use std::time::Duration;

use msgtrans_core::{ConnectError, DecodeError, WireVersion, WireVersions};
use msgtrans_testkit::{Peer, accept};
use msgtrans_transport::{ConnectionError, Connector, Endpoint, ProtocolConfig, ServerProtocol};
use msgtrans_unix::{UnixClientConfig, UnixServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::{bind, dial, fresh};

fn url(text: &str) -> Endpoint {
    Endpoint::parse(text).expect("a URL")
}

#[test]
fn a_server_is_spelled_the_same_typed_and_as_a_url() {
    let typed = UnixServerConfig::new("/run/app.sock")
        .mode(0o666)
        .backlog(7)
        .wire(WireVersions::V1);
    let spelled = url("unix:///run/app.sock?mode=666&backlog=7&wire=v1");
    assert_eq!(typed.endpoint(), spelled);
    assert_eq!(UnixServerConfig::from_endpoint(&spelled), Ok(typed));
    let leading = UnixServerConfig::from_endpoint(&url("unix:///a?mode=0600"));
    assert_eq!(leading, Ok(UnixServerConfig::new("/a")));
    assert_eq!(UnixServerConfig::new("/a").endpoint(), url("unix:///a"));
}

#[test]
fn a_client_is_spelled_the_same_typed_and_as_a_url() {
    let typed = UnixClientConfig::new("/run/app.sock").wire(WireVersions::Any);
    let spelled = url("unix:///run/app.sock?wire=auto");
    assert_eq!(Connector::wire(&typed), Some(WireVersions::Any));
    assert_eq!(typed.endpoint(), spelled);
    assert_eq!(UnixClientConfig::from_endpoint(&spelled), Ok(typed));
}

#[test]
fn urls_with_anything_else_are_refused_by_name() {
    for (text, field) in [
        ("tcp:///run/app.sock", "scheme"),
        ("unix://run/app.sock", "endpoint"),
        ("unix://app.sock", "endpoint"),
        ("unix://h:1/app.sock", "endpoint"),
        ("unix:///a?wire=v3", "wire"),
        ("unix:///a?nodelay=true", "nodelay"),
    ] {
        let server = UnixServerConfig::from_endpoint(&url(text));
        assert_eq!(server.expect_err(text).field(), field, "{text}");
        let client = UnixClientConfig::from_endpoint(&url(text));
        assert_eq!(client.expect_err(text).field(), field, "{text}");
    }
    for (text, field) in [
        ("unix:///a?mode=rw", "mode"),
        ("unix:///a?mode=+600", "mode"),
        ("unix:///a?mode=689", "mode"),
        ("unix:///a?mode=1777", "mode"),
        ("unix:///a?mode=444", "mode"),
        ("unix:///a?mode=0", "mode"),
        ("unix:///a?backlog=0", "backlog"),
        ("unix:///a?backlog=65536", "backlog"),
    ] {
        let server = UnixServerConfig::from_endpoint(&url(text));
        assert_eq!(server.expect_err(text).field(), field, "{text}");
        assert!(
            UnixClientConfig::from_endpoint(&url(text)).is_err(),
            "{text} is a listener's"
        );
    }
}

#[tokio::test]
async fn bad_paths_are_errors_of_validate_bind_and_connect() {
    let long = format!("/{}", "x".repeat(200));
    for bad in ["", "app.sock", "./app.sock", "/a\0b", &long] {
        let (server, client) = (UnixServerConfig::new(bad), UnixClientConfig::new(bad));
        assert_eq!(server.validate().expect_err(bad).field(), "path");
        assert_eq!(client.validate().expect_err(bad).field(), "path");
        let error = bind(&server).await.map(drop).expect_err(bad);
        assert_eq!(error.source.kind(), ErrorKind::InvalidInput);
        let error = dial(&client).await.map(drop).expect_err(bad);
        assert!(matches!(error, ConnectError::Config(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_dial_where_nobody_listens_names_the_endpoint() {
    let path = fresh();
    match dial(&UnixClientConfig::new(&path)).await.map(drop) {
        Err(ConnectError::Io { endpoint, source }) => {
            assert_eq!(endpoint, format!("unix://{}", path.display()));
            assert_eq!(source.kind(), ErrorKind::NotFound);
        }
        other => panic!("{other:?}"),
    }
}

/// A listener narrowed to version 2 refuses a version 1 frame although the server would take it.
#[tokio::test]
async fn wire_narrows_what_a_listener_accepts() {
    let path = fresh();
    let config = UnixServerConfig::new(&path).wire(WireVersions::V2);
    assert_eq!(ServerProtocol::wire(&config), Some(WireVersions::V2));
    let mut listener = bind(&config).await.expect("bound");
    let mut client = UnixStream::connect(&path).await.expect("answers");
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

#[tokio::test]
async fn who_finds_the_backlog_full_waits_for_a_place() {
    const CLIENTS: usize = 8;
    let path = fresh();
    let config = UnixServerConfig::new(&path).backlog(1);
    let mut listener = bind(&config).await.expect("bound");
    let client = UnixClientConfig::new(&path);
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push(dial(&client).await.expect("a place"));
    }
    let (client, late) = (client.clone(), Duration::from_millis(100));
    assert!(
        timeout(late, dial(&client)).await.is_err(),
        "there are two places"
    );

    let dials: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { dial(&client).await.map(drop) })
        })
        .collect();
    for _ in 0..CLIENTS + 2 {
        accept(listener.as_mut()).await.expect("came");
    }
    for dial in dials {
        dial.await.expect("no panic").expect("a place in the end");
    }
}
