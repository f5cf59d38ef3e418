//! The event stream: bounded, in order, and never in the way of anything else.

use msgtrans::{Handler, HandlerError, Packet, Session, TransportError, TransportEvent};

use crate::support::{Protocol, run, start};

struct Answers;

impl Handler for Answers {
    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

#[test]
fn events_are_taken_once() {
    run(async {
        let server = start(Protocol::Inproc.server()).await;
        let _first = server.events();
        let mut second = server.events();
        match second.next().await {
            Some(TransportEvent::Error {
                session_id: None,
                error,
            }) => {
                assert!(matches!(error, TransportError::Config(_)), "{error:?}");
            }
            other => panic!("{other:?}"),
        }
        assert!(second.next().await.is_none());
    });
}

#[test]
fn a_second_consumer_of_one_kind_is_an_error_of_serve() {
    run(async {
        let server = Protocol::Inproc.server().build().await.expect("bound");
        // Without awaiting: the mistake is told later.
        server.on_message(|_, _| async { Ok(()) });
        server.on_message(|_, _| async { Ok(()) });
        let error = server.serve().await.expect_err("two takers of messages");
        assert!(error.to_string().contains("on_message"), "{error}");
    });
}

#[test]
fn a_closure_beside_a_whole_handler_is_an_error() {
    run(async {
        let server = Protocol::Inproc
            .server()
            .with_handler(Answers)
            .build()
            .await
            .expect("bound");
        // Awaited: the mistake is told at once.
        let taken = server.on_request(|_, packet| async { Ok(packet) }).await;
        assert!(taken.is_err());
        server.start().expect_err("told again");
    });
}

#[test]
fn closures_are_set_before_serving_and_serving_happens_once() {
    run(async {
        let server = start(Protocol::Inproc.server()).await;
        server
            .on_message(|_, _| async { Ok(()) })
            .await
            .expect_err("too late");
        server.start().expect_err("the second start");
        // What was wrong afterwards does not stop what runs.
        assert!(Protocol::Inproc.connected(&server).await.is_connected());
    });
}

#[test]
fn a_closure_takes_its_kind_and_the_rest_are_events() {
    run(async {
        let server = Protocol::Inproc.server().build().await.expect("bound");
        server.on_message(|_, _| async { Err(HandlerError::new("not today")) });
        server.start().expect("the first start");
        let mut events = server.events();
        let client = Protocol::Inproc.connected(&server).await;
        client.send("a message").await.expect("sent");
        let asking = tokio::spawn(async move { client.request("a request").await });
        let mut told = Vec::new();
        while told.len() < 3 {
            told.push(match events.next().await.expect("an event") {
                TransportEvent::ConnectionEstablished { .. } => "established",
                TransportEvent::Error { error, .. } => {
                    assert!(error.to_string().contains("not today"), "{error}");
                    "error"
                }
                TransportEvent::RequestReceived { responder, .. } => {
                    responder.respond("yes");
                    "request"
                }
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(told, ["established", "error", "request"]);
        assert_eq!(asking.await.expect("ran").expect("answered").payload, "yes");
    });
}
