//! [`Decoder`]: frames out of a byte stream, however it is cut.
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

use std::cell::Cell;

use bytes::{Buf, Bytes, BytesMut};

use crate::codec::{expect_version, packet_of, strip_meta};
use crate::error::DecodeError;
use crate::header::{HEADER_LEN, Header, WireVersion, WireVersions};
use crate::limits::Limits;
use crate::packet::Flags;
use crate::packet_batch::PacketBatch;
use crate::plain::PlainHeader;

/// A frame that still misses at least this many bytes is read straight into its own buffer; with less to come the
/// shared read buffer is cheaper, because it takes what follows in the same system call.
const DIRECT_READ_MIN: usize = 32 * 1024;
/// A frame of which fewer bytes have come is read through the shared buffer, however long it claims to be: a header
/// alone must not cost its receiver a buffer.
const DIRECT_READ_AFTER: usize = 16 * 1024;
/// The least step by which a large frame's own buffer grows; it doubles with what has arrived.
const GROWTH_MIN: usize = 32 * 1024;

/// Makes room for `more` bytes behind what has come of a frame of `total` bytes in all.
pub type MakeRoom = fn(partial: &mut BytesMut, more: usize, total: usize);

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
    /// Where the memory for it comes from.
    make_room: MakeRoom,
    /// What the peer got wrong: nothing behind it is ever looked at.
    failed: Option<Box<DecodeError>>,
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
            make_room,
            failed: None,
        }
    }

    /// Takes the memory for frames in progress from `make_room` instead of the heap.
    #[must_use]
    pub fn with_memory(mut self, make_room: MakeRoom) -> Self {
        self.make_room = make_room;
        self
    }

    /// From here on every frame is of `version` and within `limits`, and a call decodes as many as its budget allows.
    /// A frame that has begun to arrive is checked anew.
    pub fn set_wire(&mut self, version: WireVersion, limits: Limits) {
        self.version = Some(version);
        self.limits = limits;
        self.opened = true;
        if let Some(bytes) = self.partial.first_chunk::<HEADER_LEN>()
            && let Err(error) = self.check(bytes)
        {
            self.fail(error);
        }
    }

    /// Where to read to next. Asked before each read, once everything decodable is decoded.
    #[inline]
    pub fn read_target(&self) -> ReadTarget {
        let received = self.partial.len();
        match self.partial_len.checked_sub(received) {
            Some(missing)
                if missing >= DIRECT_READ_MIN
                    && received >= DIRECT_READ_AFTER
                    && self.chunk.is_empty() =>
            {
                ReadTarget::Direct(missing)
            }
            _ => ReadTarget::Shared,
        }
    }

    /// The buffer of the frame in progress, with room for the next bytes; append at most what
    /// [`read_target`](Self::read_target) said (more is legal and costs a copy).
    ///
    /// Memory: twice what has arrived of the frame plus 64 KiB at most, whatever its header claims, unless
    /// [`with_memory`](Self::with_memory) says otherwise.
    pub fn direct_buffer(&mut self) -> &mut BytesMut {
        let missing = self.partial_len.saturating_sub(self.partial.len());
        // Less room than this is not worth a system call.
        (self.make_room)(
            &mut self.partial,
            missing.min(GROWTH_MIN / 2),
            self.partial_len,
        );
        &mut self.partial
    }

    /// Hands over the next bytes of the stream, and decodes them into `into` at once where they are one plain frame and
    /// nothing else, as nearly all are that a read of a quiet stream brings. What they are not is [`decode`](Self::decode)'s.
    #[inline]
    pub fn push_lone(&mut self, mut bytes: Bytes, into: &mut PacketBatch) {
        if let Some(version) = self.version
            && let Some(header) = bytes.first_chunk()
            && let Some(header) = PlainHeader::parse(header, version)
            && bytes.len().wrapping_sub(HEADER_LEN) == header.payload_len() as usize
            && (1..=self.limits.max_payload()).contains(&header.payload_len())
            && self.is_at_boundary()
        {
            bytes.advance(HEADER_LEN);
            return into.push(header.packet(bytes), version);
        }
        self.push(bytes);
    }

    /// Hands over the next bytes of the stream.
    #[inline]
    pub fn push(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            // Nothing to decode, and nothing of it may keep its buffer.
        } else if self.chunk.is_empty() {
            self.chunk = bytes;
        } else {
            self.join(&bytes);
        }
    }

    /// Only a caller that reads on before it has decoded comes here. Memory that nobody shares is extended in place,
    /// so that many small pushes cost no more than one large one.
    #[cold]
    fn join(&mut self, bytes: &[u8]) {
        let mut joined = std::mem::take(&mut self.chunk)
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        joined.extend_from_slice(bytes);
        self.chunk = joined.freeze();
    }

    /// Decodes frames into `into` until its bytes reach `budget_bytes`, or no whole frame is left.
    ///
    /// At least one frame is decoded whatever the budget. Packets that stand in front of a broken frame are delivered
    /// first: the error comes from the next call, and from every call after it.
    ///
    /// # Errors
    /// Whatever the wire format forbids; the stream cannot be read on.
    #[inline]
    pub fn decode(
        &mut self,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Result<Decoded, DecodeError> {
        // What a lone message's second look at the stream asks: answered where it is asked.
        if self.chunk.is_empty() && self.partial.is_empty() && self.failed.is_none() {
            return Ok(Decoded::Starved);
        }
        self.decode_held(budget_bytes, into)
    }

    #[inline(never)]
    fn decode_held(
        &mut self,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Result<Decoded, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(DecodeError::clone(error));
        }
        let before = into.len();
        loop {
            if into.len() > before && (!self.opened || into.bytes() >= budget_bytes) {
                return Ok(if self.chunk.is_empty() {
                    Decoded::Starved
                } else {
                    Decoded::More
                });
            }
            // Behind a frame that had begun in the read before, or one that is not plain, the plain way goes on.
            if self.starts_plain() {
                self.decode_plain(budget_bytes, into);
                if self.chunk.is_empty() {
                    return Ok(Decoded::Starved);
                }
                if into.len() > before && into.bytes() >= budget_bytes {
                    return Ok(Decoded::More);
                }
            }
            match self.next_frame(into) {
                Ok(true) => {}
                Ok(false) => return Ok(Decoded::Starved),
                Err(error) => {
                    self.fail(error.clone());
                    return if into.len() > before {
                        Ok(Decoded::More)
                    } else {
                        Err(error)
                    };
                }
            }
        }
    }

    /// Whether the stream may end here without cutting a frame.
    pub fn is_at_boundary(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty() && self.failed.is_none()
    }

    /// Bytes held of frames that are not complete or not decoded.
    pub fn held_bytes(&self) -> usize {
        self.chunk.len().saturating_add(self.partial.len())
    }

    /// What has come of a frame whose rest has not, in bytes; `None` between two frames.
    #[inline]
    pub fn incomplete(&self) -> Option<usize> {
        (!self.partial.is_empty()).then_some(self.partial.len())
    }

    /// Remembers the error and lets go of everything behind it.
    #[cold]
    fn fail(&mut self, error: DecodeError) {
        self.failed = Some(Box::new(error));
        self.chunk = Bytes::new();
        self.partial = BytesMut::new();
        self.partial_len = 0;
    }

    /// Whether the plain way may find something at the front.
    #[inline]
    fn starts_plain(&self) -> bool {
        self.opened
            && self.partial.is_empty()
            && self.version.is_some_and(|version| {
                (self.chunk.first_chunk())
                    .is_some_and(|bytes| PlainHeader::parse(bytes, version).is_some())
            })
    }

    /// The run of plain frames at the front: OneWay, Request or Response, uncompressed, without extended header and
    /// flags, whole and within the limits. Anything else is left to [`next_frame`](Self::next_frame), errors included.
    // Apart: the loop has registers for all that it needs, which it would share with everything else that is decoded.
    #[inline(never)]
    fn decode_plain(&mut self, budget_bytes: usize, into: &mut PacketBatch) {
        let Some(version) = self.version else { return };
        let max_payload = self.limits.max_payload();
        let mut chunk = std::mem::take(&mut self.chunk);
        let budget_bytes = budget_bytes.saturating_sub(into.bytes());
        let parse = |bytes: &[u8]| PlainHeader::parse(bytes.first_chunk()?, version);
        let (mut at, mut bytes, mut others) = (0, 0usize, 0usize);
        let mut list = into.lend_list();
        while let Some(header) = parse(chunk.get(at..).unwrap_or_default()) {
            // Within the chunk, as the header is.
            let start = at.wrapping_add(HEADER_LEN);
            let Some(end) = start.checked_add(header.payload_len() as usize) else {
                break;
            };
            if header.payload_len() > max_payload || end > chunk.len() {
                break;
            }
            let payload = if start == end {
                Bytes::new()
            } else if end == chunk.len() {
                // The last frame takes the chunk itself, which saves counting one more holder and one less.
                let mut payload = std::mem::take(&mut chunk);
                payload.advance(start);
                payload
            } else {
                chunk.slice(start..end)
            };
            // Of what lies in one chunk: neither can come near its end.
            bytes = bytes.wrapping_add(header.queued_bytes());
            others = others.wrapping_add(usize::from(!header.is_message()));
            // Made where it belongs: a packet that is pushed is made beside it first, in pieces that its copy has to wait for.
            list.extend(std::iter::once_with(|| Cell::new(header.packet(payload))));
            at = end;
            if bytes >= budget_bytes {
                break;
            }
        }
        into.put_plain(list);
        if at > 0 {
            into.count_plain(bytes, others, version);
        }
        if at < chunk.len() {
            self.chunk = chunk;
            self.chunk.advance(at);
        }
    }

    #[inline(always)]
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
        self.chunk.advance(HEADER_LEN);
        let ext_header = self.take(usize::from(header.ext_header_len));
        let payload = self.take(header.payload_len as usize);
        let packet = packet_of(&header, ext_header, payload);
        if header.flags.contains(Flags::META) {
            into.push(strip_meta(packet)?, header.version);
        } else {
            // Built in place: a packet that passes through a `Result` is copied twice.
            into.push(packet, header.version);
        }
        Ok(true)
    }

    /// Takes the next bytes of the chunk; its end goes with the chunk's own reference, so that nothing pins it.
    #[inline(always)]
    fn take(&mut self, len: usize) -> Bytes {
        if len == 0 && !self.chunk.is_empty() {
            Bytes::new()
        } else if len == self.chunk.len() {
            std::mem::take(&mut self.chunk)
        } else {
            let part = self.chunk.slice(..len);
            self.chunk.advance(len);
            part
        }
    }

    #[cold]
    fn next_from_partial(&mut self, into: &mut PacketBatch) -> Result<bool, DecodeError> {
        if self.partial_len == 0 {
            self.take_into_partial(HEADER_LEN);
            let Some(bytes) = self.partial.first_chunk::<HEADER_LEN>() else {
                return Ok(false);
            };
            self.partial_len = self.check(bytes)?.frame_len();
        }
        self.take_into_partial(self.partial_len);
        let off_by_one = usize::from(cfg!(msgtrans_planted = "2"));
        if self.partial.len() < self.partial_len.saturating_add(off_by_one) {
            return Ok(false);
        }
        if self.partial.len() > self.partial_len {
            // The caller read more into the direct buffer than it was told to: what follows is the next frame's.
            let mut rest = self.partial.split_off(self.partial_len);
            rest.extend_from_slice(&self.chunk);
            self.chunk = rest.freeze();
        }
        self.partial_len = 0;
        let frame = std::mem::take(&mut self.partial).freeze();
        let (packet, version) = crate::codec::decode_exact(frame, self.version, &self.limits)?;
        into.push(packet, version);
        Ok(true)
    }

    /// Moves bytes over until the partial frame has `len` of them, or the chunk none.
    fn take_into_partial(&mut self, len: usize) {
        let missing = len.saturating_sub(self.partial.len());
        let taken = self.chunk.split_to(missing.min(self.chunk.len()));
        (self.make_room)(&mut self.partial, taken.len(), self.partial_len);
        self.partial.extend_from_slice(&taken);
    }

    /// Copies the rest of the chunk out, so that an incomplete frame never pins a read buffer.
    fn keep_partial(&mut self, frame_len: usize) {
        let chunk = std::mem::take(&mut self.chunk);
        (self.make_room)(&mut self.partial, chunk.len(), frame_len);
        self.partial.extend_from_slice(&chunk);
        self.partial_len = frame_len;
    }

    #[inline(always)]
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

/// From the heap: what is needed, and beyond [`GROWTH_MIN`] in steps that double.
fn make_room(partial: &mut BytesMut, more: usize, total: usize) {
    let come = partial.len();
    if partial.capacity().saturating_sub(come) < more {
        let step = if come < DIRECT_READ_AFTER {
            more
        } else {
            come.max(GROWTH_MIN).min(total.saturating_sub(come))
        };
        partial.reserve(step.max(more));
    }
}

#[cfg(test)]
mod tests;
