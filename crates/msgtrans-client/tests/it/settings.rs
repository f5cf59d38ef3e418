//! What `build` and registrations refuse, by name.

use std::time::Duration;

use msgtrans_client::{ReconnectConfig, RetryConfig};
use msgtrans_core::{Packet, TransportError, WireVersions};

use crate::support::{Builder, Client, Server};

async fn check(builder: Builder, field: &str) {
    match builder.build().await {
        Err(TransportError::Config(error)) => assert_eq!(error.field(), field, "{error}"),
        other => panic!("{other:?} instead of an error in {field}"),
    }
}

fn dialling() -> Builder {
    Client::builder().with_protocol("inproc://nobody")
}

#[tokio::test]
async fn settings_out_of_bounds_are_named() {
    let second = Duration::from_secs(1);
    check(Client::builder(), "protocol").await;
    check(dialling().with_protocol("inproc://other"), "protocol").await;
    check(Client::builder().with_protocol("gopher://old"), "scheme").await;
    check(
        dialling().connect_timeout(Duration::ZERO),
        "connect_timeout",
    )
    .await;
    check(
        dialling().request_timeout(Duration::ZERO),
        "request_timeout",
    )
    .await;
    check(dialling().send_timeout(Duration::MAX), "send_timeout").await;
    check(dialling().heartbeat(second), "heartbeat").await;
    check(dialling().auth(vec![0; 12_289]), "auth").await;
    check(dialling().outbound_bounds(0, 4096), "outbound.items").await;
    check(dialling().requests_pending_max(0), "requests_pending_max").await;
    check(dialling().events_capacity(0), "events.items").await;
    check(dialling().events_bounds(1, 0), "events.bytes").await;
    check(
        Client::builder()
            .with_protocol("tcp://localhost:1")
            .auth("token")
            .wire(WireVersions::V1),
        "wire",
    )
    .await;
    check(
        dialling().session_config(|config| config.inbound_bytes = 0),
        "inbound_bytes",
    )
    .await;
    check(
        dialling().retry_strategy(RetryConfig::exponential_backoff(3, Duration::ZERO)),
        "retry_strategy.base",
    )
    .await;
    check(
        dialling().reconnect(ReconnectConfig::new().base(Duration::ZERO)),
        "reconnect.base",
    )
    .await;
    dialling().build().await.expect("the defaults are valid");
}

#[tokio::test]
async fn a_second_consumer_of_one_kind_is_an_error_of_connect_too() {
    let server = Server::inproc().await;
    let client = server.builder().build().await.expect("valid");
    client
        .on_message(|_, _| async { Ok(()) })
        .await
        .expect("taken");
    client
        .on_request(|_, _| async { Ok(Packet::response("")) })
        .await
        .expect("another kind");
    client
        .on_message(|_, _| async { Ok(()) })
        .await
        .expect_err("taken already");
    match client.connect().await {
        Err(TransportError::Config(error)) => assert_eq!(error.field(), "on_message"),
        other => panic!("{other:?} instead of an error"),
    }
}

struct Whole;

impl msgtrans_session::Handler for Whole {}

#[tokio::test]
async fn a_handler_takes_everything() {
    let server = Server::inproc().await;
    let client = server
        .builder()
        .with_handler(Whole)
        .build()
        .await
        .expect("valid");
    client
        .on_request(|_, _| async { Ok(Packet::response("")) })
        .await
        .expect_err("taken already");
}

#[tokio::test(start_paused = true)]
async fn closures_are_set_before_connect() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    client
        .on_message(|_, _| async { Ok(()) })
        .await
        .expect_err("too late");
    client.disconnect().await.expect("disconnected");
    client
        .on_message(|_, _| async { Ok(()) })
        .await
        .expect("between two runs");
    client.connect().await.expect("connected");
}
