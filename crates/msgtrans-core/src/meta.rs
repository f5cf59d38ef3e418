//! [`Meta`]: what a v2 packet carries in front of the application's extended header.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::Code;
use crate::error::{DecodeError, EncodeError};
use crate::tlv::{self, tag};

/// Our own fields on a data frame. Dropped on a v1 wire, which has no place for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Meta {
    /// How long the requester waits, in whole milliseconds on the wire; Requests.
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

    pub(crate) fn encode(&self) -> Result<BytesMut, EncodeError> {
        let mut out = BytesMut::new();
        if let Some(code) = self.code {
            tlv::put(&mut out, tag::CODE, &code.0.to_be_bytes());
        }
        if let Some(deadline) = self.deadline {
            let ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
            tlv::put(&mut out, tag::DEADLINE_MS, &ms.to_be_bytes());
        }
        if let Some(traceparent) = &self.traceparent {
            check("traceparent", traceparent.len(), TRACEPARENT_MAX)?;
            tlv::put(&mut out, tag::TRACEPARENT, traceparent.as_bytes());
        }
        if let Some(key) = &self.key {
            check("key", key.len(), KEY_MAX)?;
            tlv::put(&mut out, tag::KEY, key);
        }
        Ok(out)
    }

    pub(crate) fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut meta = Self::default();
        tlv::parse(body, |field| {
            match field.tag {
                tag::CODE => meta.code = Some(Code(field.u16()?)),
                tag::DEADLINE_MS => {
                    meta.deadline = Some(Duration::from_millis(u64::from(field.u32()?)))
                }
                tag::TRACEPARENT => meta.traceparent = Some(field.text(TRACEPARENT_MAX)?),
                tag::KEY if field.value.len() > KEY_MAX => {
                    return Err(DecodeError::TlvLength {
                        tag: field.tag,
                        len: field.value.len(),
                    });
                }
                tag::KEY => meta.key = Some(field.value),
                _ => {}
            }
            Ok(())
        })?;
        Ok(meta)
    }
}

fn check(field: &'static str, len: usize, max: usize) -> Result<(), EncodeError> {
    if len > max {
        Err(EncodeError::MetaTooLong { field, len, max })
    } else {
        Ok(())
    }
}
