//! Deadlines: what nobody answers, takes or says ends in time, and hands back what it was given.

use std::time::Duration;

use msgtrans::{
    Code, ConnectError, Handler, HandlerError, Packet, RequestError, SendErrorKind, Session,
    TransportError, WireVersions,
};
use tokio::time::Instant;

use super::{Case, Protocol, accept, case, connect, start, until};

pub(super) const CASES: &[Case] = &[
    case!(a_client_that_says_nothing_is_cut_in_time),
    case!(a_server_that_says_nothing_is_given_up_in_time),
    case!(a_send_that_finds_no_room_in_time_gives_the_packet_back),
    case!(a_request_that_finds_no_room_in_time_has_timed_out),
];

const DEADLINE: Duration = Duration::from_millis(200);
/// Timers are coarse.
const LEAST: Duration = Duration::from_millis(150);

async fn a_client_that_says_nothing_is_cut_in_time(protocol: Protocol) {
    let builder = protocol.server().wire(WireVersions::V2);
    let server = start(builder.handshake_timeout(DEADLINE)).await;
    let begun = Instant::now();
    // On a busy machine the time is up before the protocol's own handshake is done.
    if let Ok(mut peer) = protocol.peer(&server).await {
        // However it ends, nothing was said.
        assert!(!matches!(peer.recv().await, Ok(Some(_))));
    }
    assert!(begun.elapsed() >= LEAST, "cut after {:?}", begun.elapsed());
    until(|| server.stats().handshakes_failed == 1).await;
    assert_eq!(server.session_count(), 0);
    assert_eq!(server.stats().sessions_opened, 0);
}

async fn a_server_that_says_nothing_is_given_up_in_time(protocol: Protocol) {
    let mut listener = protocol.listener().await;
    let client = protocol.dial(&listener.local_endpoint());
    let client = client.connect_timeout(DEADLINE).build().await;
    let client = client.expect("valid");
    let begun = Instant::now();
    let silence = async {
        // A handshake may be given up in the middle.
        let held = accept(listener.as_mut()).await;
        std::future::pending::<()>().await;
        drop(held);
    };
    let outcome = tokio::select! {
        outcome = client.connect() => outcome,
        () = silence => unreachable!(),
    };
    match outcome {
        Err(TransportError::Connect(error @ ConnectError::Timeout { after, .. })) => {
            assert_eq!(after, DEADLINE);
            assert!(error.is_retryable());
        }
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() >= LEAST, "after {:?}", begun.elapsed());
    assert!(!client.is_connected());
}

/// Never comes back from its first message.
struct Stuck;

impl Handler for Stuck {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        std::future::pending().await
    }
}

async fn a_send_that_finds_no_room_in_time_gives_the_packet_back(protocol: Protocol) {
    let server = protocol.server().with_handler(Stuck);
    let server = start(server.session_config(|config| config.inbound_bytes = 1_024)).await;
    let builder = protocol.client(&server).outbound_bounds(4, 64 * 1_024);
    let client = connect(builder.send_timeout(DEADLINE)).await;
    let mut number = 0;
    let (error, waited) = loop {
        number += 1;
        let begun = Instant::now();
        let packet = Packet::echo(number, vec![1; 16 * 1_024]);
        if let Err(error) = client.send(packet).await {
            break (error, begun.elapsed());
        }
    };
    match error.kind() {
        SendErrorKind::Timeout(after) => {
            assert_eq!(*after, DEADLINE);
            assert!(waited >= LEAST, "{waited:?}");
        }
        // The write that makes no progress has the same deadline.
        SendErrorKind::Closed(reason) => assert_eq!(reason.code, Code::SLOW_CONSUMER),
        other => panic!("{other:?}"),
    }
    let packet = error.into_packet().expect("given back");
    assert_eq!(
        (packet.message_id, packet.payload.len()),
        (number, 16 * 1_024)
    );
}

async fn a_request_that_finds_no_room_in_time_has_timed_out(protocol: Protocol) {
    let server = protocol.server().with_handler(Stuck);
    let server = start(server.session_config(|config| config.inbound_bytes = 1_024)).await;
    let client = connect(protocol.client(&server).outbound_bounds(4, 64 * 1_024)).await;
    // Until there has been no room for a while.
    let fill = || client.send(vec![1; 16 * 1_024]);
    while tokio::time::timeout(DEADLINE, fill()).await.is_ok() {}
    match client.request_with("?", DEADLINE).await {
        Err(RequestError::Timeout { after }) => assert_eq!(after, DEADLINE),
        other => panic!("{other:?}"),
    }
    let session = client.session().expect("open");
    assert_eq!(session.stats().requests_pending, 0);
}
