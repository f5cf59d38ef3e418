//! [`OutBuffer`]: encoded bytes on their way out, small parts copied, large payloads shared.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Payloads of at least this many bytes are shared as segments of their own; smaller ones are copied behind their
/// header, so that a burst of small packets is one contiguous write. 4 KiB is where the copy begins to cost more
/// than another slice of a vectored write.
pub const SHARED_PAYLOAD_MIN: usize = 4097;

/// Less than this is not worth moving what stands behind it.
const RECLAIM_MIN: usize = 16 * 1024;

/// A run of bytes to write: copied parts in one vector, shared payloads at positions between them.
///
/// Reading is through [`Buf`]: `chunk`, `chunks_vectored` and `advance`. Positions are absolute counts of bytes, so
/// that a caller can say "when everything up to here is written" ([`pushed`](Self::pushed),
/// [`taken`](Self::taken)).
#[derive(Debug, Default)]
pub struct OutBuffer {
    copied: Vec<u8>,
    read: usize,
    segments: VecDeque<Segment>,
    segment_bytes: usize,
    taken: u64,
}

#[derive(Debug)]
struct Segment {
    /// The index in `copied` in front of which the segment stands.
    at: usize,
    bytes: Bytes,
}

impl OutBuffer {
    /// An empty buffer that holds no memory.
    pub const fn new() -> Self {
        Self {
            copied: Vec::new(),
            read: 0,
            segments: VecDeque::new(),
            segment_bytes: 0,
            taken: 0,
        }
    }

    /// An empty buffer over memory that somebody else had; its content is cleared.
    pub fn from_vec(mut memory: Vec<u8>) -> Self {
        memory.clear();
        Self {
            copied: memory,
            ..Self::new()
        }
    }

    /// Gives the memory back, empty.
    pub fn into_vec(mut self) -> Vec<u8> {
        self.copied.clear();
        self.copied
    }

    /// Copies `bytes` to the end.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
    }

    /// Copies a small frame to the end: a header of known length and the payload, with one look at the room.
    #[inline(always)]
    pub fn put_frame<const N: usize>(&mut self, header: &[u8; N], payload: &[u8]) {
        if self.copied.capacity() - self.copied.len() < N + payload.len() {
            return self.put_grown(*header, payload);
        }
        self.copied.extend_from_slice(header);
        self.copied.extend_from_slice(payload);
    }

    /// The same where there is no room: apart, so that [`put_frame`](Self::put_frame) saves no registers for it. The
    /// header comes by value: by its address it would be stored in memory first, where there is room as well.
    #[cold]
    #[inline(never)]
    fn put_grown<const N: usize>(&mut self, header: [u8; N], payload: &[u8]) {
        self.copied.reserve(N + payload.len());
        self.copied.extend_from_slice(&header);
        self.copied.extend_from_slice(payload);
    }

    /// Adds `bytes`: shared from [`SHARED_PAYLOAD_MIN`] bytes on, copied below.
    #[inline]
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED_PAYLOAD_MIN {
            self.copied.extend_from_slice(bytes);
        } else {
            self.put_shared(bytes.clone());
        }
    }

    /// Adds `bytes` without a copy.
    pub fn put_shared(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.segment_bytes += bytes.len();
            self.segments.push_back(Segment {
                at: self.copied.len(),
                bytes,
            });
        }
    }

    /// The vector behind the copied bytes, to append to.
    #[inline]
    pub(crate) fn copied_mut(&mut self) -> &mut Vec<u8> {
        &mut self.copied
    }

    /// The copied bytes pushed since `from`, which [`copied_len`](Self::copied_len) gave earlier: a framing masks or
    /// patches what it has just written.
    pub fn copied_from_mut(&mut self, from: usize) -> &mut [u8] {
        let from = from.min(self.copied.len());
        &mut self.copied[from..]
    }

    /// A mark for [`copied_from_mut`](Self::copied_from_mut).
    #[inline]
    pub fn copied_len(&self) -> usize {
        self.copied.len()
    }

    /// Bytes not yet taken.
    #[inline]
    pub fn len(&self) -> usize {
        self.copied.len() - self.read + self.segment_bytes
    }

    /// Whether [`Buf::chunk`] is all there is: a plain write does, which costs less than a vectored one.
    #[inline]
    pub fn is_contiguous(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether everything has been taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes pushed since the buffer exists.
    #[inline]
    pub fn pushed(&self) -> u64 {
        self.taken + self.len() as u64
    }

    /// Bytes taken since the buffer exists.
    #[inline]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Memory held for copied bytes.
    pub fn capacity(&self) -> usize {
        self.copied.capacity()
    }

    /// Takes at most `max` bytes as one [`Bytes`]: a shared payload as it is, copied bytes by one more copy into
    /// memory of exactly their size. For protocols that keep what they send.
    pub fn take_bytes(&mut self, max: usize) -> Bytes {
        if let Some(segment) = self
            .segments
            .front_mut()
            .filter(|segment| segment.at == self.read)
        {
            let taken = segment.bytes.split_to(max.min(segment.bytes.len()));
            let done = segment.bytes.is_empty();
            self.segment_bytes -= taken.len();
            self.taken += taken.len() as u64;
            if done {
                self.segments.pop_front();
            }
            self.reclaim();
            return taken;
        }
        let chunk = self.chunk();
        let taken = Bytes::copy_from_slice(&chunk[..max.min(chunk.len())]);
        self.advance(taken.len());
        taken
    }

    /// The contiguous copied run at the read position.
    #[inline]
    fn copied_run(&self) -> &[u8] {
        let end = self
            .segments
            .front()
            .map_or(self.copied.len(), |segment| segment.at);
        &self.copied[self.read..end]
    }

    /// Takes so many bytes, of which some may be segments'.
    #[inline(never)]
    fn advance_segments(&mut self, mut count: usize) {
        while count > 0 {
            match self.segments.front_mut() {
                Some(segment) if segment.at == self.read => {
                    let part = count.min(segment.bytes.len());
                    segment.bytes.advance(part);
                    self.segment_bytes -= part;
                    count -= part;
                    if segment.bytes.is_empty() {
                        self.segments.pop_front();
                    }
                }
                _ => {
                    let part = count.min(self.copied_run().len());
                    self.read += part;
                    count -= part;
                }
            }
        }
        self.reclaim();
    }

    /// Lets go of what has been taken: at once where nothing is left, else once it is the larger part, so that a
    /// buffer that never runs empty does not grow for ever and each byte is moved at most once.
    fn reclaim(&mut self) {
        if self.segments.is_empty() && self.read == self.copied.len() {
            self.copied.clear();
            self.read = 0;
        } else if self.read >= RECLAIM_MIN && self.read >= self.copied.len() / 2 {
            self.copied.drain(..self.read);
            for segment in &mut self.segments {
                segment.at -= self.read;
            }
            self.read = 0;
        }
    }
}

impl Buf for OutBuffer {
    #[inline]
    fn remaining(&self) -> usize {
        self.len()
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        match self.segments.front() {
            Some(segment) if segment.at == self.read => &segment.bytes,
            _ => self.copied_run(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut at = self.read;
        let parts = self.segments.iter().flat_map(|segment| {
            let copied = &self.copied[at..segment.at];
            at = segment.at;
            [copied, &segment.bytes]
        });
        // Stops at the last slice: a long queue is not walked for each write.
        let mut filled = 0;
        for (slice, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            filled += 1;
        }
        let last = self.segments.back().map_or(self.read, |segment| segment.at);
        let tail = &self.copied[last..];
        if let Some(slice) = slices.get_mut(filled).filter(|_| !tail.is_empty()) {
            *slice = IoSlice::new(tail);
            filled += 1;
        }
        filled
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        assert!(
            count <= self.len(),
            "advanced by {count} bytes of {}",
            self.len()
        );
        self.taken += count as u64;
        if !self.segments.is_empty() {
            return self.advance_segments(count);
        }
        self.read += count;
        if self.read == self.copied.len() {
            // Nearly always: what was written was all there is.
            self.copied.clear();
            self.read = 0;
        } else {
            self.reclaim();
        }
    }
}

#[cfg(test)]
mod tests;
