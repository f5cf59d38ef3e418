//! Adversarial frames over every stream protocol: thousands here, any number with `cargo xtask adversary --count N`.

use std::time::Duration;

use msgtrans_testkit::adversary::storm;

use crate::stage::{count, row, seed};

/// Connections at a time. Each ends before the next begins, so that ports come back as fast as they go.
const AT_ONCE: usize = 16;
/// The same where millions of frames are asked for: most of a connection's time is the server's wait for its peer's end.
const AT_ONCE_LONG: usize = 96;

#[test]
fn adversarial_frames_end_their_own_connections_and_nothing_else() {
    let frames = count("MSGTRANS_ADVERSARY_COUNT", 50_000);
    let report = row(&[("protocol_error", 1), ("too_large", 1)], async |stage| {
        // The datagram that closes a QUIC connection may be lost: three heartbeats, and some time for a busy machine.
        stage.harness.settle_within(Duration::from_secs(60));
        let begun = std::time::Instant::now();
        let at_once = if frames < 1_000_000 {
            AT_ONCE
        } else {
            AT_ONCE_LONG
        };
        let tally = storm::run(stage.targets(), seed(), frames, at_once)
            .await
            .unwrap_or_else(|what| panic!("{what}"));
        assert!(tally.frames >= frames);
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        #[expect(clippy::print_stdout, reason = "a long run says what it did")]
        {
            println!(
                "{} frames over {} connections, {} of them cut, in {:.1} s: {:.0} frames a minute",
                tally.frames,
                tally.connections,
                tally.cut,
                minutes * 60.0,
                tally.frames as f64 / minutes
            );
        }
    });
    assert!(report.rejected("protocol_error") > report.rejected("too_large"));
}
