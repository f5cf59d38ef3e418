//! Delays grow, stay under the cap, and differ.

use super::*;

const MS: Duration = Duration::from_millis(1);

fn backoff() -> Backoff {
    Backoff {
        base: 100 * MS,
        cap: 30_000 * MS,
    }
}

#[test]
fn the_ceiling_doubles_up_to_the_cap() {
    let almost = |attempt| {
        let delay = backoff().delay(attempt, u64::MAX);
        (delay.as_secs_f64() * 1000.0).round()
    };
    assert_eq!(
        [1, 2, 3, 9, 10].map(almost),
        [100.0, 200.0, 400.0, 25_600.0, 30_000.0]
    );
    assert_eq!(almost(u32::MAX), 30_000.0);
}

#[test]
fn jitter_reaches_down_to_nothing() {
    for attempt in [0, 1, 7, u32::MAX] {
        assert_eq!(backoff().delay(attempt, 0), Duration::ZERO);
    }
    assert_eq!(backoff().delay(1, 1 << 63), 50 * MS);
}

#[test]
fn a_base_at_the_bound_does_not_overflow() {
    let backoff = Backoff {
        base: MAX,
        cap: MAX,
    };
    assert!(backoff.delay(u32::MAX, u64::MAX) <= MAX);
}

#[test]
fn drawn_delays_spread_over_the_interval() {
    let mut jitter = Jitter::new();
    let mut quarters = [0_u32; 4];
    for _ in 0..4_000 {
        let delay = backoff().delay(1, jitter.next());
        quarters[usize::try_from(delay.as_millis() / 25).unwrap_or(3).min(3)] += 1;
    }
    // 1 000 each; 200 off is beyond 7 standard deviations.
    assert!(
        quarters.iter().all(|count| (800..1_200).contains(count)),
        "{quarters:?}"
    );
}

#[test]
fn settings_out_of_bounds_are_named() {
    fn check(outcome: Result<(), ConfigError>, field: &str) {
        assert_eq!(outcome.expect_err("refused").field(), field);
    }
    check(
        RetryConfig::exponential_backoff(1_001, MS).validate(),
        "retry_strategy.attempts",
    );
    check(
        RetryConfig::exponential_backoff(1, Duration::ZERO).validate(),
        "retry_strategy.base",
    );
    check(
        RetryConfig::exponential_backoff(1, 2 * MS)
            .cap(MS)
            .validate(),
        "retry_strategy.cap",
    );
    check(
        RetryConfig::exponential_backoff(1, Duration::MAX).validate(),
        "retry_strategy.base",
    );
    check(
        ReconnectConfig::new().attempts_max(0).validate(),
        "reconnect.attempts_max",
    );
    check(
        ReconnectConfig::new().base(40_000 * MS).validate(),
        "reconnect.cap",
    );
    assert!(RetryConfig::none().validate().is_ok());
    assert!(ReconnectConfig::new().validate().is_ok());
}
