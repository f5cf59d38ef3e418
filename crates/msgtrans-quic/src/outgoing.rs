//! [`Outgoing`]: bytes on their way into quinn, and who wants to know when the peer has them.
// Reached by what a peer does: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use msgtrans_transport::{Confirmation, OutboundBatch};

/// Pieces in one write: enough that a write is rarely cut short by it.
const PIECES_MAX: usize = 16;
/// Bytes taken for one write. What quinn does not take of them waits here: the worst case memory of a connection
/// whose peer does not read.
const ROUND_BYTES_MAX: usize = 256 * 1024;
/// The largest piece. A confirmation waits for the whole piece that its packet ends in.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// What has left the session's batch and is not quinn's yet.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    waiting: VecDeque<Bytes>,
    /// Whether an acknowledgement still counts; made by the first confirmation.
    watched: Option<Arc<AtomicBool>>,
}

/// A piece that completes its confirmations once quinn lets go of it, which it does when the peer has acknowledged it.
///
/// quinn drops it while it holds the lock of its connection. Completing is sending on a oneshot channel, which queues
/// the task that waits and runs nothing; quinn wakes tasks under that lock itself.
struct Piece {
    bytes: Bytes,
    confirmations: Vec<Confirmation>,
    watched: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Acquire: pairs with the Release in `Outgoing::forsake`. Whoever drops the connection stores false first, so
        // that a piece which goes with it is no acknowledgement.
        if self.watched.load(Ordering::Acquire) {
            for confirmation in self.confirmations.drain(..) {
                confirmation.complete();
            }
        }
    }
}

impl Outgoing {
    /// Puts bytes that are not the session's in front of everything.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.waiting.push_back(bytes);
    }

    /// The next piece to write, what waited first; `None` when nothing is left.
    pub(crate) fn take(&mut self, from: &mut OutboundBatch) -> Option<Bytes> {
        let piece = self.waiting.pop_front().or_else(|| self.next(from));
        if self.waiting.capacity() > 0 && self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        piece
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self, from: &mut OutboundBatch) -> bool {
        self.waiting.is_empty() && from.bytes_mut().is_empty()
    }

    /// As many pieces as one write takes, behind `first`.
    pub(crate) fn gather(&mut self, first: Bytes, from: &mut OutboundBatch) -> Vec<Bytes> {
        let mut bytes = first.len();
        let mut pieces = Vec::with_capacity(PIECES_MAX);
        pieces.push(first);
        while pieces.len() < PIECES_MAX && bytes < ROUND_BYTES_MAX {
            let Some(piece) = self.take(from) else {
                break;
            };
            bytes = bytes.saturating_add(piece.len());
            pieces.push(piece);
        }
        pieces
    }

    /// The next piece of the batch: a run of small packets in one copy, a large payload as it is.
    fn next(&mut self, from: &mut OutboundBatch) -> Option<Bytes> {
        if from.bytes_mut().is_empty() {
            return None;
        }
        let bytes = from.bytes_mut().take_bytes(PIECE_BYTES_MAX);
        if !from.has_confirmations() {
            return Some(bytes);
        }
        let confirmations = from.take_confirmations();
        if confirmations.is_empty() {
            return Some(bytes);
        }
        let watched = self
            .watched
            .get_or_insert_with(|| Arc::new(AtomicBool::new(true)))
            .clone();
        Some(Bytes::from_owner(Piece {
            bytes,
            confirmations,
            watched,
        }))
    }

    /// Keeps what quinn did not take.
    pub(crate) fn put_back(&mut self, pieces: impl DoubleEndedIterator<Item = Bytes>) {
        for piece in pieces.rev().filter(|piece| piece.has_remaining()) {
            self.waiting.push_front(piece);
        }
    }

    /// From here on nothing is confirmed any more: what quinn lets go of now, it lets go of unacknowledged.
    pub(crate) fn forsake(&self) {
        if let Some(watched) = &self.watched {
            // Release: pairs with the Acquire in `Piece::drop`.
            watched.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use msgtrans_core::{Packet, WireVersion};
    use msgtrans_transport::Framing;

    use super::*;

    fn batch(payloads: impl IntoIterator<Item = Bytes>) -> OutboundBatch {
        let mut batch = OutboundBatch::new(Framing::Frames, WireVersion::V2);
        for payload in payloads {
            batch.push(&Packet::binary(payload)).expect("encodes");
        }
        batch
    }

    fn next_write(from: &mut OutboundBatch) -> Vec<Bytes> {
        let mut outgoing = Outgoing::default();
        let first = outgoing.take(from).expect("a piece");
        outgoing.gather(first, from)
    }

    #[test]
    fn many_small_packets_are_one_piece_of_one_write() {
        let mut batch = batch(vec![Bytes::from_static(&[7; 64]); 100]);
        let pieces = next_write(&mut batch);
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].len(), 100 * (16 + 64));
        assert!(batch.bytes_mut().is_empty());
    }

    #[test]
    fn a_large_payload_leaves_in_chunks_of_its_own_memory() {
        let payload = Bytes::from(vec![7; 1 << 20]);
        let its_own = payload.as_ptr_range();
        let mut batch = batch([payload]);
        let (mut header, mut uncopied) = (0, 0);
        while !batch.bytes_mut().is_empty() {
            let pieces = next_write(&mut batch);
            assert!(
                pieces.iter().map(Bytes::len).sum::<usize>() <= ROUND_BYTES_MAX + PIECE_BYTES_MAX
            );
            for piece in pieces {
                assert!(piece.len() <= PIECE_BYTES_MAX);
                match its_own.contains(&piece.as_ptr()) {
                    true => uncopied += piece.len(),
                    false => header += piece.len(),
                }
            }
        }
        assert_eq!((header, uncopied), (16, 1 << 20));
    }
}
