//! The demonstration, end to end.

use std::future::Future;
use std::time::Duration;

use custom_protocol::demo;

use crate::conformance::fresh_name;

/// What comes, comes soon, or the test fails instead of hanging.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(Duration::from_secs(60), what).await;
    outcome.expect("nothing came within 60 s")
}

#[tokio::test]
async fn the_demo_serves_one_handler_over_three_protocols() {
    let server = demo::start(&fresh_name()).await.expect("a fresh name");
    let endpoints = server.local_endpoints();
    assert_eq!(endpoints.len(), 3);
    for endpoint in endpoints {
        let scheme = endpoint.scheme().to_owned();
        let (echo, answer) = soon(demo::visit(endpoint, "Ada")).await.expect(&scheme);
        assert_eq!(echo, "hello from Ada");
        assert_eq!(answer, format!("Ada, you came over {scheme}"));
    }
    assert!(soon(server.shutdown()).await.is_clean());
}
