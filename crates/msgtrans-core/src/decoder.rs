//! [`Decoder`]: frames out of a byte stream, however it is cut.

use bytes::{Buf, Bytes, BytesMut};

use crate::codec::{expect_version, packet_of};
use crate::error::DecodeError;
use crate::header::{HEADER_LEN, Header, WireVersion, WireVersions};
use crate::limits::Limits;
use crate::packet_batch::PacketBatch;

/// A frame that still misses at least this many bytes is read straight into its own buffer; with less to come the
/// shared read buffer is cheaper, because it takes what follows in the same system call.
const DIRECT_READ_MIN: usize = 32 * 1024;
/// The first step by which a large frame's own buffer grows; it doubles from there with what has arrived.
const GROWTH_MIN: usize = 64 * 1024;

/// Where the next bytes of the stream belong.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadTarget {
    /// Into any buffer; hand the bytes over with [`Decoder::push`].
    Shared,
    /// Into [`Decoder::direct_buffer`], at most this many bytes.
    Direct(usize),
}

/// What a call of [`Decoder::decode`] left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// No whole frame is left: read on.
    Starved,
    /// The budget is spent and there is more to decode.
    More,
}

/// Decodes frames incrementally. Holds the bytes of at most one incomplete frame between reads, in memory of their own
/// that grows as they arrive, never by what a header claims.
///
/// Until the first [`set_wire`](Self::set_wire) each call decodes one frame, because it decides how the rest is read.
#[derive(Debug)]
pub struct Decoder {
    accept: WireVersions,
    version: Option<WireVersion>,
    limits: Limits,
    opened: bool,
    /// Bytes that nobody has looked at yet; empty between reads unless a budget ran out.
    chunk: Bytes,
    /// The beginning of one frame.
    partial: BytesMut,
    /// The length of that frame, 0 while its header is incomplete.
    partial_len: usize,
}

impl Decoder {
    /// A decoder at the start of a stream whose first frame must be of a version that `accept` has.
    pub fn new(accept: WireVersions, limits: Limits) -> Self {
        Self {
            accept,
            version: None,
            limits,
            opened: false,
            chunk: Bytes::new(),
            partial: BytesMut::new(),
            partial_len: 0,
        }
    }

    /// From here on every frame is of `version` and within `limits`, and a call decodes as many as its budget allows.
    pub fn set_wire(&mut self, version: WireVersion, limits: Limits) {
        self.version = Some(version);
        self.limits = limits;
        self.opened = true;
    }

    /// Where to read to next. Asked before each read, once everything decodable is decoded.
    #[inline]
    pub fn read_target(&self) -> ReadTarget {
        match self.partial_len.checked_sub(self.partial.len()) {
            Some(missing) if missing >= DIRECT_READ_MIN && self.chunk.is_empty() => {
                ReadTarget::Direct(missing)
            }
            _ => ReadTarget::Shared,
        }
    }

    /// The buffer of the frame in progress, with room for the next bytes; append at most what
    /// [`read_target`](Self::read_target) said.
    pub fn direct_buffer(&mut self) -> &mut BytesMut {
        let missing = self.partial_len.saturating_sub(self.partial.len());
        if self.partial.capacity() == self.partial.len() {
            let grow = self.partial.len().max(GROWTH_MIN).min(missing);
            self.partial.reserve(grow);
        }
        &mut self.partial
    }

    /// Hands over the next bytes of the stream.
    #[inline]
    pub fn push(&mut self, bytes: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = bytes;
        } else {
            // Only a caller that reads on before it has decoded comes here.
            let mut joined = BytesMut::with_capacity(self.chunk.len() + bytes.len());
            joined.extend_from_slice(&self.chunk);
            joined.extend_from_slice(&bytes);
            self.chunk = joined.freeze();
        }
    }

    /// Decodes frames into `into` until its bytes reach `budget_bytes`, or no whole frame is left.
    ///
    /// At least one frame is decoded whatever the budget. Packets that stand in front of a broken frame are delivered
    /// first: the error comes from the next call, and from every call after it.
    ///
    /// # Errors
    /// Whatever the wire format forbids; the stream cannot be read on.
    pub fn decode(
        &mut self,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Result<Decoded, DecodeError> {
        let before = into.len();
        loop {
            if into.len() > before && (!self.opened || into.bytes() >= budget_bytes) {
                return Ok(if self.chunk.is_empty() && !self.partial_is_whole() {
                    Decoded::Starved
                } else {
                    Decoded::More
                });
            }
            match self.next_frame(into) {
                Ok(true) => {}
                Ok(false) => return Ok(Decoded::Starved),
                Err(_) if into.len() > before => return Ok(Decoded::More),
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the stream may end here without cutting a frame.
    pub fn is_at_boundary(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }

    /// Bytes held of frames that are not complete or not decoded.
    pub fn held_bytes(&self) -> usize {
        self.chunk.len() + self.partial.len()
    }

    fn partial_is_whole(&self) -> bool {
        self.partial_len != 0 && self.partial.len() >= self.partial_len
    }

    #[inline]
    fn next_frame(&mut self, into: &mut PacketBatch) -> Result<bool, DecodeError> {
        if !self.partial.is_empty() {
            return self.next_from_partial(into);
        }
        let Some(bytes) = self.chunk.first_chunk::<HEADER_LEN>() else {
            self.keep_partial(0);
            return Ok(false);
        };
        let header = self.check(bytes)?;
        let len = header.frame_len();
        if self.chunk.len() < len {
            self.keep_partial(len);
            return Ok(false);
        }
        // One reference count per frame; the last frame of a chunk takes the chunk's own.
        let frame = if self.chunk.len() == len {
            std::mem::take(&mut self.chunk)
        } else {
            self.chunk.split_to(len)
        };
        into.push(packet_of(&header, frame)?, header.version);
        Ok(true)
    }

    #[cold]
    fn next_from_partial(&mut self, into: &mut PacketBatch) -> Result<bool, DecodeError> {
        if self.partial_len == 0 {
            let missing = HEADER_LEN
                .saturating_sub(self.partial.len())
                .min(self.chunk.len());
            self.take_into_partial(missing);
            let Some(bytes) = self.partial.first_chunk::<HEADER_LEN>() else {
                return Ok(false);
            };
            let bytes = *bytes;
            self.partial_len = self.check(&bytes)?.frame_len();
        }
        let missing = self
            .partial_len
            .saturating_sub(self.partial.len())
            .min(self.chunk.len());
        self.take_into_partial(missing);
        if !self.partial_is_whole() {
            return Ok(false);
        }
        let frame = std::mem::take(&mut self.partial).freeze();
        self.partial_len = 0;
        let (packet, version) = crate::codec::decode_exact(frame, self.version, &self.limits)?;
        into.push(packet, version);
        Ok(true)
    }

    fn take_into_partial(&mut self, count: usize) {
        self.partial.extend_from_slice(&self.chunk[..count]);
        self.chunk.advance(count);
        if self.chunk.is_empty() {
            self.chunk = Bytes::new();
        }
    }

    /// Copies the rest of the chunk out, so that an incomplete frame never pins a read buffer.
    fn keep_partial(&mut self, frame_len: usize) {
        let chunk = std::mem::take(&mut self.chunk);
        if !chunk.is_empty() {
            self.partial = BytesMut::from(&chunk[..]);
        }
        self.partial_len = frame_len;
    }

    #[inline]
    fn check(&self, bytes: &[u8; HEADER_LEN]) -> Result<Header, DecodeError> {
        let header = Header::parse(bytes, &self.limits)?;
        expect_version(header.version, self.version)?;
        if !self.opened && !self.accept.contains(header.version) {
            return Err(DecodeError::VersionRefused {
                version: header.version,
            });
        }
        Ok(header)
    }
}
