//! Names and configurations: taken, free, unknown, typed and as URLs.

use std::io;

use custom_protocol::{AppSchemes, DuplexConfig, ParcelConfig};
use msgtrans_core::{ConnectError, Limits, WireVersions};
use msgtrans_transport::{
    Connector, DialContext, Endpoint, ListenContext, ProtocolConfig, Schemes, ServerProtocol,
};

use crate::conformance::fresh_name;

fn url(text: &str) -> Endpoint {
    Endpoint::parse(text).expect("a URL")
}

#[tokio::test]
async fn a_name_is_taken_until_its_listener_is_gone() {
    let context = ListenContext::new(WireVersions::Any, Limits::default());
    let name = fresh_name();
    let configs: [Box<dyn ServerProtocol>; 2] = [
        Box::new(DuplexConfig::new(&name)),
        Box::new(ParcelConfig::new(&name)),
    ];
    // The protocols do not share their names.
    let first = configs[0].bind(&context).await.expect("free");
    let second = configs[1].bind(&context).await.expect("free");
    for config in &configs {
        let error = config.bind(&context).await.err().expect("taken");
        assert_eq!(error.source.kind(), io::ErrorKind::AddrInUse);
    }
    drop((first, second));
    for config in &configs {
        config.bind(&context).await.expect("free again");
    }
}

#[tokio::test]
async fn an_unknown_name_refuses() {
    let context = DialContext::new(WireVersions::V2, Limits::default());
    let name = fresh_name();
    let configs: [Box<dyn Connector>; 2] = [
        Box::new(DuplexConfig::new(&name)),
        Box::new(ParcelConfig::new(&name)),
    ];
    for config in configs {
        let error = config.connect(&context).await.err();
        assert!(
            matches!(&error, Some(ConnectError::Io { source, .. })
                if source.kind() == io::ErrorKind::ConnectionRefused),
            "{error:?}"
        );
    }
}

#[test]
fn configurations_are_spelled_the_same_typed_and_as_urls() {
    let typed = ParcelConfig::new("orders").message_bytes(8192).pack(false);
    let spelled = url("parcel://orders?message_bytes=8192&pack=false");
    assert_eq!(typed.endpoint(), spelled);
    assert_eq!(ParcelConfig::from_endpoint(&spelled), Ok(typed));
    let typed = DuplexConfig::new("orders");
    assert_eq!(DuplexConfig::from_endpoint(&typed.endpoint()), Ok(typed));
}

#[test]
fn the_table_has_our_schemes_and_behind_them_the_built_in_ones() {
    for text in ["duplex://a", "parcel://a?pack=true", "tcp://127.0.0.1:1"] {
        let endpoint = url(text);
        let server = AppSchemes::server(&endpoint).expect(text);
        assert_eq!(server.endpoint().scheme(), endpoint.scheme());
        let connector = AppSchemes::connector(&endpoint).expect(text);
        assert_eq!(connector.endpoint().scheme(), endpoint.scheme());
    }
    for (text, field) in [
        ("radio://a", "endpoint"),
        ("duplex://a:1", "endpoint"),
        ("duplex://a/path", "endpoint"),
        ("duplex://a?pack=true", "pack"),
        ("parcel://a?message_bytes=4095", "message_bytes"),
        ("parcel://a?message_bytes=65537", "message_bytes"),
        ("parcel://a?message_bytes=many", "message_bytes"),
        ("parcel://a?colour=red", "colour"),
    ] {
        let endpoint = url(text);
        let server = AppSchemes::server(&endpoint).expect_err(text);
        assert_eq!(server.field(), field, "{text}");
        let connector = AppSchemes::connector(&endpoint).expect_err(text);
        assert_eq!(connector.field(), field, "{text}");
    }
}

#[test]
fn a_name_that_no_url_can_say_is_an_error_that_names_it() {
    for bad in ["", "a b", "a/b", "a:1", "a:b", "a?b", "a#b", "[a]"] {
        let duplex = DuplexConfig::new(bad).validate();
        assert_eq!(duplex.expect_err(bad).field(), "name");
        let parcel = ParcelConfig::new(bad).validate();
        assert_eq!(parcel.expect_err(bad).field(), "name");
    }
}
