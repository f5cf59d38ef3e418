//! Heartbeats in real time: who has died is noticed, who is quiet or busy is left alone.

use std::sync::Arc;
use std::time::Duration;

use msgtrans::{Code, Handler, HandlerError, Initiator, Packet, PacketType, Session};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{Case, HEARTBEAT, Log, Protocol, case, connect, next_close, start, until, welcome};

pub(super) const CASES: &[Case] = &[
    case!(heartbeats_notice_a_client_that_has_died waits),
    case!(heartbeats_notice_a_server_that_has_died waits),
    case!(heartbeats_keep_a_quiet_session waits),
    case!(heartbeats_do_not_take_a_busy_peer_for_dead waits),
];

/// Three heartbeats of silence are the end; what lasts longer than that lasts.
const LONG: Duration = HEARTBEAT
    .saturating_mul(3)
    .saturating_add(Duration::from_secs(2));
/// Timers are coarse.
const LEAST: Duration = HEARTBEAT
    .saturating_mul(3)
    .saturating_sub(Duration::from_millis(200));

async fn heartbeats_notice_a_client_that_has_died(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let mut events = server.events();
    let begun = Instant::now();
    let (mut peer, _) = protocol.opened(&server).await;
    let ping = peer.expect().await.expect("a frame");
    assert_eq!(ping.packet_type, PacketType::Ping);
    let reason = next_close(&mut events).await;
    assert_eq!(
        (reason.initiator, reason.code),
        (Initiator::Network, Code::TIMEOUT)
    );
    assert!(begun.elapsed() >= LEAST, "after {:?}", begun.elapsed());
    assert!(server.stats().pings_out >= 2);
}

async fn heartbeats_notice_a_server_that_has_died(protocol: Protocol) {
    let mut listener = protocol.listener().await;
    let client = protocol.dial(&listener.local_endpoint());
    let client = client.heartbeat(HEARTBEAT).build().await.expect("valid");
    let mut events = client.events();
    let begun = Instant::now();
    let (connected, _peer) = tokio::join!(client.connect(), welcome(listener.as_mut()));
    connected.expect("connected");
    let reason = next_close(&mut events).await;
    assert_eq!(
        (reason.initiator, reason.code),
        (Initiator::Network, Code::TIMEOUT)
    );
    assert!(begun.elapsed() >= LEAST, "after {:?}", begun.elapsed());
}

/// Takes messages only while it has permits.
struct Busy {
    permits: Arc<Semaphore>,
    log: Log<u32>,
}

impl Handler for Busy {
    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        self.permits.acquire().await?.forget();
        self.log.put(packet.message_id);
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

async fn heartbeats_keep_a_quiet_session(protocol: Protocol) {
    let permits = Arc::new(Semaphore::new(0));
    let (log, _) = Log::new();
    let server = start(protocol.server().with_handler(Busy { permits, log })).await;
    let client = connect(protocol.client(&server).heartbeat(HEARTBEAT)).await;
    let session = client.session().expect("connected");
    let closed = timeout(LONG, session.closed()).await;
    assert!(closed.is_err(), "closed: {closed:?}");
    let answer = client.request("still there?").await.expect("answered");
    assert_eq!(answer.payload, "still there?");
    // Nothing but heartbeats has passed until then. Counted when the pass is over that has brought the answer.
    until(|| session.stats().packets_in == 1).await;
    assert_eq!(session.stats().packets_out, 1);
}

async fn heartbeats_do_not_take_a_busy_peer_for_dead(protocol: Protocol) {
    const MESSAGES: u32 = 40;
    let permits = Arc::new(Semaphore::new(0));
    let (log, mut seen) = Log::new();
    let busy = Busy {
        permits: permits.clone(),
        log,
    };
    // A write that makes no progress is another matter, and has a deadline of its own.
    let patient = HEARTBEAT * 10;
    let server = protocol.server().with_handler(busy).send_timeout(patient);
    let server = start(server).await;
    let client = protocol.client(&server).heartbeat(HEARTBEAT);
    let client = connect(client.send_timeout(patient)).await;
    let session = client.session().expect("connected");
    // More than the server reads ahead of its handler: pings lie unread with the rest.
    for number in 0..MESSAGES {
        let packet = Packet::echo(number, vec![0; 64 * 1024]);
        client.send(packet).await.expect("sent");
    }
    let closed = timeout(LONG, session.closed()).await;
    assert!(closed.is_err(), "closed: {closed:?}");
    assert_eq!(server.session_count(), 1);
    permits.add_permits(MESSAGES as usize);
    for number in 0..MESSAGES {
        assert_eq!(seen.recv().await, Some(number));
    }
}
