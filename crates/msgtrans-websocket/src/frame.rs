//! The header of a WebSocket frame: read strictly, written minimally (RFC 6455 section 5.2).
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

use std::fmt;
use std::ops::Deref;

use bytes::BytesMut;

use crate::mask::{apply_mask, next_key};

/// The longest header: two bytes, a 64-bit length, a masking key.
pub const FRAME_HEADER_LEN_MAX: usize = 14;
/// The longest payload of a control frame, in bytes.
pub const CONTROL_PAYLOAD_LEN_MAX: usize = 125;

/// Which end of the connection we are: it decides who masks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// We accepted the connection: what we read must be masked, what we write must not be.
    Server,
    /// We dialled: what we read must not be masked, what we write must be.
    Client,
}

/// What a frame carries. The reserved opcodes have no value here: they are refused when read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OpCode {
    /// A further fragment of the message under way.
    Continuation = 0,
    /// Text, or its first fragment.
    Text = 1,
    /// Binary data, or its first fragment.
    Binary = 2,
    /// The sender will write no more frames.
    Close = 8,
    /// Asks for a pong with the same payload.
    Ping = 9,
    /// Answers a ping, or is sent unasked.
    Pong = 10,
}

impl OpCode {
    /// Whether frames of this kind may stand between the fragments of a message.
    #[inline]
    #[must_use]
    pub fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }

    #[inline]
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }
}

impl fmt::Display for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        })
    }
}

/// A frame header as read from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether this is the message's last frame.
    pub fin: bool,
    /// What the frame carries.
    pub opcode: OpCode,
    /// The key that the payload is masked with; present exactly where the peer is a client.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload behind the header, as claimed.
    pub payload_len: u64,
    /// Bytes of the header itself.
    pub header_len: usize,
}

/// A header that RFC 6455 forbids. Each is answered with close code 1002.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A reserved bit is set, and no extension was agreed that would give it a meaning.
    #[error("reserved bits {bits:#05b} are set and no extension was negotiated")]
    ReservedBits {
        /// RSV1 to RSV3 as a number from 1 to 7.
        bits: u8,
    },
    /// The opcode is one of those kept for later versions.
    #[error("opcode {opcode:#x} is reserved")]
    ReservedOpcode {
        /// 3 to 7 or 11 to 15.
        opcode: u8,
    },
    /// A control frame that says more will follow.
    #[error("{opcode} frame is fragmented")]
    FragmentedControl {
        /// Which of the control frames.
        opcode: OpCode,
    },
    /// A control frame that announces an extended length.
    #[error("{opcode} frame is longer than {CONTROL_PAYLOAD_LEN_MAX} bytes")]
    ControlTooLong {
        /// Which of the control frames.
        opcode: OpCode,
    },
    /// A client sent a frame in the clear.
    #[error("frame from a client is not masked")]
    Unmasked,
    /// A server sent a masked frame.
    #[error("frame from a server is masked")]
    Masked,
    /// The length would have fitted a shorter field.
    #[error("length {len} is written in {width} bytes, which is not the shortest form")]
    LengthNotMinimal {
        /// The length as written.
        len: u64,
        /// Bytes of the extended length field: 2 or 8.
        width: u8,
    },
    /// The most significant bit of a 64-bit length is set.
    #[error("length {len:#x} has its top bit set")]
    LengthTopBit {
        /// The length as written.
        len: u64,
    },
}

impl FrameError {
    /// The close code that tells the peer: always 1002, protocol error.
    #[must_use]
    pub fn close_code(&self) -> u16 {
        1002
    }
}

/// Reads the frame header at the beginning of `bytes`; `None` when it is not all there yet.
///
/// What two bytes can show to be wrong is refused on two bytes.
///
/// # Errors
/// [`FrameError`] names the rule that the header breaks; nothing after it can be trusted.
///
/// Cost: no allocation; the claimed length is checked for its form only, its size is the caller's
/// to limit.
#[inline]
pub fn parse_frame_header(bytes: &[u8], role: Role) -> Result<Option<FrameHeader>, FrameError> {
    let &[first, second, ref rest @ ..] = bytes else {
        // One byte already tells reserved bits and opcodes; a peer that stops there is not served.
        if let &[first] = bytes {
            parse_first(first)?;
        }
        return Ok(None);
    };
    let (fin, opcode) = parse_first(first)?;
    let masked = second & 0x80 != 0;
    match (role, masked) {
        (Role::Server, false) => return Err(FrameError::Unmasked),
        (Role::Client, true) => return Err(FrameError::Masked),
        _ => {}
    }
    let short_len = second & 0x7f;
    if opcode.is_control() && usize::from(short_len) > CONTROL_PAYLOAD_LEN_MAX {
        return Err(FrameError::ControlTooLong { opcode });
    }

    let (payload_len, rest) = match short_len {
        126 => {
            let Some((len, rest)) = rest.split_first_chunk::<2>() else {
                return Ok(None);
            };
            let len = u64::from(u16::from_be_bytes(*len));
            if len < 126 {
                return Err(FrameError::LengthNotMinimal { len, width: 2 });
            }
            (len, rest)
        }
        127 => {
            let Some((len, rest)) = rest.split_first_chunk::<8>() else {
                return Ok(None);
            };
            let len = u64::from_be_bytes(*len);
            if len >> 63 != 0 && !cfg!(msgtrans_planted = "5") {
                return Err(FrameError::LengthTopBit { len });
            }
            if len <= u64::from(u16::MAX) {
                return Err(FrameError::LengthNotMinimal { len, width: 8 });
            }
            (len, rest)
        }
        len => (u64::from(len), rest),
    };
    let (mask, after) = if masked {
        let Some((mask, after)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        (Some(*mask), after)
    } else {
        (None, rest)
    };
    let header_len = bytes.len().saturating_sub(after.len());
    Ok(Some(FrameHeader {
        fin,
        opcode,
        mask,
        payload_len,
        header_len,
    }))
}

/// What the first byte says, if it may say so.
#[inline]
fn parse_first(first: u8) -> Result<(bool, OpCode), FrameError> {
    let bits = (first >> 4) & 0x7;
    if bits != 0 {
        return Err(FrameError::ReservedBits { bits });
    }
    let opcode = first & 0x0f;
    let Some(opcode) = OpCode::from_bits(opcode) else {
        return Err(FrameError::ReservedOpcode { opcode });
    };
    let fin = first & 0x80 != 0;
    if opcode.is_control() && !fin {
        return Err(FrameError::FragmentedControl { opcode });
    }
    Ok((fin, opcode))
}

/// Bytes of the header in front of a payload of `payload_len` bytes.
#[inline]
#[must_use]
pub fn frame_header_len(payload_len: usize, masked: bool) -> usize {
    match (payload_len, masked) {
        (0..=125, false) => 2,
        (0..=125, true) => 6,
        (126..=0xffff, false) => 4,
        (126..=0xffff, true) => 8,
        (_, false) => 10,
        (_, true) => 14,
    }
}

/// A frame header ready to be copied in front of its payload; dereferences to its bytes.
#[derive(Debug, Clone, Copy)]
pub struct EncodedHeader {
    bytes: [u8; FRAME_HEADER_LEN_MAX],
    len: u8,
}

impl Deref for EncodedHeader {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let len = usize::from(self.len);
        self.bytes.get(..len).unwrap_or_default()
    }
}

/// Encodes the header of an unfragmented frame in its shortest form.
///
/// With `mask` the caller masks the payload with the same key, phase 0, after it has been written:
/// [`crate::mask::apply_mask`]. A control frame's payload must not exceed
/// [`CONTROL_PAYLOAD_LEN_MAX`] bytes.
///
/// Cost: no allocation.
#[inline]
#[must_use]
pub fn encode_frame_header(
    opcode: OpCode,
    payload_len: usize,
    mask: Option<[u8; 4]>,
) -> EncodedHeader {
    debug_assert!(!opcode.is_control() || payload_len <= CONTROL_PAYLOAD_LEN_MAX);
    let first = 0x80 | opcode as u8;
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    let [m0, m1, m2, m3] = mask.unwrap_or_default();
    let bytes = match payload_len {
        0..=125 => {
            let second = mask_bit | payload_len as u8;
            [first, second, m0, m1, m2, m3, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        126..=0xffff => {
            let second = mask_bit | 126;
            let [l0, l1] = (payload_len as u16).to_be_bytes();
            [first, second, l0, l1, m0, m1, m2, m3, 0, 0, 0, 0, 0, 0]
        }
        _ => {
            let second = mask_bit | 127;
            let [l0, l1, l2, l3, l4, l5, l6, l7] = (payload_len as u64).to_be_bytes();
            [
                first, second, l0, l1, l2, l3, l4, l5, l6, l7, m0, m1, m2, m3,
            ]
        }
    };
    EncodedHeader {
        bytes,
        len: frame_header_len(payload_len, mask.is_some()) as u8,
    }
}

/// Writes the header of an unfragmented frame at the beginning of `out`; returns its length, which is
/// [`frame_header_len`] of the same arguments.
///
/// # Panics
/// When `out` is shorter than that: the caller reserved it from the same function.
#[inline]
#[expect(
    clippy::indexing_slicing,
    reason = "the panic is documented, and the buffer is the caller's own"
)]
pub fn write_frame_header(
    out: &mut [u8],
    opcode: OpCode,
    payload_len: usize,
    mask: Option<[u8; 4]>,
) -> usize {
    let header = encode_frame_header(opcode, payload_len, mask);
    out[..header.len()].copy_from_slice(&header);
    header.len()
}

/// Appends one unfragmented frame to `out`, masked with a fresh key where `role` is a client's.
///
/// For what is not the hot path: control frames, tests, tools. Packets are encoded in place behind
/// [`encode_frame_header`] instead of being copied here.
pub fn append_frame(out: &mut BytesMut, role: Role, opcode: OpCode, payload: &[u8]) {
    let mask = match role {
        Role::Server => None,
        Role::Client => Some(next_key()),
    };
    let header = encode_frame_header(opcode, payload.len(), mask);
    out.reserve(header.len().saturating_add(payload.len()));
    out.extend_from_slice(&header);
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(key), Some(payload)) = (mask, out.get_mut(start..)) {
        apply_mask(payload, key, 0);
    }
}

/// Appends a Close frame with `code` and `reason`, the latter cut at a character boundary to the 123
/// bytes that a control frame has room for.
pub fn append_close(out: &mut BytesMut, role: Role, code: u16, reason: &str) {
    let reason_len_max = CONTROL_PAYLOAD_LEN_MAX.saturating_sub(2);
    let end = (0..=reason.len().min(reason_len_max))
        .rev()
        .find(|at| reason.is_char_boundary(*at));
    let (reason, _) = reason.split_at(end.unwrap_or(0));
    let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
    append_frame(out, role, OpCode::Close, &payload);
}

#[cfg(test)]
mod tests;
