//! Handlers that call anything from inside: none of it hangs.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use msgtrans::{
    CloseReason, Code, Handler, HandlerError, Initiator, Packet, RequestError, Session, SessionId,
};

use super::{
    Case, Log, OnDrop, Protocol, TransportClient, TransportServer, case, connect, needs_large,
    next_close, next_message, only_session, start, until,
};

pub(super) const CASES: &[Case] = &[
    case!(a_handler_sends_more_to_its_own_session_than_its_queue_holds),
    case!(a_handler_confirms_a_send_to_its_own_session),
    case!(a_handler_requests_from_the_peer_that_requests_from_it),
    case!(a_message_handler_waits_for_a_response_of_the_same_peer),
    case!(two_sessions_relay_to_each_other),
    case!(both_sides_flood_each_other_with_large_frames, needs_large),
    case!(a_handler_closes_its_own_session),
    case!(a_handler_closes_its_own_session_by_name_and_waits_for_the_end),
    case!(a_request_handler_closes_its_own_session),
    case!(a_handler_broadcasts_to_itself),
    case!(a_message_handler_shuts_the_server_down),
    case!(a_request_handler_shuts_the_server_down_and_still_answers),
    case!(a_client_handler_disconnects_its_client),
];

struct Flood;

const FLOOD: u32 = 5_000;

impl Handler for Flood {
    async fn on_message(&self, session: &Session, _: Packet) -> Result<(), HandlerError> {
        for number in 0..FLOOD {
            let packet = Packet::echo(number, vec![7; 1024]);
            session.send(packet).await?;
        }
        Ok(())
    }
}

async fn a_handler_sends_more_to_its_own_session_than_its_queue_holds(protocol: Protocol) {
    let builder = protocol
        .server()
        .with_handler(Flood)
        .session_config(|config| {
            config.outbound.items = 8;
            config.outbound.bytes = 16 * 1024;
        });
    let server = start(builder).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    client.send("go").await.expect("sent");
    for number in 0..FLOOD {
        assert_eq!(next_message(&mut events).await.message_id, number);
    }
}

struct Confirms(Log<bool>);

impl Handler for Confirms {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        let outcome = session
            .send_confirmed(Packet::echo(1, packet.payload))
            .await;
        self.0.put(outcome.is_ok());
        Ok(())
    }
}

async fn a_handler_confirms_a_send_to_its_own_session(protocol: Protocol) {
    let (log, mut seen) = Log::new();
    let server = start(protocol.server().with_handler(Confirms(log))).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    client.send("please").await.expect("sent");
    assert_eq!(next_message(&mut events).await.payload, "please");
    assert_eq!(seen.recv().await, Some(true));
}

/// Answers a request for `n` by requesting `n - 1` from whoever asks, down to 0.
struct Countdown;

impl Handler for Countdown {
    async fn on_request(&self, session: &Session, request: Packet) -> Result<Packet, HandlerError> {
        let n: u32 = request.payload_as_str().unwrap_or_default().parse()?;
        if n == 0 {
            return Ok(Packet::response("0"));
        }
        let below = session.request((n - 1).to_string()).await?;
        let below = below.payload_as_string().unwrap_or_default();
        Ok(Packet::response(format!("{n} {below}")))
    }
}

async fn a_handler_requests_from_the_peer_that_requests_from_it(protocol: Protocol) {
    let server = start(protocol.server().with_handler(Countdown)).await;
    let client = connect(protocol.client(&server).with_handler(Countdown)).await;
    let session = only_session(&server).await;
    let (up, down) = tokio::join!(client.request("9"), session.request("8"));
    assert_eq!(up.expect("answered").payload, "9 8 7 6 5 4 3 2 1 0");
    assert_eq!(down.expect("answered").payload, "8 7 6 5 4 3 2 1 0");
}

/// Asks the peer what its message means, before it takes the next one.
struct Asks(Log<String>);

impl Handler for Asks {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        let answer = session.request(packet.payload).await?;
        self.0.put(answer.payload_as_string().unwrap_or_default());
        Ok(())
    }
}

async fn a_message_handler_waits_for_a_response_of_the_same_peer(protocol: Protocol) {
    let (log, mut seen) = Log::new();
    let server = start(protocol.server().with_handler(Asks(log))).await;
    let client = connect(protocol.client(&server).with_handler(Countdown)).await;
    for _ in 0..100 {
        client.send("0").await.expect("sent");
    }
    for _ in 0..100 {
        assert_eq!(seen.recv().await.as_deref(), Some("0"));
    }
}

async fn two_sessions_relay_to_each_other(protocol: Protocol) {
    const MESSAGES: u32 = 5_000;
    let builder = protocol.server().session_config(|config| {
        // Full queues are what this is about.
        config.outbound.items = 4;
    });
    let server = builder.build().await.expect("bound");
    let relay = server.clone();
    server.on_message(move |from, packet| {
        let relay = relay.clone();
        async move {
            for to in relay.active_sessions().await {
                if to != from {
                    relay.send_to(to, packet.clone()).await?;
                }
            }
            Ok(())
        }
    });
    server.start().expect("the first start");
    let clients = [
        protocol.connected(&server).await,
        protocol.connected(&server).await,
    ];
    until(|| server.session_count() == 2).await;
    let both = clients.map(|client| {
        let mut events = client.events();
        tokio::spawn(async move {
            let sender = client.clone();
            let sending = tokio::spawn(async move {
                for number in 0..MESSAGES {
                    let packet = Packet::echo(number, vec![1; 1024]);
                    sender.send(packet).await.expect("sent");
                }
            });
            for number in 0..MESSAGES {
                assert_eq!(next_message(&mut events).await.message_id, number);
            }
            sending.await.expect("everything was sent");
        })
    });
    for one in both {
        one.await.expect("everything came");
    }
}

/// For megabytes on a busy machine without optimisation.
const PATIENCE: Duration = Duration::from_secs(60);

async fn both_sides_flood_each_other_with_large_frames(protocol: Protocol) {
    const FRAMES: u32 = 4;
    let len = protocol.capabilities.max_payload.min(15 * 1024 * 1024);
    let server = start(protocol.server().send_timeout(PATIENCE)).await;
    let client = connect(protocol.client(&server).send_timeout(PATIENCE)).await;
    let session = only_session(&server).await;
    let mut at_server = server.events();
    let mut at_client = client.events();
    let up = async {
        for number in 0..FRAMES {
            let packet = Packet::echo(number, vec![1; len]);
            client.send(packet).await.expect("sent");
        }
    };
    let down = async {
        for number in 0..FRAMES {
            let packet = Packet::echo(number, vec![2; len]);
            session.send(packet).await.expect("sent");
        }
    };
    let check = async |events: &mut msgtrans::EventStream, byte: u8| {
        for number in 0..FRAMES {
            let packet = next_message(events).await;
            assert_eq!((packet.message_id, packet.payload.len()), (number, len));
            assert_eq!(packet.payload.last(), Some(&byte));
        }
    };
    tokio::join!(up, down, check(&mut at_server, 1), check(&mut at_client, 2));
}

const OWN: Code = Code(1_234);

struct ClosesItself(Log<CloseReason>);

impl Handler for ClosesItself {
    async fn on_message(&self, session: &Session, _: Packet) -> Result<(), HandlerError> {
        session.send(Packet::text("last words")).await?;
        session.close(OWN, "enough");
        Ok(())
    }

    async fn on_request(&self, session: &Session, _: Packet) -> Result<Packet, HandlerError> {
        session.close(OWN, "no answer");
        session.closed().await;
        Ok(Packet::response("never"))
    }

    async fn on_disconnect(&self, _: &Session, reason: &CloseReason) {
        self.0.put(reason.clone());
    }
}

async fn a_handler_closes_its_own_session(protocol: Protocol) {
    let (log, mut seen) = Log::new();
    let server = start(protocol.server().with_handler(ClosesItself(log))).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    client.send("go").await.expect("sent");
    assert_eq!(next_message(&mut events).await.payload, "last words");
    assert_eq!(
        next_close(&mut events).await,
        CloseReason::peer(OWN, "enough")
    );
    assert_eq!(seen.recv().await, Some(CloseReason::local(OWN, "enough")));
}

async fn a_request_handler_closes_its_own_session(protocol: Protocol) {
    let (log, mut seen) = Log::new();
    let server = start(protocol.server().with_handler(ClosesItself(log))).await;
    let client = protocol.connected(&server).await;
    match client.request("go").await {
        Err(RequestError::Closed(reason)) => {
            assert_eq!(reason, CloseReason::peer(OWN, "no answer"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        seen.recv().await,
        Some(CloseReason::local(OWN, "no answer"))
    );
}

/// A handler that knows its server.
struct WithServer {
    server: Arc<OnceLock<TransportServer>>,
    log: Log<&'static str>,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    CloseAndWait,
    Broadcast,
    ShutDown,
}

impl WithServer {
    fn server(&self) -> &TransportServer {
        self.server.get().expect("set before a client connects")
    }

    async fn act(&self, session: &Session) -> Result<(), HandlerError> {
        let _guard = OnDrop(self.log.clone());
        match self.what {
            What::CloseAndWait => {
                self.server().close_session(session).await?;
                session.closed().await;
                self.log.put("unreachable");
            }
            What::Broadcast => {
                self.server().broadcast(Packet::text("to all")).await?;
            }
            What::ShutDown => {
                self.server().shutdown().await;
            }
        }
        Ok(())
    }
}

impl Handler for WithServer {
    async fn on_message(&self, session: &Session, _: Packet) -> Result<(), HandlerError> {
        self.act(session).await
    }

    async fn on_request(&self, session: &Session, request: Packet) -> Result<Packet, HandlerError> {
        self.act(session).await?;
        Ok(Packet::response(request.payload))
    }
}

async fn with_server(
    protocol: &Protocol,
    what: What,
) -> (
    TransportServer,
    tokio::sync::mpsc::UnboundedReceiver<&'static str>,
) {
    let (log, seen) = Log::new();
    let known = Arc::new(OnceLock::new());
    let handler = WithServer {
        server: known.clone(),
        log,
        what,
    };
    let server = start(protocol.server().with_handler(handler)).await;
    known.set(server.clone()).expect("set once");
    (server, seen)
}

async fn a_handler_closes_its_own_session_by_name_and_waits_for_the_end(protocol: Protocol) {
    let (server, mut seen) = with_server(&protocol, What::CloseAndWait).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    client.send("go").await.expect("sent");
    assert_eq!(next_close(&mut events).await.initiator, Initiator::Peer);
    // The handler is dropped where it waits: it is what the end would have waited for.
    assert_eq!(seen.recv().await, Some("dropped"));
}

async fn a_handler_broadcasts_to_itself(protocol: Protocol) {
    let (server, _seen) = with_server(&protocol, What::Broadcast).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    client.send("go").await.expect("sent");
    assert_eq!(next_message(&mut events).await.payload, "to all");
}

async fn a_message_handler_shuts_the_server_down(protocol: Protocol) {
    let (server, _seen) = with_server(&protocol, What::ShutDown).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    client.send("go").await.expect("sent");
    assert_eq!(next_close(&mut events).await.code, Code::GOING_AWAY);
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.sessions, 1);
}

async fn a_request_handler_shuts_the_server_down_and_still_answers(protocol: Protocol) {
    let (server, _seen) = with_server(&protocol, What::ShutDown).await;
    let client = protocol.connected(&server).await;
    let answer = client.request("last question").await.expect("answered");
    assert_eq!(answer.payload, "last question");
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report:?}");
}

async fn a_client_handler_disconnects_its_client(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let client = protocol.client(&server).build().await.expect("valid");
    let own: Arc<OnceLock<TransportClient>> = Default::default();
    let inside = own.clone();
    client.on_message(move |_: SessionId, _| {
        let client = inside.get().cloned();
        async move {
            client.expect("set before").disconnect().await?;
            Ok(())
        }
    });
    own.set(client.clone()).expect("set once");
    client.connect().await.expect("connected");
    let mut events = client.events();
    let session = only_session(&server).await;
    session.send(Packet::text("go away")).await.expect("sent");
    assert_eq!(session.closed().await, CloseReason::peer(Code::NORMAL, ""));
    assert_eq!(next_close(&mut events).await.initiator, Initiator::Local);
    client.disconnect().await.expect("disconnected");
    assert!(!client.is_connected());
}
