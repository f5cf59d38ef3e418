//! Bounds in number and in rate: slow consumers, admission, rate limits, full queues.

use std::sync::Arc;
use std::time::Duration;

use msgtrans::{
    Code, ConnectError, ConnectRequest, Handler, HandlerError, Initiator, Limits, Packet,
    RateLimiterConfig, Refusal, SendErrorKind, Session, TransportError,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Case, Protocol, case, connect, needs_large, next_message, start, until};

pub(super) const CASES: &[Case] = &[
    case!(a_slow_consumer_is_cut_while_others_go_on),
    case!(max_connections_holds_however_many_come_at_once),
    case!(a_session_above_max_connections_is_refused_as_overloaded),
    case!(a_peer_above_its_rate_is_slowed_and_loses_nothing),
    case!(a_full_queue_hands_the_packet_back_at_once),
    case!(
        a_packet_above_what_the_peer_takes_is_handed_back,
        needs_large
    ),
    case!(a_peer_that_sends_more_than_it_may_is_cut_alone, needs_large),
];

struct Answers;

impl Handler for Answers {
    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

async fn a_session_above_max_connections_is_refused_as_overloaded(protocol: Protocol) {
    let server = start(protocol.server().max_connections(2)).await;
    let first = protocol.connected(&server).await;
    let _second = protocol.connected(&server).await;
    until(|| server.session_count() == 2).await;
    let third = protocol.client(&server).build().await.expect("valid");
    match third.connect().await {
        Err(TransportError::Connect(error @ ConnectError::Refused { .. })) => {
            assert!(error.is_retryable(), "{error}");
            let ConnectError::Refused { reason, .. } = error else {
                unreachable!()
            };
            assert_eq!(
                (reason.initiator, reason.code),
                (Initiator::Peer, Code::OVERLOADED)
            );
        }
        other => panic!("{other:?}"),
    }
    first.disconnect().await.expect("disconnected");
    until(|| server.session_count() == 1).await;
    third.connect().await.expect("room again");
}

async fn a_slow_consumer_is_cut_while_others_go_on(protocol: Protocol) {
    let builder = protocol
        .server()
        .with_handler(Answers)
        .send_timeout(Duration::from_secs(1));
    let server = start(builder).await;
    let (peer, id) = protocol.opened(&server).await;
    let slow = server.session(id).expect("open");
    let client = protocol.connected(&server).await;
    let flooding = tokio::spawn({
        let slow = slow.clone();
        async move {
            loop {
                let packet = Packet::binary(vec![0; 64 * 1024]);
                if let Err(error) = slow.send(packet).await {
                    return error;
                }
            }
        }
    });
    let mut answered_meanwhile = 0;
    let reason = loop {
        tokio::select! {
            biased;
            reason = slow.closed() => break reason,
            answer = client.request("still there?") => {
                assert_eq!(answer.expect("answered").payload, "still there?");
                answered_meanwhile += usize::from(slow.stats().queued_bytes > 64 * 1024);
            }
        }
    };
    assert_eq!(
        (reason.code, reason.initiator),
        (Code::SLOW_CONSUMER, Initiator::Local)
    );
    assert!(answered_meanwhile > 2, "the other session was held up");
    let error = flooding.await.expect("ran");
    assert!(
        matches!(
            error.kind(),
            SendErrorKind::Closed(_) | SendErrorKind::Timeout(_)
        ),
        "{error:?}"
    );
    assert_eq!(
        error.into_packet().expect("given back").payload.len(),
        64 * 1024
    );
    assert!(slow.stats().queued_bytes <= 4 * 1024 * 1024);
    drop(peer);
}

/// Thinks about everybody until it has a permit for them.
struct Slow(Arc<Semaphore>);

impl Handler for Slow {
    async fn on_connect(&self, _: &Session, _: &ConnectRequest) -> Result<(), Refusal> {
        self.0.acquire().await?.forget();
        Ok(())
    }
}

async fn max_connections_holds_however_many_come_at_once(protocol: Protocol) {
    const COME: usize = 20;
    const MAX: usize = 3;
    let gate = Arc::new(Semaphore::new(0));
    let builder = protocol.server().max_connections(MAX);
    let server = start(builder.with_handler(Slow(gate.clone()))).await;
    let mut coming = tokio::task::JoinSet::new();
    for _ in 0..COME {
        let builder = protocol.client(&server);
        coming.spawn(async move {
            let client = builder.build().await.expect("valid");
            client.connect().await.map(|()| client)
        });
    }
    // All but those that are asked about are refused at once.
    let mut refused = 0;
    while refused < COME - MAX {
        let outcome = coming.join_next().await.expect("one more").expect("ran");
        outcome.expect_err("more than were to be let in");
        refused += 1;
    }
    gate.add_permits(COME);
    let mut open = Vec::new();
    while let Some(outcome) = coming.join_next().await {
        open.push(outcome.expect("ran").expect("let in"));
    }
    assert_eq!(open.len(), MAX);
    until(|| server.session_count() == MAX).await;
}

async fn a_peer_above_its_rate_is_slowed_and_loses_nothing(protocol: Protocol) {
    const MESSAGES: u32 = 150;
    let limit = RateLimiterConfig::new(500, 50);
    let server = start(protocol.server().rate_limiter(limit)).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    let begun = Instant::now();
    for number in 0..MESSAGES {
        client.send(Packet::echo(number, "m")).await.expect("sent");
    }
    for number in 0..MESSAGES {
        assert_eq!(next_message(&mut events).await.message_id, number);
    }
    // 50 at once, then 100 at 500 a second.
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(190),
        "{took:?} for {MESSAGES} messages"
    );
    until(|| server.stats().rate_limited > 0).await;
    assert!(client.is_connected());
}

async fn a_full_queue_hands_the_packet_back_at_once(protocol: Protocol) {
    let builder = protocol.server().session_config(|config| {
        config.inbound_bytes = 1_024;
        config.outbound.items = 4;
    });
    let server = start(builder.with_handler(Stuck)).await;
    let client = connect(protocol.client(&server).outbound_bounds(4, 64 * 1024)).await;
    let error = loop {
        match client.try_send(Packet::binary(vec![1; 16 * 1024])) {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error.kind(), SendErrorKind::Full { .. }),
        "{error:?}"
    );
    assert!(error.is_retryable());
    assert_eq!(
        error.into_packet().expect("given back").payload.len(),
        16 * 1024
    );
    let stats = client.session().expect("open").stats();
    assert!(
        stats.queued <= 4 && stats.queued_bytes <= 64 * 1024 + 4 * 128,
        "{stats:?}"
    );
}

/// Never comes back from its first message.
struct Stuck;

impl Handler for Stuck {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        std::future::pending().await
    }
}

async fn a_packet_above_what_the_peer_takes_is_handed_back(protocol: Protocol) {
    let small = Limits::new(100_000, 1_000).expect("limits");
    let server = start(protocol.server().limits(small)).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    let error = client
        .send(Packet::binary(vec![1; 200_000]))
        .await
        .expect_err("too large");
    assert!(
        matches!(error.kind(), SendErrorKind::Encode(_)),
        "{error:?}"
    );
    assert_eq!(
        error.into_packet().expect("given back").payload.len(),
        200_000
    );
    client
        .send(Packet::binary(vec![1; 100_000]))
        .await
        .expect("sent");
    assert_eq!(next_message(&mut events).await.payload.len(), 100_000);
}

async fn a_peer_that_sends_more_than_it_may_is_cut_alone(protocol: Protocol) {
    let small = Limits::new(100_000, 1_000).expect("limits");
    let server = start(protocol.server().limits(small).with_handler(Answers)).await;
    let client = protocol.connected(&server).await;
    let (mut peer, id) = protocol.opened(&server).await;
    let session = server.session(id).expect("open");
    // The server stops reading at the header.
    let sending = peer.send(Packet::binary(vec![1; 1_000_000]));
    let reason = tokio::select! {
        biased;
        reason = session.closed() => reason,
        _ = async { drop(sending.await); std::future::pending::<()>().await } => unreachable!(),
    };
    assert_eq!(
        (reason.initiator, reason.code),
        (Initiator::Local, Code::TOO_LARGE)
    );
    let answer = client.request("still there?").await.expect("answered");
    assert_eq!(answer.payload, "still there?");
}
