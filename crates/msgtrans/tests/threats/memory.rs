//! More bytes than the process may hold: whoever behaves is served, nobody new comes in, the largest holders go.

use std::time::Duration;

use msgtrans::{Code, Packet, TransportServer, TransportServerBuilder};
use msgtrans_testkit::adversary::{Frame, kind};
use tokio::io::AsyncWriteExt;
use tokio::time::interval;

use crate::stage::{Stage, row_with};

const KIB: usize = 1 << 10;
const BUDGET: usize = 8 << 20;

fn small(builder: TransportServerBuilder) -> TransportServerBuilder {
    // Holders who stand still are what this is about, and on a busy machine they do so for long.
    builder
        .memory_budget(BUDGET)
        .min_frame_rate(1, Duration::from_secs(3_600))
}

/// Until as many bytes are held as `enough` wants. The row's deadline bounds the wait.
async fn until_held(server: &TransportServer, enough: impl Fn(usize) -> bool) {
    let mut ticks = interval(Duration::from_millis(20));
    while !enough(server.sample_process().await.held_bytes) {
        ticks.tick().await;
    }
}

#[test]
fn above_the_memory_budget_nobody_comes_in_and_the_largest_holder_is_cut() {
    let report = row_with(small, &[("overloaded", 1), ("memory", 1)], async |stage| {
        // 33 packets under way of 224 KiB each are more than 90 % and less than 95 % of 8 MiB.
        let packet = Frame::v2(kind::ONE_WAY).payload(vec![7; 4 << 20]);
        let targets = stage.targets();
        let starts: Vec<Vec<u8>> = targets
            .iter()
            .map(|target| target.bytes_of(&packet)[..1_024 * KIB].to_vec())
            .collect();
        let mut holders = Vec::new();
        for number in 0..33 {
            let index = number % targets.len();
            let (target, bytes) = (&targets[index], &starts[index]);
            let mut stream = target.session().await.expect("there is room");
            stream.write_all(&bytes[..225 * KIB]).await.expect("taken");
            stream.flush().await.expect("taken");
            holders.push((stream, bytes));
        }
        until_held(&stage.server, |held| held >= BUDGET / 10 * 9).await;
        let mut late = stage.raw("tcp").await;
        late.send(&Frame::hello()).await.expect("sent");
        let goodbye = late.recv_kind(kind::GOODBYE).await.expect("told");
        assert_eq!(goodbye.code(), Some(Code::OVERLOADED.0));
        late.ended().await.expect("closed");

        // One goes on, and is the largest when too much is held.
        let sessions = stage.server.session_count();
        let (mut largest, bytes) = holders.swap_remove(7);
        // It may be cut before it has said all of this.
        let _ = largest.write_all(&bytes[225 * KIB..]).await;
        let _ = largest.flush().await;
        until_held(&stage.server, |held| held < BUDGET / 10 * 9).await;
        let mut ticks = interval(Duration::from_millis(20));
        while stage.server.session_count() == sessions {
            ticks.tick().await;
        }
        assert_eq!(stage.server.session_count(), sessions - 1);
        assert_eq!(stage.server.stats().rejections.memory, 1);
        // There is room again.
        stage.session().await;
        drop(holders);
        until_held(&stage.server, |held| held == 0).await;
    });
    assert_eq!(report.rejected("overloaded"), 1);
}

#[test]
fn queues_that_nobody_reads_are_within_the_memory_budget() {
    let report = row_with(small, &[("memory", 1)], async |stage: &mut Stage| {
        let ids = |stage: &Stage| {
            let server = stage.server.clone();
            async move { server.active_sessions().await }
        };
        let before = ids(stage).await;
        let mut deaf = Vec::new();
        for target in stage.targets() {
            for _ in 0..4 {
                deaf.push(target.session().await.expect("there is room"));
            }
        }
        let mut peers = ids(stage).await;
        peers.retain(|id| !before.contains(id));
        assert_eq!(peers.len(), deaf.len());
        // Up to 4 MiB each by their own bound, 96 MiB in all.
        let mut ticks = interval(Duration::from_millis(1));
        while stage.server.stats().rejections.memory == 0 {
            for id in &peers {
                if let Some(session) = stage.server.session(*id) {
                    let packet = Packet::binary(vec![7; 60 * KIB]);
                    // Full, or gone: that is what this is about.
                    let _ = session.try_send(packet);
                }
            }
            ticks.tick().await;
        }
        until_held(&stage.server, |held| held < BUDGET / 100 * 95).await;
        drop(deaf);
        until_held(&stage.server, |held| held == 0).await;
    });
    assert!(report.rejected("memory") < 24, "all were cut");
}
