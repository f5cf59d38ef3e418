//! Packets that have begun and do not end: cut below the least rate, and never for what this side does not read.

use std::time::Duration;

use msgtrans::TransportServerBuilder;
use msgtrans_testkit::adversary::{Frame, kind};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::stage::{count, row_with};

/// Short enough for a test, long enough that cutting before it shows.
const WINDOW: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(20);

/// 1 000 bytes a second, in windows of one second.
fn strict(builder: TransportServerBuilder) -> TransportServerBuilder {
    builder.min_frame_rate(1_000, WINDOW).send_timeout(WINDOW)
}

/// Writes `step` bytes a tick, until all is written or the peer has had enough.
async fn drip(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8], step: usize) -> bool {
    // A tick that was missed is made up for: a busy machine makes nobody slower on average.
    let mut ticks = interval(TICK);
    for part in bytes.chunks(step) {
        ticks.tick().await;
        if writer.write_all(part).await.is_err() || writer.flush().await.is_err() {
            return false;
        }
    }
    true
}

#[test]
fn a_packet_that_dawdles_is_cut_on_every_protocol_and_one_that_keeps_up_is_not() {
    let peers = count("MSGTRANS_ADVERSARY_SLOW", 5);
    let cut = 7 * peers;
    let report = row_with(strict, &[("timeout", cut)], async |stage| {
        let mut dawdling = JoinSet::new();
        let mut steady = JoinSet::new();
        // 50 bytes a second behind a beginning of 20 000; and 10 000 a second, for three windows.
        let large = Frame::v2(kind::ONE_WAY).payload(vec![7; 1 << 20]);
        let request = Frame::v2(kind::REQUEST).id(1).payload(vec![7; 30_000]);
        for target in stage.targets() {
            let (large, request) = (target.bytes_of(&large), target.bytes_of(&request));
            for _ in 0..peers {
                let mut stream = target.session().await.expect("a session");
                let large = large.clone();
                dawdling.spawn(async move {
                    let begun = Instant::now();
                    let (start, rest) = large.split_at(20_000);
                    stream.write_all(start).await.expect("written");
                    stream.flush().await.expect("flushed");
                    let (mut reader, mut writer) = tokio::io::split(stream);
                    let mut sink = tokio::io::sink();
                    tokio::select! {
                        _ = drip(&mut writer, rest, 1) => {}
                        _ = tokio::io::copy(&mut reader, &mut sink) => {}
                    }
                    begun.elapsed()
                });
            }
            let stream = target.session().await.expect("a session");
            let name = target.name;
            steady.spawn(async move {
                let (mut reader, mut writer) = tokio::io::split(stream);
                assert!(drip(&mut writer, &request, 200).await, "{name} was cut");
                // Silence between packets is nobody's fault either.
                let mut answer = [0; 16];
                let read = tokio::io::AsyncReadExt::read_exact(&mut reader, &mut answer);
                let read = timeout(Duration::from_secs(30), read).await;
                read.expect("answered").expect("open");
            });
        }
        for _ in 0..peers {
            let mut wire = stage.raw("tcp").await;
            let first = Frame::v1(kind::ONE_WAY).payload("first").bytes();
            let large = Frame::v1(kind::ONE_WAY).payload(vec![7; 1 << 20]).bytes();
            dawdling.spawn(async move {
                let begun = Instant::now();
                wire.write(&first).await.expect("written");
                wire.write(&large[..20_000]).await.expect("written");
                let (mut reader, mut writer) = tokio::io::split(wire.stream);
                let mut sink = tokio::io::sink();
                tokio::select! {
                    _ = drip(&mut writer, &large[20_000..], 1) => {}
                    _ = tokio::io::copy(&mut reader, &mut sink) => {}
                }
                begun.elapsed()
            });
        }
        for after in dawdling.join_all().await {
            assert!(after >= WINDOW, "cut after {after:?}");
            assert!(after < WINDOW * 20, "cut after {after:?} only");
        }
        steady.join_all().await;
    });
    assert_eq!(report.rejected("timeout"), cut);
}

#[test]
fn what_a_slow_handler_holds_back_is_not_the_peers_dawdling() {
    let report = row_with(strict, &[], async |stage| {
        let mut wire = stage.session().await;
        let never = Frame::v2(kind::ONE_WAY).payload("never");
        wire.send(&never).await.expect("sent");
        // More than the session reads while its handler is at work: a packet is under way when it stops.
        let message = Frame::v2(kind::ONE_WAY).payload(vec![7; 100_000]).bytes();
        let (mut reader, mut writer) = tokio::io::split(wire.stream);
        let mut answers = vec![0; 1_024];
        let writing = async {
            loop {
                if writer.write_all(&message).await.is_err() {
                    return;
                }
            }
        };
        let reading = async {
            loop {
                match tokio::io::AsyncReadExt::read(&mut reader, &mut answers).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        };
        // Whoever is cut ends one of the two.
        let cut = timeout(WINDOW * 4, async {
            tokio::select! {
                () = writing => {}
                () = reading => {}
            }
        });
        assert!(cut.await.is_err(), "cut for what nobody read");
    });
    assert_eq!(report.rejected("timeout"), 0);
}
