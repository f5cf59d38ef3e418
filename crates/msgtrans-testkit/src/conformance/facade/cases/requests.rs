//! Requests: deadlines, cancellation, failures, bounds, and whose answer is whose.

use std::sync::Arc;
use std::time::Duration;

use msgtrans::{Code, Handler, HandlerError, Packet, RequestError, Session};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;

use super::{Case, Log, OnDrop, Protocol, case, connect, next_message, start, until};

pub(super) const CASES: &[Case] = &[
    case!(a_thousand_requests_at_once_each_get_their_own_answer),
    case!(a_server_requests_from_its_client),
    case!(a_request_whose_deadline_passes_fails_and_is_cancelled_at_the_server),
    case!(a_request_whose_future_is_dropped_is_cancelled_at_the_server),
    case!(a_request_without_a_deadline_waits_as_long_as_it_takes),
    case!(a_failure_carries_code_and_words),
    case!(requests_above_the_servers_bound_fail_as_overloaded),
    case!(requests_above_the_clients_bound_are_not_sent),
    case!(a_slow_request_holds_up_neither_other_requests_nor_messages),
    case!(an_answer_keeps_the_business_type_of_its_request),
    case!(who_answers_no_requests_says_so),
];

/// What the handler of these tests does with a request.
struct Business {
    log: Log<&'static str>,
    /// Lets requests that hang go on.
    release: Arc<Semaphore>,
}

impl Handler for Business {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session
            .send(Packet::echo(packet.message_id, packet.payload))
            .await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        match request.payload.as_ref() {
            b"hang" => {
                let _guard = OnDrop(self.log.clone());
                self.log.put("hangs");
                self.release.acquire().await?.forget();
                Ok(Packet::response("released"))
            }
            b"fail" => Err(HandlerError::with_code(Code(4_711), "as you wish")),
            b"break" => Err(std::io::Error::other("broken").into()),
            b"typed" => Ok(Packet::response("typed").with_biz_type(9)),
            _ => {
                tokio::task::yield_now().await;
                Ok(Packet::response(request.payload))
            }
        }
    }
}

fn business() -> (Business, UnboundedReceiver<&'static str>, Arc<Semaphore>) {
    let (log, seen) = Log::new();
    let release = Arc::new(Semaphore::new(0));
    let business = Business {
        log,
        release: release.clone(),
    };
    (business, seen, release)
}

async fn a_thousand_requests_at_once_each_get_their_own_answer(protocol: Protocol) {
    let (business, _seen, _) = business();
    let builder = protocol
        .server()
        .with_handler(business)
        .session_config(|config| config.requests_handled_max = 1_000);
    let server = start(builder).await;
    let client = protocol.connected(&server).await;
    let mut requests = JoinSet::new();
    for number in 0..1_000 {
        let client = client.clone();
        requests.spawn(async move {
            let text = format!("request {number}");
            let answer = client.request(text.clone()).await.expect("answered");
            assert_eq!(answer.payload_as_string(), Some(text));
        });
    }
    while let Some(outcome) = requests.join_next().await {
        outcome.expect("its own answer");
    }
    until(|| server.stats().requests_in == 1_000).await;
    let timed = client.stats().round_trip.count;
    assert!(protocol.may_time(timed, 1_000), "{timed}");
    assert_eq!(client.session().expect("open").stats().requests_pending, 0);
}

async fn a_server_requests_from_its_client(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let (business, _seen, _) = business();
    let client = connect(protocol.client(&server).with_handler(business)).await;
    let id = client.session_id().expect("connected");
    until(|| server.session_count() == 1).await;
    let answer = server.request_to(id, "what?").await.expect("answered");
    assert_eq!(answer.payload, "what?");
    match server.request_to(id, "fail").await {
        Err(RequestError::Failed { code, message }) => {
            assert_eq!((code, message.as_str()), (Code(4_711), "as you wish"));
        }
        other => panic!("{other:?}"),
    }
}

async fn a_request_whose_deadline_passes_fails_and_is_cancelled_at_the_server(protocol: Protocol) {
    let (business, mut seen, _) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let mut deadline = Duration::from_millis(30);
    for asked in 1.. {
        match client.request_with("hang", deadline).await {
            Err(RequestError::Timeout { after }) => assert_eq!(after, deadline),
            other => panic!("{other:?}"),
        }
        until(|| server.stats().requests_cancelled == asked).await;
        // On a machine that is busy elsewhere the server hears of the request and of its end at once.
        if let Ok(what) = seen.try_recv() {
            assert_eq!(what, "hangs");
            assert_eq!(seen.recv().await, Some("dropped"));
            break;
        }
        deadline *= 2;
    }
    // The session goes on.
    assert_eq!(
        client.request("next").await.expect("answered").payload,
        "next"
    );
}

async fn a_request_whose_future_is_dropped_is_cancelled_at_the_server(protocol: Protocol) {
    let (business, mut seen, _) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    tokio::select! {
        answer = client.request("hang") => panic!("{answer:?}"),
        what = seen.recv() => assert_eq!(what, Some("hangs")),
    }
    assert_eq!(seen.recv().await, Some("dropped"));
    assert_eq!(client.session().expect("open").stats().requests_pending, 0);
}

async fn a_request_without_a_deadline_waits_as_long_as_it_takes(protocol: Protocol) {
    let (business, mut seen, release) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let request = client.request_with("hang", Duration::MAX);
    let releasing = async {
        assert_eq!(seen.recv().await, Some("hangs"));
        release.add_permits(1);
    };
    let (answer, ()) = tokio::join!(request, releasing);
    assert_eq!(answer.expect("answered").payload, "released");
    match client.request_with("now", Duration::ZERO).await {
        Err(RequestError::BadDeadline(deadline)) => assert!(deadline.is_zero()),
        other => panic!("{other:?}"),
    }
}

async fn a_failure_carries_code_and_words(protocol: Protocol) {
    let (business, _seen, _) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    match client.request("fail").await {
        Err(RequestError::Failed { code, message }) => {
            assert_eq!((code, message.as_str()), (Code(4_711), "as you wish"));
        }
        other => panic!("{other:?}"),
    }
    match client.request("break").await {
        Err(RequestError::Failed { code, .. }) => assert_eq!(code, Code::HANDLER_FAILED),
        other => panic!("{other:?}"),
    }
    // Counted when the pass ends that wrote the answer.
    until(|| server.stats().handler_errors == 2).await;
}

async fn requests_above_the_servers_bound_fail_as_overloaded(protocol: Protocol) {
    let (business, mut seen, release) = business();
    let builder = protocol
        .server()
        .with_handler(business)
        .session_config(|config| config.requests_handled_max = 2);
    let server = start(builder).await;
    let client = protocol.connected(&server).await;
    let hang = || {
        let client = client.clone();
        tokio::spawn(async move { client.request("hang").await })
    };
    let hanging = [hang(), hang()];
    for _ in 0..2 {
        assert_eq!(seen.recv().await, Some("hangs"));
    }
    match client.request("one more").await {
        Err(error @ RequestError::Failed { code, .. }) => {
            assert_eq!(code, Code::OVERLOADED);
            assert!(error.is_retryable());
        }
        other => panic!("{other:?}"),
    }
    until(|| server.stats().requests_overloaded == 1).await;
    release.add_permits(2);
    for request in hanging {
        let answer = request.await.expect("ran").expect("answered");
        assert_eq!(answer.payload, "released");
    }
    let answer = client.request("one more").await.expect("room again");
    assert_eq!(answer.payload, "one more");
}

async fn requests_above_the_clients_bound_are_not_sent(protocol: Protocol) {
    let (business, mut seen, release) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = connect(protocol.client(&server).requests_pending_max(1)).await;
    let hanging = {
        let client = client.clone();
        tokio::spawn(async move { client.request("hang").await })
    };
    assert_eq!(seen.recv().await, Some("hangs"));
    match client.request("one more").await {
        Err(RequestError::TooManyPending { max }) => assert_eq!(max, 1),
        other => panic!("{other:?}"),
    }
    release.add_permits(1);
    hanging.await.expect("ran").expect("answered");
    client.request("one more").await.expect("room again");
}

async fn a_slow_request_holds_up_neither_other_requests_nor_messages(protocol: Protocol) {
    let (business, mut seen, release) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    let slow = {
        let client = client.clone();
        tokio::spawn(async move { client.request("hang").await })
    };
    assert_eq!(seen.recv().await, Some("hangs"));
    for number in 0..100 {
        let text = number.to_string();
        let answer = client.request(text.clone()).await.expect("answered");
        assert_eq!(answer.payload_as_string(), Some(text));
        client.send(Packet::echo(number, "m")).await.expect("sent");
        assert_eq!(next_message(&mut events).await.message_id, number);
    }
    release.add_permits(1);
    slow.await.expect("ran").expect("answered");
}

async fn an_answer_keeps_the_business_type_of_its_request(protocol: Protocol) {
    let (business, _seen, _) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let ask = |text: &'static str| client.request(Packet::request(text).with_biz_type(5));
    assert_eq!(ask("plain").await.expect("answered").biz_type, 5);
    assert_eq!(ask("typed").await.expect("answered").biz_type, 9);
}

async fn who_answers_no_requests_says_so(protocol: Protocol) {
    struct Deaf;
    impl Handler for Deaf {}
    let server = start(protocol.server().with_handler(Deaf)).await;
    let client = protocol.connected(&server).await;
    match client.request("anybody?").await {
        Err(RequestError::Failed { code, .. }) => assert_eq!(code, Code::UNSUPPORTED),
        other => panic!("{other:?}"),
    }
}
