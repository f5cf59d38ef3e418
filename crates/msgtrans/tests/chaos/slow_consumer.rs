//! One client behind a narrow or dead path, and others that must not feel it.

use std::time::Duration;

use msgtrans::{
    Code, Handler, HandlerError, Packet, SendErrorKind, Session, TransportClient, TransportEvent,
};
use msgtrans_testkit::chaos::Direction;
use tokio::time::Instant;

use crate::path::{Path, Protocol, connect, over};

over!(all:
    a_stalled_consumer_is_cut_at_its_deadline_and_the_others_do_not_feel_it,
    a_narrow_path_slows_its_own_client_alone,
);

struct Answer;

impl Handler for Answer {
    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

const ROUND_TRIPS: usize = 200;

/// The median of some round trips.
async fn round_trip(client: &TransportClient) -> Duration {
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        client.request("?").await.expect("answered");
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[ROUND_TRIPS / 2]
}

/// Far apart, because machines are busy; a round trip that waited for the stalled peer would take its deadline.
fn assert_not_hurt(before: Duration, during: Duration) {
    let most = before * 5 + Duration::from_millis(20);
    assert!(during <= most, "{before:?} before, {during:?} beside it");
}

async fn a_stalled_consumer_is_cut_at_its_deadline_and_the_others_do_not_feel_it(
    protocol: Protocol,
) {
    const DEADLINE: Duration = Duration::from_secs(2);
    const QUEUE: usize = 256 * 1024;
    let server = protocol
        .server()
        .with_handler(Answer)
        .session_config(|config| {
            config.send_timeout = DEADLINE;
            config.outbound.bytes = QUEUE;
        });
    let path = Path::to(protocol, server).await;
    let mut events = path.server.events();
    let stalled = connect(path.client()).await;
    let good = connect(path.direct_client()).await;
    let id = stalled.session_id().expect("open");
    let before = round_trip(&good).await;
    path.network.blackhole(Direction::ToClient, true);
    let session = path.server.session(id).expect("open");
    // More than all the buffers on the way hold, for as long as there is a session.
    let flood = tokio::spawn(async move {
        let (mut written, mut last_progress) = (0, Instant::now());
        loop {
            match session.try_send(Packet::binary(vec![7; 16 * 1024])) {
                Err(error) if matches!(error.kind(), SendErrorKind::Closed(_)) => break,
                _ => tokio::task::yield_now().await,
            }
            let stats = session.stats();
            assert!(stats.queued_bytes <= QUEUE);
            if stats.bytes_out != written {
                (written, last_progress) = (stats.bytes_out, Instant::now());
            }
        }
        last_progress
    });
    let during = round_trip(&good).await;
    assert_not_hurt(before, during);
    loop {
        if let TransportEvent::ConnectionClosed { session_id, reason } =
            events.next().await.expect("an event")
        {
            assert_eq!(session_id, id, "{reason}");
            assert_eq!(reason.code, Code::SLOW_CONSUMER, "{reason}");
            break;
        }
    }
    let cut = flood.await.expect("ran").elapsed();
    assert!(cut <= DEADLINE + Duration::from_secs(1), "{cut:?}");
    good.request("?").await.expect("answered");
}

async fn a_narrow_path_slows_its_own_client_alone(protocol: Protocol) {
    let path = Path::to(protocol, protocol.server().with_handler(Answer)).await;
    let narrow = connect(path.client()).await;
    let good = connect(path.direct_client()).await;
    let id = narrow.session_id().expect("open");
    let before = round_trip(&good).await;
    path.network.narrow(Direction::ToClient, 100_000);
    let news = tokio::spawn({
        let server = path.server.clone();
        async move {
            // Whoever has no room does without.
            while server.session(id).is_some() {
                let report = server.broadcast(Packet::binary(vec![1; 4_000])).await;
                report.expect("encoded");
                tokio::task::yield_now().await;
            }
        }
    });
    let during = round_trip(&good).await;
    news.abort();
    assert_not_hurt(before, during);
    // The narrow one is slow, and there.
    assert!(narrow.is_connected());
    path.network.narrow(Direction::ToClient, 1 << 30);
    narrow.request("?").await.expect("answered");
}
