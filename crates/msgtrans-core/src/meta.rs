//! [`Meta`]: what a v2 packet carries in front of the application's extended header.
// A peer's bytes pass here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::time::Duration;

use bytes::Bytes;

use crate::Code;
use crate::error::{DecodeError, EncodeError};
use crate::tlv::{self, TLV_HEADER_LEN, tag};

/// Our own fields on a data frame. Dropped on a v1 wire, which has no place for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// How long the requester waits, in whole milliseconds on the wire (rounded up, at most 49 days); Requests.
    pub deadline: Option<Duration>,
    /// W3C trace context, `traceparent` as text.
    pub traceparent: Option<String>,
    /// Conflation key of a OneWay, at most 1 024 bytes.
    pub key: Option<Bytes>,
    /// Why a request failed; Failures.
    pub code: Option<Code>,
}

/// A traceparent is 55 bytes today; later versions may be longer.
const TRACEPARENT_MAX: usize = 256;
const KEY_MAX: usize = 1024;

impl Meta {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long the requester waits.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the trace context.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// Bytes of the fields on the wire.
    pub(crate) fn encoded_len(&self) -> Result<usize, EncodeError> {
        let traceparent = self.traceparent.as_ref().map(String::len);
        let key = self.key.as_ref().map(Bytes::len);
        check("traceparent", traceparent.unwrap_or(0), TRACEPARENT_MAX)?;
        check("key", key.unwrap_or(0), KEY_MAX)?;
        let lens = [
            self.code.map(|_| 2),
            self.deadline.map(|_| 4),
            traceparent,
            key,
        ];
        Ok(lens.into_iter().flatten().fold(0, |sum: usize, len| {
            sum.saturating_add(TLV_HEADER_LEN).saturating_add(len)
        }))
    }

    /// Appends the fields.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        if let Some(code) = self.code {
            tlv::put(out, tag::CODE, &code.0.to_be_bytes());
        }
        if let Some(deadline) = self.deadline {
            tlv::put(out, tag::DEADLINE_MS, &millis_up(deadline).to_be_bytes());
        }
        if let Some(traceparent) = &self.traceparent {
            tlv::put(out, tag::TRACEPARENT, traceparent.as_bytes());
        }
        if let Some(key) = &self.key {
            tlv::put(out, tag::KEY, key);
        }
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut meta = Self::default();
        tlv::parse(body, |field| {
            match field.tag {
                tag::CODE => meta.code = Some(Code(field.u16()?)),
                tag::DEADLINE_MS => {
                    meta.deadline = Some(Duration::from_millis(u64::from(field.u32()?)))
                }
                tag::TRACEPARENT => meta.traceparent = Some(field.text(TRACEPARENT_MAX)?),
                tag::KEY => meta.key = Some(field.bytes(KEY_MAX)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(meta)
    }
}

/// Whole milliseconds, rounded up: a deadline of half a millisecond is not "at once".
fn millis_up(duration: Duration) -> u32 {
    let rest = u128::from(!duration.subsec_nanos().is_multiple_of(1_000_000));
    u32::try_from(duration.as_millis().saturating_add(rest)).unwrap_or(u32::MAX)
}

fn check(field: &'static str, len: usize, max: usize) -> Result<(), EncodeError> {
    if len > max {
        Err(EncodeError::MetaTooLong { field, len, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
