//! Every example, end to end, on free ports.

mod chat;

use std::future::Future;
use std::time::Duration;

use examples::{echo_client, echo_server, many_protocols, request_response};
use msgtrans::TransportServer;

/// What comes, comes soon, or the test fails instead of hanging.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(Duration::from_secs(30), what).await;
    outcome.expect("nothing came within 30 s")
}

/// Where `server` listens with `scheme`.
fn url_of(server: &TransportServer, scheme: &str) -> String {
    let endpoints = server.local_endpoints();
    let endpoint = endpoints
        .iter()
        .find(|endpoint| endpoint.scheme() == scheme);
    endpoint.expect("the server has this protocol").to_string()
}

#[tokio::test]
async fn the_echo_client_gets_its_message_back_over_each_protocol_it_dials() {
    let free = "127.0.0.1:0";
    let server = echo_server::build(free, free, free)
        .await
        .expect("free ports");
    let serving = tokio::spawn({
        let server = server.clone();
        async move { echo_server::serve(&server).await }
    });
    for scheme in ["tcp", "ws"] {
        let url = url_of(&server, scheme);
        let client = echo_client::client(&url).await.expect("a URL");
        let answer = soon(echo_client::echo(&client, "Hello")).await;
        assert_eq!(answer.expect("an echo").as_deref(), Some("Hello"), "{url}");
    }
    let url = url_of(&server, "tcp");
    let address = url.trim_start_matches("tcp://");
    let client = echo_client::patient_client(address)
        .await
        .expect("an address");
    let answer = soon(echo_client::echo(&client, "typed")).await;
    assert_eq!(answer.expect("an echo").as_deref(), Some("typed"));

    let report = soon(server.shutdown()).await;
    assert!(report.is_clean(), "{report:?}");
    let served = soon(serving).await.expect("no panic");
    served.expect("the server ended as it was told to");
}

#[tokio::test]
async fn both_sides_answer_each_others_requests() {
    for url in ["tcp://127.0.0.1:0", "ws://127.0.0.1:0", "inproc://requests"] {
        let server = request_response::start(url).await.expect("free");
        let url = server.local_endpoints()[0].to_string();
        let client = soon(request_response::connect(&url, "Ada"))
            .await
            .expect("connects");
        let answers = soon(request_response::ask(&client)).await.expect("answers");
        assert_eq!(
            answers,
            ["HELLO", "hello, Ada", "there is no request of kind 9"],
            "{url}"
        );
        soon(client.disconnect()).await.expect("disconnects");
        soon(server.shutdown()).await;
    }
}

#[tokio::test]
async fn one_handler_answers_over_four_protocols() {
    let (server, urls) = many_protocols::start("it").await.expect("free ports");
    let mut answers = Vec::new();
    for url in &urls {
        answers.push(soon(many_protocols::ask(url, "Ada")).await.expect(url));
    }
    assert_eq!(
        answers,
        [
            "hello Ada, you came over tcp",
            "hello Ada, you came over ws",
            "hello Ada, you came over quic, encrypted",
            "hello Ada, you came over inproc",
        ]
    );
    soon(server.shutdown()).await;
}
