//! What a pool may hold.

use thiserror::Error;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const LEN_MIN: usize = 64;
const LEN_MAX: usize = 64 * MIB;
const COUNT_MIN: usize = 1;
const COUNT_MAX: usize = 1_000_000;
const SHARDS_MAX: usize = 256;

/// The tiers of a [`BufferPool`](crate::BufferPool) and how it starts.
///
/// | tier | buffers up to | kept at most | memory when all are touched |
/// |---|---|---|---|
/// | small | 1 KiB | 500 | 0.5 MiB |
/// | medium | 64 KiB | 200 | 12.5 MiB |
/// | large | 1 MiB | 50 | 50 MiB |
///
/// The counts bound what is *kept*: a lease beyond them still succeeds and its buffer is freed when
/// it comes back. Nothing is allocated before it is leased, unless [`prewarm`](Self::prewarm) is on.
///
/// ```
/// use msgtrans_mempool::{BufferPool, MemoryPoolConfig};
///
/// let config = MemoryPoolConfig::new().small_count(1_000).large_count(0);
/// let error = BufferPool::new(config).unwrap_err();
/// assert_eq!(error.to_string(), "large_count of 0 is below the minimum of 1");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPoolConfig {
    pub(crate) small_len: usize,
    pub(crate) small_count: usize,
    pub(crate) medium_len: usize,
    pub(crate) medium_count: usize,
    pub(crate) large_len: usize,
    pub(crate) large_count: usize,
    pub(crate) shards: Option<usize>,
    pub(crate) prewarm: bool,
}

impl MemoryPoolConfig {
    /// The defaults of the table above.
    pub const fn new() -> Self {
        Self {
            small_len: KIB,
            small_count: 500,
            medium_len: 64 * KIB,
            medium_count: 200,
            large_len: MIB,
            large_count: 50,
            shards: None,
            prewarm: false,
        }
    }

    /// Bytes of a small buffer: 64 to 64 MiB, 1 KiB by default.
    pub const fn small_len(mut self, bytes: usize) -> Self {
        self.small_len = bytes;
        self
    }

    /// Small buffers kept: 1 to 1,000,000, 500 by default.
    pub const fn small_count(mut self, buffers: usize) -> Self {
        self.small_count = buffers;
        self
    }

    /// Bytes of a medium buffer: more than a small one, at most 64 MiB, 64 KiB by default.
    pub const fn medium_len(mut self, bytes: usize) -> Self {
        self.medium_len = bytes;
        self
    }

    /// Medium buffers kept: 1 to 1,000,000, 200 by default.
    pub const fn medium_count(mut self, buffers: usize) -> Self {
        self.medium_count = buffers;
        self
    }

    /// Bytes of a large buffer: more than a medium one, at most 64 MiB, 1 MiB by default.
    pub const fn large_len(mut self, bytes: usize) -> Self {
        self.large_len = bytes;
        self
    }

    /// Large buffers kept: 1 to 1,000,000, 50 by default.
    pub const fn large_count(mut self, buffers: usize) -> Self {
        self.large_count = buffers;
        self
    }

    /// Free lists per tier: 1 to 256, by default one for each processor.
    pub const fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Whether all buffers are allocated and touched when the pool is made; off by default, so that
    /// an idle program stays small.
    pub const fn prewarm(mut self, prewarm: bool) -> Self {
        self.prewarm = prewarm;
        self
    }

    /// Bytes held when every tier is full.
    pub fn footprint_max(&self) -> usize {
        let tiers = [
            (self.small_len, self.small_count),
            (self.medium_len, self.medium_count),
            (self.large_len, self.large_count),
        ];
        tiers.into_iter().fold(0usize, |sum, (len, count)| {
            sum.saturating_add(len.saturating_mul(count))
        })
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first field out of bounds, with its value and the bound.
    pub fn check(&self) -> Result<(), MemoryPoolConfigError> {
        within("small_len", self.small_len, LEN_MIN, LEN_MAX)?;
        within("medium_len", self.medium_len, self.small_len + 1, LEN_MAX)?;
        within("large_len", self.large_len, self.medium_len + 1, LEN_MAX)?;
        within("small_count", self.small_count, COUNT_MIN, COUNT_MAX)?;
        within("medium_count", self.medium_count, COUNT_MIN, COUNT_MAX)?;
        within("large_count", self.large_count, COUNT_MIN, COUNT_MAX)?;
        if let Some(shards) = self.shards {
            within("shards", shards, 1, SHARDS_MAX)?;
        }
        Ok(())
    }
}

impl Default for MemoryPoolConfig {
    fn default() -> Self {
        Self::new()
    }
}

fn within(
    field: &'static str,
    value: usize,
    min: usize,
    max: usize,
) -> Result<(), MemoryPoolConfigError> {
    if value < min {
        return Err(MemoryPoolConfigError::BelowMinimum { field, value, min });
    }
    if value > max {
        return Err(MemoryPoolConfigError::AboveMaximum { field, value, max });
    }
    Ok(())
}

/// A value of [`MemoryPoolConfig`] that is out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MemoryPoolConfigError {
    /// The value is too small.
    #[error("{field} of {value} is below the minimum of {min}")]
    BelowMinimum {
        /// The knob's name.
        field: &'static str,
        /// What it was set to.
        value: usize,
        /// The least that is accepted.
        min: usize,
    },
    /// The value is too large.
    #[error("{field} of {value} is above the maximum of {max}")]
    AboveMaximum {
        /// The knob's name.
        field: &'static str,
        /// What it was set to.
        value: usize,
        /// The most that is accepted.
        max: usize,
    },
}

#[cfg(all(test, not(msgtrans_loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_checked_and_named() {
        let new = MemoryPoolConfig::new;
        let cases = [
            (
                new().small_len(0),
                "small_len of 0 is below the minimum of 64",
            ),
            (
                new().small_count(0),
                "small_count of 0 is below the minimum of 1",
            ),
            (
                new().medium_len(1024),
                "medium_len of 1024 is below the minimum of 1025",
            ),
            (
                new().medium_count(0),
                "medium_count of 0 is below the minimum of 1",
            ),
            (
                new().large_len(65_536),
                "large_len of 65536 is below the minimum of 65537",
            ),
            (
                new().large_len(usize::MAX),
                "large_len of 18446744073709551615 is above the maximum of 67108864",
            ),
            (
                new().large_count(0),
                "large_count of 0 is below the minimum of 1",
            ),
            (
                new().large_count(1_000_001),
                "large_count of 1000001 is above the maximum of 1000000",
            ),
            (new().shards(0), "shards of 0 is below the minimum of 1"),
            (
                new().shards(257),
                "shards of 257 is above the maximum of 256",
            ),
        ];
        for (config, message) in cases {
            assert_eq!(
                config.check().map_err(|e| e.to_string()),
                Err(message.to_owned())
            );
        }
        assert_eq!(new().check(), Ok(()));
    }
}
