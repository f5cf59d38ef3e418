//! Listeners that come and go while the server serves.

use std::time::Duration;

use msgtrans::{ConnectError, Handler, HandlerError, Packet, Session, TransportError};
use tokio::time::interval;

use super::{Case, Protocol, TransportServer, case, connect, start, until};

pub(super) const CASES: &[Case] = &[
    case!(a_listener_is_added_while_serving),
    case!(sessions_outlive_their_listener),
    case!(the_address_of_a_removed_listener_is_free_again),
    case!(what_does_not_listen_cannot_be_removed),
];

struct Echo;

impl Handler for Echo {
    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

async fn echo(protocol: &Protocol) -> TransportServer {
    start(protocol.server().with_handler(Echo)).await
}

async fn a_listener_is_added_while_serving(protocol: Protocol) {
    let server = echo(&protocol).await;
    let first = protocol.connected(&server).await;
    let endpoint = server.add_protocol(protocol.at(&protocol.url())).await;
    let endpoint = endpoint.expect("bound");
    assert_eq!(server.local_endpoints().len(), 2);
    assert!(server.local_endpoints().contains(&endpoint));
    let second = connect(protocol.dial(&endpoint)).await;
    for client in [&first, &second] {
        let answer = client.request("which way?").await.expect("answered");
        assert_eq!(answer.payload, "which way?");
    }
    until(|| server.session_count() == 2).await;
    assert_eq!(server.listener_stats().accepted, 2);
}

async fn sessions_outlive_their_listener(protocol: Protocol) {
    let server = echo(&protocol).await;
    let steady = protocol.connected(&server).await;
    let endpoint = server.add_protocol(protocol.at(&protocol.url())).await;
    let endpoint = endpoint.expect("bound");
    let client = connect(protocol.dial(&endpoint)).await;
    client.request("before").await.expect("answered");
    server.remove_protocol(&endpoint).await.expect("it listens");
    assert!(!server.local_endpoints().contains(&endpoint));
    for text in ["after", "and again"] {
        let answer = client.request(text).await.expect("the session lives on");
        assert_eq!(answer.payload, text);
        let answer = steady.request(text).await.expect("nothing to do with it");
        assert_eq!(answer.payload, text);
    }
    // Nobody new comes in, and hears of it at once.
    let late = protocol.dial(&endpoint).build().await.expect("valid");
    match late.connect().await.expect_err("nobody listens") {
        TransportError::Connect(ConnectError::Timeout { .. }) => panic!("waited in vain"),
        TransportError::Connect(_) => {}
        other => panic!("{other}"),
    }
    assert_eq!(server.session_count(), 2);
    client.disconnect().await.expect("disconnected");
    until(|| server.session_count() == 1).await;
}

async fn the_address_of_a_removed_listener_is_free_again(protocol: Protocol) {
    let server = echo(&protocol).await;
    let endpoint = server.add_protocol(protocol.at(&protocol.url())).await;
    let endpoint = endpoint.expect("bound");
    let client = connect(protocol.dial(&endpoint)).await;
    server.remove_protocol(&endpoint).await.expect("it listens");
    if protocol.capabilities.rebinds {
        let again = server.add_protocol(protocol.at(&endpoint)).await;
        assert_eq!(again.expect("free"), endpoint);
        let answer = client.request("still there?").await.expect("answered");
        assert_eq!(answer.payload, "still there?");
    } else {
        client.disconnect().await.expect("disconnected");
        let mut attempts = interval(Duration::from_millis(10));
        loop {
            match server.add_protocol(protocol.at(&endpoint)).await {
                Ok(again) => break assert_eq!(again, endpoint),
                // Its last connection has not gone yet.
                Err(TransportError::Bind(_)) => attempts.tick().await,
                Err(other) => panic!("{other}"),
            };
        }
    }
    let client = connect(protocol.dial(&endpoint)).await;
    let answer = client.request("again").await.expect("answered");
    assert_eq!(answer.payload, "again");
}

async fn what_does_not_listen_cannot_be_removed(protocol: Protocol) {
    let server = echo(&protocol).await;
    let endpoint = server.local_endpoints()[0].clone();
    server.remove_protocol(&endpoint).await.expect("it listens");
    match server.remove_protocol(&endpoint).await {
        Err(TransportError::Config(error)) => assert_eq!(error.field(), "endpoint"),
        other => panic!("{other:?}"),
    }
}
