//! The event stream: bounded, in order, and never in the way of anything else.

use std::time::Duration;

use msgtrans::{Code, Handler, HandlerError, Packet, RequestError, Session, TransportEvent};
use tokio::sync::watch;
use tokio::time::timeout;

use super::{
    Case, Protocol, TransportServer, case, connect, next_message, only_session, start, until,
};

pub(super) const CASES: &[Case] = &[
    case!(a_stream_that_is_held_and_not_read_stops_the_sender),
    case!(where_nobody_takes_events_the_oldest_messages_go_and_are_counted),
    case!(responses_never_wait_for_a_client_that_reads_no_events),
    case!(responses_never_wait_for_a_client_that_holds_its_events),
    case!(requests_come_as_events_with_a_responder),
    case!(a_stream_that_was_dropped_holds_nothing_up),
    case!(the_stream_ends_when_the_server_has_shut_down),
];

async fn a_stream_that_is_held_and_not_read_stops_the_sender(protocol: Protocol) {
    const MESSAGES: u32 = 4_000;
    let server = start(protocol.server().events_bounds(8, 64 * 1024)).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    let (sent, mut progress) = watch::channel(0);
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let packet = Packet::echo(number, vec![1; 16 * 1024]);
            client.send(packet).await.expect("sent");
            sent.send_replace(number);
        }
        client
    });
    // More waiting would make this stricter and less would not fail it.
    while let Ok(Ok(())) = timeout(Duration::from_millis(200), progress.changed()).await {}
    assert!(!sending.is_finished(), "64 MiB went nowhere");
    for number in 0..MESSAGES {
        assert_eq!(next_message(&mut events).await.message_id, number);
    }
    let client = sending.await.expect("everything was sent");
    assert!(client.is_connected());
    assert_eq!(server.stats().events_dropped, 0);
}

struct Answers;

impl Handler for Answers {
    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

async fn where_nobody_takes_events_the_oldest_messages_go_and_are_counted(protocol: Protocol) {
    const MESSAGES: u64 = 1_000;
    let server = protocol
        .server()
        .events_bounds(16, 64 * 1024)
        .build()
        .await
        .expect("bound");
    server
        .on_request(|_, request| async move { Ok(Packet::response(request.payload)) })
        .await
        .expect("the only one");
    server.start().expect("the first start");
    let client = protocol.connected(&server).await;
    for number in 0..MESSAGES {
        let packet = Packet::echo(u32::try_from(number).expect("small"), "m");
        client.send(packet).await.expect("sent");
    }
    // Requests are not events here, and come after all messages.
    client.request("done?").await.expect("answered");
    let stats = || server.stats();
    until(|| stats().packets_in == MESSAGES + 1).await;
    let dropped = stats().events_dropped;
    assert!(
        (MESSAGES - 16..MESSAGES).contains(&dropped),
        "{dropped} were dropped"
    );
    // What is left are the newest, in order.
    let mut events = server.events();
    for number in dropped..MESSAGES {
        let packet = next_message(&mut events).await;
        assert_eq!(u64::from(packet.message_id), number);
    }
}

/// Pushes many messages and one request's answer to a client that reads no events.
async fn pushes_and_requests(protocol: &Protocol, server: &TransportServer, hold: bool) {
    let client = connect(protocol.client(server).events_capacity(4)).await;
    let events = hold.then(|| client.events());
    let session = only_session(server).await;
    for _ in 0..20 {
        for number in 0..20 {
            session
                .send(Packet::echo(number, "news"))
                .await
                .expect("sent");
        }
        let answer = client.request("still there?").await.expect("answered");
        assert_eq!(answer.payload, "still there?");
    }
    client.disconnect().await.expect("disconnected");
    drop(events);
}

async fn responses_never_wait_for_a_client_that_reads_no_events(protocol: Protocol) {
    let server = start(protocol.server().with_handler(Answers)).await;
    pushes_and_requests(&protocol, &server, false).await;
}

async fn responses_never_wait_for_a_client_that_holds_its_events(protocol: Protocol) {
    let server = start(protocol.server().with_handler(Answers)).await;
    pushes_and_requests(&protocol, &server, true).await;
}

async fn requests_come_as_events_with_a_responder(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let mut events = server.events();
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let TransportEvent::RequestReceived {
                request, responder, ..
            } = event
            {
                assert!(!responder.is_cancelled());
                match request.payload.as_ref() {
                    b"answer" => responder.respond("answered"),
                    b"fail" => responder.fail(Code(5_000), "failed"),
                    _ => drop(responder),
                }
            }
        }
    });
    let client = protocol.connected(&server).await;
    assert_eq!(
        client.request("answer").await.expect("answered").payload,
        "answered"
    );
    for (text, code) in [("fail", Code(5_000)), ("drop", Code::HANDLER_FAILED)] {
        match client.request(text).await {
            Err(RequestError::Failed { code: got, .. }) => assert_eq!(got, code),
            other => panic!("{other:?}"),
        }
    }
}

async fn a_stream_that_was_dropped_holds_nothing_up(protocol: Protocol) {
    let server = protocol
        .server()
        .events_bounds(4, 4_096)
        .build()
        .await
        .expect("bound");
    server.on_request(|_, request| async move { Ok(Packet::response(request.payload)) });
    drop(server.events());
    server.start().expect("the first start");
    let client = protocol.connected(&server).await;
    for _ in 0..1_000 {
        client.send("nobody listens").await.expect("sent");
    }
    client.request("done?").await.expect("answered");
    client.disconnect().await.expect("disconnected");
    assert!(server.shutdown().await.is_clean());
}

async fn the_stream_ends_when_the_server_has_shut_down(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    let session = client.session().expect("connected");
    server.shutdown().await;
    let mut told = Vec::new();
    while let Some(event) = events.next().await {
        told.push(event);
    }
    assert!(
        matches!(
            &told[..],
            [
                TransportEvent::ConnectionEstablished { .. },
                TransportEvent::ConnectionClosed { .. }
            ]
        ),
        "{told:?}"
    );
    assert_eq!(session.closed().await.code, Code::GOING_AWAY);
}
