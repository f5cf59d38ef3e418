//! Type-length-value fields: u8 tag, u16 length, value (wire format, section 4).
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

use bytes::Bytes;

use crate::error::DecodeError;

pub(crate) mod tag {
    //! The tags of the wire format.
    pub(crate) const MAX_FRAME: u8 = 1;
    pub(crate) const FEATURES: u8 = 2;
    pub(crate) const HEARTBEAT_MS: u8 = 3;
    pub(crate) const AUTH: u8 = 4;
    pub(crate) const RESUME: u8 = 5;
    pub(crate) const AGENT: u8 = 6;
    pub(crate) const SESSION: u8 = 7;
    pub(crate) const RESUME_TOKEN: u8 = 8;
    pub(crate) const RESUME_WINDOW_MS: u8 = 9;
    pub(crate) const RESUMED: u8 = 10;
    pub(crate) const REPLAY_BYTES: u8 = 11;
    pub(crate) const CODE: u8 = 16;
    pub(crate) const REASON: u8 = 17;
    pub(crate) const RETRY_AFTER_MS: u8 = 18;
    pub(crate) const GO_TO: u8 = 19;
    pub(crate) const DEADLINE_MS: u8 = 21;
    pub(crate) const TRACEPARENT: u8 = 22;
    pub(crate) const KEY: u8 = 23;
}

/// One field of a body.
#[derive(Debug)]
pub(crate) struct Tlv<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
}

impl Tlv<'_> {
    /// The value as exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        <[u8; N]>::try_from(self.value).map_err(|_| self.wrong_length())
    }

    pub(crate) fn u16(&self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// The value in memory of its own, at most `max` bytes: what is kept for long pins no read buffer.
    pub(crate) fn bytes(&self, max: usize) -> Result<Bytes, DecodeError> {
        if self.value.len() > max {
            return Err(self.wrong_length());
        }
        Ok(Bytes::copy_from_slice(self.value))
    }

    /// The value as UTF-8 of at most `max` bytes.
    pub(crate) fn text(&self, max: usize) -> Result<String, DecodeError> {
        if self.value.len() > max {
            return Err(self.wrong_length());
        }
        std::str::from_utf8(self.value)
            .map(str::to_owned)
            .map_err(|_| DecodeError::TlvNotText { tag: self.tag })
    }

    pub(crate) fn wrong_length(&self) -> DecodeError {
        DecodeError::TlvLength {
            tag: self.tag,
            len: self.value.len(),
        }
    }
}

/// Bytes of tag and length in front of each value.
pub(crate) const TLV_HEADER_LEN: usize = 3;

/// Splits `body` into its fields; a duplicate tag and a field that overruns the body are errors. At most 256 fields
/// pass, because tags do not repeat.
pub(crate) fn parse(
    mut body: &[u8],
    mut field: impl FnMut(Tlv<'_>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut seen = [0u64; 4];
    while let Some((&tag, rest)) = body.split_first() {
        let Some((len, rest)) = rest.split_first_chunk::<2>() else {
            return Err(DecodeError::TlvOverrun {
                tag,
                len: TLV_HEADER_LEN,
                left: body.len(),
            });
        };
        let len = usize::from(u16::from_be_bytes(*len));
        #[cfg(msgtrans_planted = "3")]
        let _ = rest.split_at(len);
        let Some((value, rest)) = rest.split_at_checked(len) else {
            return Err(DecodeError::TlvOverrun {
                tag,
                len,
                left: rest.len(),
            });
        };
        let bit = 1u64 << (tag & 63);
        if let Some(word) = seen.get_mut(usize::from(tag >> 6)) {
            if *word & bit != 0 {
                return Err(DecodeError::TlvDuplicate { tag });
            }
            *word |= bit;
        }
        body = rest;
        field(Tlv { tag, value })?;
    }
    Ok(())
}

/// Appends one field. One above 65 535 bytes is cut: the encoder refuses a frame of that size anyway.
pub(crate) fn put(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let (value, _) = value.split_at(value.len().min(usize::from(len)));
    out.push(tag);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests;
