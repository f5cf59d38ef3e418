//! A server's life: figures, draining, shutting down.

use std::sync::Arc;
use std::time::Duration;

use msgtrans::{
    Code, Handler, HandlerError, Initiator, Packet, RequestError, SendErrorKind, Session,
    TransportEvent,
};
use tokio::sync::Semaphore;

use super::{
    Case, Log, OnDrop, Protocol, case, next_close, next_message, only_session, start, until,
};

pub(super) const CASES: &[Case] = &[
    case!(a_shutdown_answers_what_runs_and_tells_the_peers),
    case!(a_shutdown_closes_what_does_not_end_in_time),
    case!(a_server_that_everybody_has_dropped_says_goodbye),
    case!(the_figures_are_true),
    case!(a_send_is_confirmed_by_the_protocol),
];

/// Echoes; hangs where it is told, until it is released.
struct Business {
    log: Log<&'static str>,
    release: Arc<Semaphore>,
}

impl Handler for Business {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session.send(packet).await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        if request.payload == "hang" {
            let _guard = OnDrop(self.log.clone());
            self.log.put("hangs");
            self.release.acquire().await?.forget();
        }
        Ok(Packet::response(request.payload))
    }
}

fn business() -> (
    Business,
    tokio::sync::mpsc::UnboundedReceiver<&'static str>,
    Arc<Semaphore>,
) {
    let (log, seen) = Log::new();
    let release = Arc::new(Semaphore::new(0));
    let business = Business {
        log,
        release: release.clone(),
    };
    (business, seen, release)
}

async fn a_shutdown_answers_what_runs_and_tells_the_peers(protocol: Protocol) {
    let (business, mut seen, release) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    let request = tokio::spawn({
        let client = client.clone();
        async move { client.request("hang").await }
    });
    assert_eq!(seen.recv().await, Some("hangs"));
    let endpoint = server.local_endpoints()[0].clone();
    let stopping = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown().await }
    });
    // The peer hears of it while its request still runs.
    loop {
        match events.next().await.expect("an event") {
            TransportEvent::GoingAway { goodbye, .. } => {
                assert_eq!(goodbye.code, Code::GOING_AWAY);
                break;
            }
            TransportEvent::ConnectionEstablished { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(!stopping.is_finished());
    // Nobody new comes in.
    let late = protocol
        .dial(&endpoint)
        .connect_timeout(Duration::from_millis(500));
    late.build()
        .await
        .expect("valid")
        .connect()
        .await
        .expect_err("nobody listens");
    release.add_permits(1);
    assert_eq!(
        request.await.expect("ran").expect("answered").payload,
        "hang"
    );
    let reason = next_close(&mut events).await;
    assert_eq!(
        (reason.initiator, reason.code),
        (Initiator::Peer, Code::GOING_AWAY)
    );
    let report = stopping.await.expect("ran");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!((report.sessions, report.drained), (1, 1));
    // Once more is the same shutdown.
    assert_eq!(server.shutdown().await, report);
    assert_eq!(server.session_count(), 0);
}

async fn a_shutdown_closes_what_does_not_end_in_time(protocol: Protocol) {
    let (business, mut seen, _release) = business();
    let builder = protocol
        .server()
        .graceful_shutdown(Duration::from_millis(200));
    let server = start(builder.with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let request = tokio::spawn(async move { client.request("hang").await });
    assert_eq!(seen.recv().await, Some("hangs"));
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "{report:?}");
    assert_eq!(
        (report.sessions, report.closed, report.abandoned),
        (1, 1, 0)
    );
    assert_eq!(seen.recv().await, Some("dropped"));
    match request.await.expect("ran") {
        Err(RequestError::Closed(reason)) => assert_eq!(reason.code, Code::GOING_AWAY),
        other => panic!("{other:?}"),
    }
}

async fn a_server_that_everybody_has_dropped_says_goodbye(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    drop(server);
    assert_eq!(next_close(&mut events).await.code, Code::GOING_AWAY);
}

async fn the_figures_are_true(protocol: Protocol) {
    const MESSAGES: u64 = 200;
    const REQUESTS: u64 = 50;
    let (business, _seen, _) = business();
    let server = start(protocol.server().with_handler(business)).await;
    let client = protocol.connected(&server).await;
    let mut events = client.events();
    for _ in 0..MESSAGES {
        // Nothing that a protocol could make shorter.
        let payload: Vec<u8> = (0..100_u8).map(|at| at.wrapping_mul(37)).collect();
        client.send(payload).await.expect("sent");
    }
    for _ in 0..MESSAGES {
        next_message(&mut events).await;
    }
    for _ in 0..REQUESTS {
        client.request("?").await.expect("answered");
    }
    let all = MESSAGES + REQUESTS;
    let session = only_session(&server).await;
    // A pass counts when it is over, a moment after its packets have left.
    until(|| session.stats().packets_out == all).await;
    let stats = session.stats();
    assert_eq!((stats.packets_in, stats.requests_in), (all, REQUESTS));
    assert_eq!(
        (stats.queued, stats.queued_bytes, stats.requests_pending),
        (0, 0, 0)
    );
    let theirs = client.session().expect("open");
    until(|| theirs.stats().packets_in == all).await;
    assert_eq!(theirs.stats().packets_out, all);
    if protocol.capabilities.bytes {
        let least = MESSAGES * 100;
        assert!(
            stats.bytes_in >= least && stats.bytes_out >= least,
            "{stats:?}"
        );
    }
    until(|| server.stats().packets_out == all && server.stats().packets_in == all).await;
    let total = server.stats();
    assert_eq!(
        (total.sessions, total.sessions_opened, total.sessions_closed),
        (1, 1, 0)
    );
    // Where messages come one by one, one pass in eight is measured: of 50 requests in a row some are.
    assert!((1..=all).contains(&total.handling.count), "{total:?}");
    assert!(total.handling.p50 <= total.handling.p99 && total.handling.p99 <= total.handling.max);
    let total = client.stats();
    assert!(
        protocol.may_time(total.round_trip.count, REQUESTS),
        "{total:?}"
    );
    client.disconnect().await.expect("disconnected");
    until(|| server.stats().sessions == 0).await;
    assert_eq!(server.stats().sessions_closed, 1);
    assert_eq!(server.listener_stats().accepted, 1);
}

async fn a_send_is_confirmed_by_the_protocol(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let mut events = server.events();
    let client = protocol.connected(&server).await;
    for number in 0..50 {
        let packet = Packet::echo(number, vec![1; 10_000]);
        client.send_confirmed(packet).await.expect("confirmed");
        assert_eq!(next_message(&mut events).await.message_id, number);
    }
    server.shutdown().await;
    let error = client.send_confirmed("late").await.expect_err("closed");
    // Unconfirmed where the Goodbye was still on its way: queued, and never taken.
    let told = matches!(
        error.kind(),
        SendErrorKind::Closed(_) | SendErrorKind::Unconfirmed
    );
    assert!(told, "{error:?}");
}
