//! Ends: who hears what, in which order, how often.

use std::time::Duration;

use msgtrans::{
    Bytes, CloseReason, Code, ConnectRequest, Handler, HandlerError, Initiator, Packet, Refusal,
    RequestError, SendErrorKind, Session, SessionId, TransportError, TransportEvent,
};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Case, Log, Protocol, case, connect, next_close, next_message, only_session, start};

pub(super) const CASES: &[Case] = &[
    case!(a_goodbye_of_the_server_arrives_with_code_and_reason),
    case!(a_goodbye_of_the_client_arrives_with_code_and_reason),
    case!(what_was_queued_before_a_close_arrives),
    case!(what_a_client_queued_before_it_disconnects_arrives),
    case!(requests_that_wait_fail_when_the_session_closes),
    case!(a_send_on_a_closed_session_gives_the_packet_back),
    case!(events_of_a_session_come_in_order_and_once),
    case!(a_panic_in_a_handler_closes_that_session_alone),
    case!(a_panic_in_a_request_closes_that_session_alone),
    case!(a_handler_hears_once_of_each_end),
    case!(a_refusal_reaches_the_client_and_nothing_opens),
    case!(a_refused_token_and_an_accepted_one),
];

const OWN: Code = Code(2_000);

async fn a_goodbye_of_the_server_arrives_with_code_and_reason(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    let session = only_session(&server).await;
    session.close(OWN, "closing time");
    assert_eq!(
        next_close(&mut events).await,
        CloseReason::peer(OWN, "closing time")
    );
    assert_eq!(
        session.closed().await,
        CloseReason::local(OWN, "closing time")
    );
    assert_eq!(
        client.close_reason(),
        session
            .close_reason()
            .map(|reason| { CloseReason::peer(reason.code, reason.reason) })
    );
}

async fn a_goodbye_of_the_client_arrives_with_code_and_reason(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    client
        .session()
        .expect("connected")
        .close(OWN, "had enough");
    assert_eq!(
        next_close(&mut events).await,
        CloseReason::peer(OWN, "had enough")
    );
    let client = protocol.connected(&server).await;
    client.disconnect().await.expect("disconnected");
    assert_eq!(
        next_close(&mut events).await,
        CloseReason::peer(Code::NORMAL, "")
    );
}

async fn what_was_queued_before_a_close_arrives(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    let session = only_session(&server).await;
    for number in 0..1_000 {
        let packet = Packet::echo(number, vec![3; 2_000]);
        session.try_send(packet).expect("queued");
    }
    server.close_session(session.id()).await.expect("a session");
    for number in 0..1_000 {
        assert_eq!(next_message(&mut events).await.message_id, number);
    }
    assert_eq!(
        next_close(&mut events).await,
        CloseReason::peer(Code::NORMAL, "")
    );
}

async fn what_a_client_queued_before_it_disconnects_arrives(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    for number in 0..1_000 {
        let packet = Packet::echo(number, vec![3; 2_000]);
        client.try_send(packet).expect("queued");
    }
    client.disconnect().await.expect("disconnected");
    for number in 0..1_000 {
        assert_eq!(next_message(&mut events).await.message_id, number);
    }
    assert_eq!(
        next_close(&mut events).await,
        CloseReason::peer(Code::NORMAL, "")
    );
}

/// Never answers, and says who asks.
struct Silent(Log<SessionId>);

impl Handler for Silent {
    async fn on_request(&self, session: &Session, _: Packet) -> Result<Packet, HandlerError> {
        self.0.put(session.id());
        std::future::pending().await
    }
}

async fn requests_that_wait_fail_when_the_session_closes(protocol: Protocol) {
    let (log, mut asked) = Log::new();
    let server = start(protocol.server().with_handler(Silent(log))).await;
    let client = protocol.connected(&server).await;
    let requests: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.request_with("?", Duration::MAX).await })
        })
        .collect();
    for _ in 0..10 {
        asked.recv().await.expect("asked");
    }
    only_session(&server).await.close(OWN, "no answers");
    for request in requests {
        match request.await.expect("ran") {
            Err(RequestError::Closed(reason)) => {
                assert_eq!(reason, CloseReason::peer(OWN, "no answers"));
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn a_send_on_a_closed_session_gives_the_packet_back(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let client = protocol.connected(&server).await;
    let session = only_session(&server).await;
    let theirs = client.session().expect("connected");
    session.close(OWN, "over");
    theirs.closed().await;
    session.closed().await;
    for (session, reason) in [
        (&session, CloseReason::local(OWN, "over")),
        (&theirs, CloseReason::peer(OWN, "over")),
    ] {
        let error = session
            .send(Packet::text("late"))
            .await
            .expect_err("closed");
        assert_eq!(error.kind(), &SendErrorKind::Closed(reason.clone()));
        assert_eq!(error.into_packet().expect("given back").payload, "late");
        let error = session.try_send(Packet::text("late")).expect_err("closed");
        assert_eq!(error.kind(), &SendErrorKind::Closed(reason.clone()));
        let error = session.send_confirmed(Packet::text("late")).await;
        assert_eq!(
            error.expect_err("closed").kind(),
            &SendErrorKind::Closed(reason.clone())
        );
        assert!(!session.is_connected());
        assert_eq!(session.closed().await, reason);
    }
    let id = session.id();
    let error = server
        .send_to(id, Packet::text("late"))
        .await
        .expect_err("gone");
    assert_eq!(error.kind(), &SendErrorKind::NoSession(id));
    assert_eq!(error.into_packet().expect("given back").payload, "late");
}

async fn events_of_a_session_come_in_order_and_once(protocol: Protocol) {
    const CLIENTS: usize = 5;
    const MESSAGES: u32 = 200;
    let server = start(protocol.server()).await;
    let mut events = server.events();
    for _ in 0..CLIENTS {
        let client = protocol.connected(&server).await;
        tokio::spawn(async move {
            for number in 0..MESSAGES {
                client.send(Packet::echo(number, "m")).await.expect("sent");
            }
            client.disconnect().await.expect("disconnected");
        });
    }
    let mut told = std::collections::BTreeMap::<SessionId, Vec<String>>::new();
    let mut closed = 0;
    while closed < CLIENTS {
        let (id, what) = match events.next().await.expect("an event") {
            TransportEvent::ConnectionEstablished { session_id, .. } => {
                (session_id, "established".to_owned())
            }
            TransportEvent::MessageReceived { session_id, packet } => {
                (session_id, packet.message_id.to_string())
            }
            TransportEvent::ConnectionClosed { session_id, .. } => {
                closed += 1;
                (session_id, "closed".to_owned())
            }
            other => panic!("{other:?}"),
        };
        told.entry(id).or_default().push(what);
    }
    server.shutdown().await;
    assert!(events.next().await.is_none(), "an event behind the last");
    assert_eq!(told.len(), CLIENTS);
    for (_, told) in told {
        let (first, rest) = told.split_first().expect("some");
        let (last, messages) = rest.split_last().expect("some");
        assert_eq!((first.as_str(), last.as_str()), ("established", "closed"));
        let expected: Vec<_> = (0..MESSAGES).map(|number| number.to_string()).collect();
        assert_eq!(messages, expected);
    }
}

struct Panics(Log<CloseReason>);

impl Handler for Panics {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        assert_ne!(packet.payload, "panic", "as you wish");
        session.send(packet).await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        tokio::task::yield_now().await;
        assert_ne!(request.payload, "panic", "as you wish");
        Ok(Packet::response(request.payload))
    }

    async fn on_disconnect(&self, _: &Session, reason: &CloseReason) {
        self.0.put(reason.clone());
    }
}

async fn a_panic_in_a_handler_closes_that_session_alone(protocol: Protocol) {
    panic_closes_one_session(protocol, false).await;
}

async fn a_panic_in_a_request_closes_that_session_alone(protocol: Protocol) {
    panic_closes_one_session(protocol, true).await;
}

async fn panic_closes_one_session(protocol: Protocol, in_request: bool) {
    let (log, mut ends) = Log::new();
    let server = start(protocol.server().with_handler(Panics(log))).await;
    let mut told = server.events();
    let victim = protocol.connected(&server).await;
    let other = protocol.connected(&server).await;
    let mut events = victim.events();
    if in_request {
        match victim.request("panic").await {
            Err(RequestError::Closed(reason)) => assert_eq!(reason.code, Code::HANDLER_FAILED),
            other => panic!("{other:?}"),
        }
    } else {
        victim.send("panic").await.expect("sent");
    }
    let reason = next_close(&mut events).await;
    assert_eq!(
        (reason.code, reason.initiator),
        (Code::HANDLER_FAILED, Initiator::Peer)
    );
    let reason = ends.recv().await.expect("an end");
    assert_eq!(
        (reason.code, reason.initiator),
        (Code::HANDLER_FAILED, Initiator::Local)
    );
    let reported = loop {
        if let TransportEvent::Error { error, .. } = told.next().await.expect("an event") {
            break error;
        }
    };
    assert!(
        matches!(reported, TransportError::Handler(_)),
        "{reported:?}"
    );
    assert!(reported.to_string().contains("as you wish"), "{reported}");
    assert_eq!(
        other.request("alive").await.expect("answered").payload,
        "alive"
    );
    assert_eq!(server.session_count(), 1);
}

async fn a_handler_hears_once_of_each_end(protocol: Protocol) {
    let (log, mut ends) = Log::new();
    let server = start(protocol.server().with_handler(Panics(log))).await;

    let client = protocol.connected(&server).await;
    client.disconnect().await.expect("disconnected");
    expect_end(&mut ends, Initiator::Peer, Code::NORMAL).await;

    let client = protocol.connected(&server).await;
    server
        .close_session(client.session_id().expect("connected"))
        .await
        .expect("a session");
    expect_end(&mut ends, Initiator::Local, Code::NORMAL).await;

    let client = protocol.connected(&server).await;
    client.send("panic").await.expect("sent");
    expect_end(&mut ends, Initiator::Local, Code::HANDLER_FAILED).await;

    // Both sides at once.
    let client = protocol.connected(&server).await;
    let session = only_session(&server).await;
    session.close(OWN, "from here");
    client.disconnect().await.expect("disconnected");
    ends.recv().await.expect("an end");

    let client = protocol.connected(&server).await;
    server.shutdown().await;
    expect_end(&mut ends, Initiator::Local, Code::GOING_AWAY).await;
    // The shutdown has waited for every session's task.
    assert!(ends.try_recv().is_err(), "an end twice");
    drop(client);
}

async fn expect_end(ends: &mut UnboundedReceiver<CloseReason>, initiator: Initiator, code: Code) {
    let reason = ends.recv().await.expect("an end");
    assert_eq!(
        (reason.initiator, reason.code),
        (initiator, code),
        "{reason}"
    );
}

/// Lets in who knows the word.
struct Doorman(Log<Option<Bytes>>);

impl Handler for Doorman {
    async fn on_connect(&self, _: &Session, request: &ConnectRequest) -> Result<(), Refusal> {
        self.0.put(request.auth.clone());
        tokio::task::yield_now().await;
        match request.auth.as_deref() {
            Some(b"sesame") => Ok(()),
            _ => {
                let mut refusal = Refusal::unauthorized("you do not know the word");
                refusal.retry_after = Some(Duration::from_secs(7));
                Err(refusal)
            }
        }
    }

    async fn on_disconnect(&self, _: &Session, _: &CloseReason) {
        self.0.put(Some(Bytes::from_static(b"an end")));
    }
}

async fn a_refusal_reaches_the_client_and_nothing_opens(protocol: Protocol) {
    let (log, mut asked) = Log::new();
    let server = start(protocol.server().with_handler(Doorman(log))).await;
    let mut told = server.events();
    let client = protocol.client(&server).build().await.expect("valid");
    match client.connect().await {
        Err(TransportError::Connect(msgtrans::ConnectError::Refused {
            reason,
            retry_after,
            ..
        })) => {
            assert_eq!(
                reason,
                CloseReason::peer(Code::UNAUTHORIZED, "you do not know the word")
            );
            assert_eq!(retry_after, Some(Duration::from_secs(7)));
        }
        other => panic!("{other:?}"),
    }
    assert!(!client.is_connected());
    assert_eq!(asked.recv().await, Some(None));
    server.shutdown().await;
    assert!(
        told.next().await.is_none(),
        "an event of a session that never was"
    );
    assert!(
        asked.try_recv().is_err(),
        "an end of a session that never was"
    );
    assert_eq!(server.stats().sessions_opened, 0);
    assert_eq!(server.stats().handshakes_failed, 1);
}

async fn a_refused_token_and_an_accepted_one(protocol: Protocol) {
    let (log, mut asked) = Log::new();
    let server = start(protocol.server().with_handler(Doorman(log))).await;
    let refused = protocol.client(&server).auth("abracadabra").build().await;
    let error = refused
        .expect("valid")
        .connect()
        .await
        .expect_err("refused");
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(asked.recv().await, Some(Some(Bytes::from("abracadabra"))));
    let client = connect(protocol.client(&server).auth("sesame")).await;
    assert!(client.is_connected());
    assert_eq!(asked.recv().await, Some(Some(Bytes::from("sesame"))));
}
