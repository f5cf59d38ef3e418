//! Type-length-value fields: u8 tag, u16 length, value (wire format, section 4).

use bytes::{BufMut, Bytes, BytesMut};

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

/// One field; the value shares the frame's buffer.
#[derive(Debug)]
pub(crate) struct Tlv {
    pub(crate) tag: u8,
    pub(crate) value: Bytes,
}

impl Tlv {
    /// The value as exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&self) -> Result<[u8; N], DecodeError> {
        <[u8; N]>::try_from(&self.value[..]).map_err(|_| self.wrong_length())
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

    /// The value as UTF-8 of at most `max` bytes.
    pub(crate) fn text(&self, max: usize) -> Result<String, DecodeError> {
        if self.value.len() > max {
            return Err(self.wrong_length());
        }
        std::str::from_utf8(&self.value)
            .map(str::to_owned)
            .map_err(|_| DecodeError::TlvNotText { tag: self.tag })
    }

    fn wrong_length(&self) -> DecodeError {
        DecodeError::TlvLength {
            tag: self.tag,
            len: self.value.len(),
        }
    }
}

/// Splits `body` into its fields; a duplicate tag and a field that overruns the body are errors.
pub(crate) fn parse(
    mut body: Bytes,
    mut field: impl FnMut(Tlv) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut seen = [0u64; 4];
    while !body.is_empty() {
        if body.len() < 3 {
            return Err(DecodeError::TlvOverrun {
                tag: body[0],
                len: 3,
                left: body.len(),
            });
        }
        let tag = body[0];
        let len = usize::from(u16::from_be_bytes([body[1], body[2]]));
        let mut rest = body.split_off(3);
        if rest.len() < len {
            return Err(DecodeError::TlvOverrun {
                tag,
                len,
                left: rest.len(),
            });
        }
        let (word, bit) = (usize::from(tag >> 6), 1u64 << (tag & 63));
        if seen[word] & bit != 0 {
            return Err(DecodeError::TlvDuplicate { tag });
        }
        seen[word] |= bit;
        body = rest.split_off(len);
        field(Tlv { tag, value: rest })?;
    }
    Ok(())
}

/// Appends one field. Values come from bounded types; one above 65 535 bytes is cut, which no caller can reach.
pub(crate) fn put(out: &mut BytesMut, tag: u8, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.put_u8(tag);
    out.put_u16(value.len() as u16);
    out.put_slice(value);
}
