//! [`RateLimiterConfig`] and the limiter behind it: messages a second with a burst, in one atomic.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use msgtrans_core::ConfigError;
use tokio::time::Instant;

/// So many messages a second, so many at once. Per session, and per address over all its sessions.
///
/// A peer above its rate is slowed, not cut: its session stops reading until the rate allows the next message, so
/// nothing is lost and the peer feels it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimiterConfig {
    rate: u32,
    burst: u32,
    address_rate: Option<(u32, u32)>,
}

impl RateLimiterConfig {
    /// `rate` messages a second, `burst` at once, for each session and for each address together.
    pub fn new(rate: u32, burst: u32) -> Self {
        Self {
            rate,
            burst,
            address_rate: Some((rate, burst)),
        }
    }

    /// Another limit for all sessions of one address together.
    #[must_use]
    pub fn per_address(mut self, rate: u32, burst: u32) -> Self {
        self.address_rate = Some((rate, burst));
        self
    }

    /// No limit for addresses: many users behind one gateway.
    #[must_use]
    pub fn without_address_limit(mut self) -> Self {
        self.address_rate = None;
        self
    }

    /// Checks both numbers of both limits.
    ///
    /// # Errors
    /// Zero, or a rate above a million a second.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let address = self
            .address_rate
            .map(|(rate, burst)| [("address rate", rate), ("address burst", burst)]);
        for (field, value) in [("rate", self.rate), ("burst", self.burst)]
            .into_iter()
            .chain(address.into_iter().flatten())
        {
            if value == 0 || value > 1_000_000 {
                let field = format!("rate_limiter.{field}");
                return Err(ConfigError::new(
                    field,
                    value,
                    "must be from 1 to 1000000 messages",
                ));
            }
        }
        Ok(())
    }

    /// The limiter of one session.
    pub fn session_limiter(&self, start: Instant) -> RateLimiter {
        RateLimiter::new(self.rate, self.burst, start)
    }

    /// The limiter that all sessions of one address share.
    pub fn address_limiter(&self, start: Instant) -> Option<RateLimiter> {
        self.address_rate
            .map(|(rate, burst)| RateLimiter::new(rate, burst, start))
    }
}

/// The generic cell rate algorithm (ITU-T I.371): one number, the theoretical arrival time of the next message.
#[derive(Debug)]
pub struct RateLimiter {
    start: Instant,
    interval_nanos: u64,
    tolerance_nanos: u64,
    /// Nanoseconds since `start`. Relaxed: the number is all there is, it publishes nothing else.
    next: AtomicU64,
}

impl RateLimiter {
    fn new(rate: u32, burst: u32, start: Instant) -> Self {
        let interval_nanos = 1_000_000_000 / u64::from(rate.max(1));
        let tolerance_nanos = interval_nanos * u64::from(burst.saturating_sub(1));
        Self {
            start,
            interval_nanos,
            tolerance_nanos,
            next: AtomicU64::new(0),
        }
    }

    /// Takes one message, or says how long to wait for it.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let now = u64::try_from(now.saturating_duration_since(self.start).as_nanos())
            .unwrap_or(u64::MAX / 2);
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            if next > now + self.tolerance_nanos {
                return Err(Duration::from_nanos(next - now - self.tolerance_nanos));
            }
            let after = next.max(now) + self.interval_nanos;
            match self
                .next
                .compare_exchange_weak(next, after, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(current) => next = current,
            }
        }
    }
}
