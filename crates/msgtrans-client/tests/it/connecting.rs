//! Attempts to connect: their deadline, their number, their end.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use msgtrans_client::RetryConfig;
use msgtrans_core::{Code, ConfigError, ConnectError, TransportError};
use msgtrans_session::Refusal;
use msgtrans_transport::{BoxFuture, Connection, Connector, DialContext, Endpoint, ProtocolConfig};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::{Builder, Server, pass_time, soon};

/// Refuses each dial and notes when.
#[derive(Clone, Debug, Default)]
struct Closed(Arc<Mutex<Vec<Instant>>>);

impl ProtocolConfig for Closed {
    fn endpoint(&self) -> Endpoint {
        Endpoint::new("closed", "nowhere", None)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

impl Connector for Closed {
    fn connect<'a>(
        &'a self,
        _: &'a DialContext,
    ) -> BoxFuture<'a, Result<Box<dyn Connection>, ConnectError>> {
        self.0.lock().expect("lock").push(Instant::now());
        let endpoint = self.endpoint().to_string();
        let source = io::ErrorKind::ConnectionRefused.into();
        Box::pin(std::future::ready(Err(ConnectError::Io {
            endpoint,
            source,
        })))
    }
}

fn connect_error(outcome: Result<(), TransportError>) -> ConnectError {
    match outcome {
        Err(TransportError::Connect(error)) => error,
        other => panic!("{other:?} instead of an error of connect"),
    }
}

#[tokio::test]
async fn a_silent_listener_is_given_up_at_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let url = format!("tcp://{}", listener.local_addr().expect("bound"));
    let after = Duration::from_millis(100);
    let client = Builder::new()
        .with_protocol(&url)
        .connect_timeout(after)
        .build()
        .await
        .expect("valid");
    let (outcome, accepted) = tokio::join!(soon(client.connect()), listener.accept());
    match connect_error(outcome) {
        ConnectError::Timeout {
            endpoint,
            after: said,
        } => {
            assert_eq!((endpoint, said), (url, after));
        }
        other => panic!("{other:?} instead of a timeout"),
    }
    // The attempt is gone: after its Hello comes the end of the stream.
    let (mut socket, _) = accepted.expect("accepted");
    let mut hello = Vec::new();
    let _ = soon(socket.read_to_end(&mut hello)).await;
    assert!(!hello.is_empty());
    assert!(!client.is_connected());
}

#[tokio::test(start_paused = true)]
async fn connect_tries_again_as_often_as_told() {
    let closed = Closed::default();
    let retry = RetryConfig::exponential_backoff(3, Duration::from_secs(1));
    let client = Builder::new()
        .with_protocol(closed.clone())
        .retry_strategy(retry)
        .build()
        .await
        .expect("valid");
    let error = connect_error(client.connect().await);
    assert!(matches!(error, ConnectError::Io { .. }), "{error:?}");
    let times = closed.0.lock().expect("lock").clone();
    assert_eq!(times.len(), 4);
    for (pair, max) in times.windows(2).zip([1, 2, 4]) {
        assert!(
            pair[1] - pair[0] <= Duration::from_millis(max * 1_000 + 2),
            "{times:?}"
        );
    }
    assert!(times[3] > times[0], "no jitter draws nothing three times");
}

#[tokio::test(start_paused = true)]
async fn connect_tries_once_by_default() {
    let closed = Closed::default();
    let client = Builder::new()
        .with_protocol(closed.clone())
        .build()
        .await
        .expect("valid");
    connect_error(client.connect().await);
    assert_eq!(closed.0.lock().expect("lock").len(), 1);
    // The client is as it was.
    connect_error(client.connect().await);
    assert_eq!(closed.0.lock().expect("lock").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_final_refusal_is_not_tried_again() {
    let server = Server::inproc().await;
    server.refuse(Refusal::unauthorized("who are you"));
    let retry = RetryConfig::exponential_backoff(3, Duration::from_secs(1));
    let client = server
        .builder()
        .retry_strategy(retry)
        .build()
        .await
        .expect("valid");
    match connect_error(client.connect().await) {
        ConnectError::Refused { reason, .. } => {
            assert_eq!(
                (reason.code, reason.reason.as_str()),
                (Code::UNAUTHORIZED, "who are you")
            );
        }
        other => panic!("{other:?} instead of a refusal"),
    }
    assert_eq!(server.accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_tried_again_when_it_said() {
    let server = Server::inproc().await;
    let retry_after = Some(Duration::from_secs(20));
    server.refuse(Refusal {
        retry_after,
        ..Refusal::new(Code::OVERLOADED, "full")
    });
    let retry = RetryConfig::exponential_backoff(1, Duration::from_millis(100));
    let client = server
        .builder()
        .retry_strategy(retry)
        .build()
        .await
        .expect("valid");
    let start = Instant::now();
    client.connect().await.expect("connected");
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(20), "{waited:?}");
    assert!(waited < Duration::from_secs(21), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connected_client_says_so_and_stays_connected() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    match connect_error(client.connect().await) {
        ConnectError::State { what } => assert_eq!(what, "the client is connected already"),
        other => panic!("{other:?} instead of a state"),
    }
    client.request("still there").await.expect("answered");
}

#[tokio::test(start_paused = true)]
async fn dropping_connect_drops_the_attempt() {
    // A listener that never answers: the backlog takes the connection and nobody accepts it.
    let server = msgtrans_inproc::InprocServerConfig::new("client-test-silent");
    let context = msgtrans_transport::ListenContext::new(
        msgtrans_core::WireVersions::Any,
        msgtrans_core::Limits::default(),
    );
    let listener = msgtrans_transport::ServerProtocol::bind(&server, &context)
        .await
        .expect("bind");
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let client = Builder::new()
        .with_protocol("inproc://client-test-silent")
        .build()
        .await
        .expect("valid");
    let before = Instant::now();
    let outcome = tokio::time::timeout(Duration::from_secs(1), client.connect()).await;
    assert!(outcome.is_err(), "still connecting");
    pass_time(Duration::from_millis(20)).await;
    assert_eq!(
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks(),
        tasks
    );
    assert!(
        before.elapsed() < Duration::from_secs(10),
        "before the attempt's own deadline"
    );
    drop(listener);
    // Another attempt may begin.
    assert!(matches!(
        connect_error(client.connect().await),
        ConnectError::Io { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_asks_for_a_fresh_token() {
    let server = Server::inproc().await;
    server.refuse(Refusal::new(Code::OVERLOADED, "full"));
    let asked = AtomicU32::new(0);
    let client = server
        .builder()
        .retry_strategy(RetryConfig::exponential_backoff(
            1,
            Duration::from_millis(100),
        ))
        .auth_provider(move || {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            async move { Ok(format!("token {number}").into()) }
        })
        .build()
        .await
        .expect("valid");
    client.connect().await.expect("connected");
    let presented = server.presented.lock().expect("lock").clone();
    assert_eq!(presented, [Some("token 0".into()), Some("token 1".into())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_session_is_there_when_connect_returns() {
    let server = Server::inproc().await;
    for _ in 0..200 {
        let client = server.builder().build().await.expect("valid");
        client.connect().await.expect("connected");
        assert!(client.is_connected());
    }
}
