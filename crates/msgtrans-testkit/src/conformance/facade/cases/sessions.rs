//! Sessions: who they are, how many, and what reaches all of them.

use std::collections::HashSet;
use std::time::Duration;

use msgtrans::{
    CloseReason, Code, Handler, HandlerError, Packet, PeerAddress, SendErrorKind, Session,
    TransportError, WireVersion,
};

use super::{Case, Protocol, case, connect, next_close, next_message, only_session, start, until};

pub(super) const CASES: &[Case] = &[
    case!(sessions_are_told_apart_by_ids_that_both_sides_know),
    case!(a_session_says_over_what_it_runs_and_to_whom),
    case!(closing_one_session_leaves_the_others),
    case!(messages_of_many_sizes_come_back_in_order),
    case!(requests_of_every_size_are_answered_with_every_field),
    case!(a_broadcast_reaches_every_session_in_order),
];

async fn sessions_are_told_apart_by_ids_that_both_sides_know(protocol: Protocol) {
    const CLIENTS: usize = 8;
    let server = start(protocol.server()).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(protocol.connected(&server).await);
    }
    until(|| server.session_count() == CLIENTS).await;
    let known: HashSet<_> = server.active_sessions().await.into_iter().collect();
    let theirs: HashSet<_> = clients
        .iter()
        .map(|client| client.session_id().expect("connected"))
        .collect();
    assert_eq!(known.len(), CLIENTS);
    assert_eq!(known, theirs);
    for id in known {
        let session = server.session(id).expect("active");
        assert_eq!(session.id(), id);
        assert!(session.is_connected());
    }
}

async fn a_session_says_over_what_it_runs_and_to_whom(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let scheme = server.local_endpoints()[0].scheme().to_owned();
    let client = protocol.connected(&server).await;
    let sessions = [
        client.session().expect("connected"),
        only_session(&server).await,
    ];
    for session in &sessions {
        assert_eq!(session.info().protocol, scheme);
        assert_eq!(session.version(), Some(WireVersion::V2));
        assert!(session.info().since.elapsed().is_ok(), "begins later");
        match &session.info().peer {
            PeerAddress::Socket(address) => assert_ne!(address.port(), 0),
            other => assert!(!other.to_string().is_empty()),
        }
    }
    let [secure, at_server] = sessions.map(|session| session.info().secure);
    assert_eq!(secure, at_server, "one side says that it is encrypted");
}

async fn closing_one_session_leaves_the_others(protocol: Protocol) {
    let server = start(protocol.server().with_handler(Mirror)).await;
    let leaves = protocol.connected(&server).await;
    let stays = protocol.connected(&server).await;
    let mut events = leaves.events();
    until(|| server.session_count() == 2).await;
    let id = leaves.session_id().expect("connected");
    server.close_session(id).await.expect("active");
    let reason = CloseReason::peer(Code::NORMAL, "");
    assert_eq!(next_close(&mut events).await, reason);
    assert!(events.next().await.is_none(), "an event behind the end");
    assert_eq!(leaves.close_reason(), Some(reason));
    until(|| server.session_count() == 1).await;
    assert!(server.session(id).is_none());
    let left = server.active_sessions().await;
    assert_eq!(left, [stays.session_id().expect("connected")]);
    let answer = stays.request("alone?").await.expect("answered");
    assert_eq!(answer.payload, "alone?");
    match server.close_session(id).await {
        Err(TransportError::Send(error)) => assert_eq!(error.kind(), &SendErrorKind::NoSession(id)),
        other => panic!("{other:?}"),
    }
}

/// Sends back what it gets, field by field.
struct Mirror;

impl Handler for Mirror {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session.send(packet).await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload).with_ext_header(request.ext_header))
    }
}

async fn messages_of_many_sizes_come_back_in_order(protocol: Protocol) {
    const MESSAGES: usize = 1_000;
    let payload = |number: usize| vec![number as u8; number * 37 % 5_000];
    let server = start(protocol.server().with_handler(Mirror)).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    let sender = client.clone();
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            let packet = Packet::binary(payload(number)).with_biz_type(number as u8);
            let packet = packet.with_ext_header(number.to_be_bytes().to_vec());
            sender.send(packet).await.expect("sent");
        }
    });
    for number in 0..MESSAGES {
        let echo = next_message(&mut events).await;
        assert_eq!(echo.payload, payload(number));
        assert_eq!(echo.biz_type, number as u8);
        assert_eq!(echo.ext_header, number.to_be_bytes().to_vec());
    }
    sending.await.expect("everything was sent");
}

/// For megabytes on a busy machine without optimisation.
const PATIENCE: Duration = Duration::from_secs(60);

async fn requests_of_every_size_are_answered_with_every_field(protocol: Protocol) {
    let largest = protocol.capabilities.max_payload;
    let builder = protocol.server().request_timeout(PATIENCE);
    let server = start(builder.with_handler(Mirror)).await;
    let builder = protocol.client(&server).request_timeout(PATIENCE);
    let client = connect(builder.with_handler(Mirror)).await;
    let session = only_session(&server).await;
    for size in [0, 1, 15, 4_096, 65_535, 65_536, 1_000_003, largest] {
        let size = size.min(largest);
        let request = || {
            let request = Packet::request(vec![size as u8; size]).with_biz_type(7);
            request.with_ext_header("header")
        };
        let (up, down) = tokio::join!(client.request(request()), session.request(request()));
        for answer in [up, down] {
            let answer = answer.expect("answered");
            assert!(answer.payload == vec![size as u8; size], "{size} bytes");
            assert_eq!(
                (answer.biz_type, answer.ext_header.as_ref()),
                (7, &b"header"[..])
            );
        }
    }
}

async fn a_broadcast_reaches_every_session_in_order(protocol: Protocol) {
    const CLIENTS: usize = 8;
    const MESSAGES: u32 = 100;
    let server = start(protocol.server()).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = protocol.connected(&server).await;
        let events = client.events();
        clients.push((client, events));
    }
    until(|| server.session_count() == CLIENTS).await;
    for number in 0..MESSAGES {
        let packet = Packet::echo(number, vec![4; 1_000]);
        let report = server.broadcast(packet).await.expect("encoded");
        assert_eq!((report.queued, report.full, report.failed), (CLIENTS, 0, 0));
    }
    for (_, events) in &mut clients {
        for number in 0..MESSAGES {
            let packet = next_message(events).await;
            assert_eq!((packet.message_id, packet.payload.len()), (number, 1_000));
        }
    }
}
