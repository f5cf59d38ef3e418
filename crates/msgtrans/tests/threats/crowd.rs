//! One in a hundred does not read, and the ninety-nine beside it must not feel it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use msgtrans::{Code, Packet, Session, TransportServerBuilder};
use msgtrans_testkit::adversary::{Frame, Wire, kind};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use crate::stage::{Stage, count, row_with};

const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// What may be queued for each.
const QUEUE: usize = 256 * 1024;
const ROUNDS: u64 = 50;

/// From when a message was given to the server until each of those who read had it.
#[derive(Clone, Default)]
struct Deliveries {
    came: Arc<AtomicU64>,
    times: Arc<Mutex<Vec<Duration>>>,
}

impl Deliveries {
    fn note(&self, time: Duration) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.push(time);
        self.came.fetch_add(1, Ordering::Release);
    }

    fn take_p99(&self) -> Duration {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.sort_unstable();
        let p99 = times[times.len() * 99 / 100];
        times.clear();
        p99
    }
}

/// Reads messages, each a count of microseconds after `begun`, until the connection ends.
async fn read(mut wire: Wire<TcpStream>, begun: Instant, deliveries: Deliveries) {
    while let Some(frame) = wire.recv().await {
        match frame.packet_type {
            kind::ONE_WAY => {
                let sent = frame.payload[..8].try_into().expect("eight bytes");
                let sent = Duration::from_micros(u64::from_be_bytes(sent));
                deliveries.note(begun.elapsed().saturating_sub(sent));
            }
            kind::PING => {
                let pong = Frame {
                    packet_type: kind::PONG,
                    ..frame
                };
                if wire.send(&pong).await.is_err() {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// Tells all of `sessions` so many messages, one when everybody has had the one before; the 99th percentile.
async fn tell(sessions: &[Session], begun: Instant, deliveries: &Deliveries) -> Duration {
    for _ in 0..ROUNDS {
        let expected = deliveries.came.load(Ordering::Acquire) + sessions.len() as u64;
        let now = u64::try_from(begun.elapsed().as_micros()).expect("not that long");
        for session in sessions {
            let mut payload = now.to_be_bytes().to_vec();
            payload.resize(64, 0);
            session
                .send(Packet::binary(payload))
                .await
                .expect("there is room");
        }
        let mut ticks = interval(Duration::from_millis(1));
        while deliveries.came.load(Ordering::Acquire) < expected {
            ticks.tick().await;
        }
    }
    deliveries.take_p99()
}

/// So many more sessions.
async fn come(stage: &Stage, many: u64) -> (Vec<Wire<TcpStream>>, Vec<Session>) {
    let before: HashSet<_> = stage.server.active_sessions().await.into_iter().collect();
    let mut wires = Vec::new();
    for _ in 0..many {
        wires.push(stage.session().await);
    }
    let mut ids = stage.server.active_sessions().await;
    ids.retain(|id| !before.contains(id));
    assert_eq!(ids.len(), wires.len());
    let sessions = ids.into_iter().filter_map(|id| stage.server.session(id));
    (wires, sessions.collect())
}

/// Gives `session` more than all buffers on the way hold, until it is cut; how long after the last byte went.
async fn flood(session: Session) -> Duration {
    let (mut written, mut since) = (0, Instant::now());
    let mut ticks = interval(Duration::from_millis(5));
    loop {
        while session.try_send(Packet::binary(vec![7; 16 * 1024])).is_ok() {}
        let stats = session.stats();
        assert!(stats.queued_bytes <= QUEUE, "{}", stats.queued_bytes);
        if stats.bytes_out != written {
            (written, since) = (stats.bytes_out, Instant::now());
        }
        if let Some(reason) = session.close_reason() {
            assert_eq!(reason.code, Code::SLOW_CONSUMER, "{reason}");
            return since.elapsed();
        }
        ticks.tick().await;
    }
}

#[test]
fn one_in_a_hundred_that_does_not_read_is_cut_and_the_others_do_not_feel_it() {
    let all = count("MSGTRANS_CROWD_SESSIONS", 200);
    let deaf = (all / 100).max(2);
    let change = |builder: TransportServerBuilder| {
        builder.send_timeout(SEND_TIMEOUT).session_config(|config| {
            config.outbound.bytes = QUEUE;
        })
    };
    let report = row_with(change, &[("slow_consumer", deaf)], async |stage| {
        let begun = Instant::now();
        let deliveries = Deliveries::default();
        let (wires, sessions) = come(stage, all - deaf).await;
        let mut readers = JoinSet::new();
        for wire in wires {
            readers.spawn(read(wire, begun, deliveries.clone()));
        }
        let alone = tell(&sessions, begun, &deliveries).await;
        let (kept, stalled) = come(stage, deaf).await;
        let mut floods = JoinSet::new();
        for session in stalled {
            floods.spawn(flood(session));
        }
        let beside = tell(&sessions, begun, &deliveries).await;
        let mut latest = Duration::ZERO;
        while let Some(cut) = floods.join_next().await {
            latest = latest.max(cut.expect("ran"));
        }
        // Far apart, because machines are busy; a message that waited for the deaf would take their deadline.
        let most = alone * 5 + Duration::from_millis(50);
        assert!(
            beside <= most,
            "p99 {alone:?} alone, {beside:?} beside them"
        );
        #[expect(clippy::print_stdout, reason = "a long run says what it saw")]
        {
            println!(
                "{deaf} of {all} deaf: p99 {alone:?} without them, {beside:?} beside them; cut {latest:?} after the last byte"
            );
        }
        drop(kept);
        for session in &sessions {
            session.close(Code::NORMAL, "done");
        }
        while readers.join_next().await.is_some() {}
    });
    assert_eq!(report.rejected("slow_consumer"), deaf);
}
