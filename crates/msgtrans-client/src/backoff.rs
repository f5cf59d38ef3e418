//! How long to wait before the next attempt: exponential, with full jitter.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use msgtrans_core::ConfigError;

/// The longest delay, unless a base above it asks for more.
const CAP: Duration = Duration::from_secs(30);
/// The longest base and cap that can be asked for.
const MAX: Duration = Duration::from_secs(24 * 3600);

/// Whether and how [`connect`](crate::TransportClient::connect) tries again. Only failures that may pass are tried
/// again: never a refusal for what the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryConfig {
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
}

impl RetryConfig {
    /// One attempt and no more; the default.
    pub fn none() -> Self {
        Self::exponential_backoff(0, Duration::from_millis(100))
    }

    /// Up to `attempts` more than the first, at most 1 000. The delay before each is anywhere between nothing and
    /// `base`, twice `base`, four times … (full jitter), never above the [cap](Self::cap).
    pub fn exponential_backoff(attempts: u32, base: Duration) -> Self {
        let cap = base.max(CAP);
        Self {
            attempts,
            backoff: Backoff { base, cap },
        }
    }

    /// The longest delay; 30 s by default.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.backoff.cap = cap;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.attempts > 1_000 {
            let expected = "must be at most 1000";
            return Err(ConfigError::new(
                "retry_strategy.attempts",
                self.attempts,
                expected,
            ));
        }
        self.backoff.validate("retry_strategy")
    }
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self::none()
    }
}

/// How a lost session is dialled again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconnectConfig {
    pub(crate) backoff: Backoff,
    pub(crate) attempts_max: Option<u32>,
}

impl ReconnectConfig {
    /// For as long as it takes, with full jitter over 100 ms, 200 ms, 400 ms … up to 30 s.
    pub fn new() -> Self {
        let base = Duration::from_millis(100);
        Self {
            backoff: Backoff { base, cap: CAP },
            attempts_max: None,
        }
    }

    /// What the delay before the first attempt is drawn from; 100 ms by default.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.backoff.base = base;
        self
    }

    /// The longest delay; 30 s by default. A server may ask for more.
    #[must_use]
    pub fn cap(mut self, cap: Duration) -> Self {
        self.backoff.cap = cap;
        self
    }

    /// Gives up after so many attempts in a row, from 1; never by default.
    #[must_use]
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = Some(attempts);
        self
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.attempts_max == Some(0) {
            let expected = "must be at least 1; `auto_reconnect(false)` turns it off";
            return Err(ConfigError::new("reconnect.attempts_max", 0, expected));
        }
        self.backoff.validate("reconnect")
    }
}

impl Default for ReconnectConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// Base and cap of an exponential delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// The delay before attempt number `attempt`, from 1: `random` of 2^64 parts of what the attempt may take.
    ///
    /// Full jitter, not half: after a server's restart its clients come back spread over the whole interval.
    pub(crate) fn delay(&self, attempt: u32, random: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let ceiling = self.base.saturating_mul(1 << doublings).min(self.cap);
        let share = (ceiling.as_nanos() * u128::from(random)) >> 64;
        u64::try_from(share).map_or(ceiling, Duration::from_nanos)
    }

    fn validate(&self, field: &str) -> Result<(), ConfigError> {
        let check = |name, value: Duration, min: Duration| {
            if (min..=MAX).contains(&value) {
                return Ok(());
            }
            Err(ConfigError::new(
                format!("{field}.{name}"),
                format_args!("{value:?}"),
                format!("must be from {min:?} to {MAX:?}"),
            ))
        };
        check("base", self.base, Duration::from_millis(1))?;
        check("cap", self.cap, self.base)
    }
}

/// Random numbers for delays: xorshift64*, seeded by what seeds the standard library's maps. Clients that start at the
/// same instant must differ; nothing secret hangs on it.
#[derive(Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    pub(crate) fn new() -> Self {
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
}

#[cfg(test)]
mod tests;
