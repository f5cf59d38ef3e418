//! Masking: XOR with a four-byte key that repeats, in place, a block at a time.
//!
//! RFC 6455 section 5.3 wants every byte from a client XORed with a key that changes per frame. That
//! keeps a hostile script from choosing the exact bytes that a proxy on the way gets to see; it
//! hides nothing from anybody, because the key travels in front of the data.
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
use std::hash::{BuildHasher, RandomState};

/// Bytes per step of the main loop: two SSE2 or one AVX2 register, and the optimiser unrolls it.
const BLOCK: usize = 32;

/// XORs `data` with `key`, beginning at byte `phase` of the key.
///
/// `phase` is the number of payload bytes of the same frame that came before `data`; only its two low
/// bits matter. Masking and unmasking are the same operation.
///
/// Cost: one pass over `data`, no allocation, any alignment.
#[inline]
pub fn apply_mask(data: &mut [u8], key: [u8; 4], phase: usize) {
    // Rotating the key once moves the phase out of the loop.
    let key = u32::from_le_bytes(key).rotate_right((phase as u32 & 3) << 3);
    let word = (u64::from(key) << 32) | u64::from(key);

    let (blocks, rest) = data.as_chunks_mut::<BLOCK>();
    for block in blocks {
        // Whole words instead of bytes: LLVM turns the four XORs into vector ones.
        for lane in block.as_chunks_mut::<8>().0 {
            *lane = (u64::from_le_bytes(*lane) ^ word).to_le_bytes();
        }
    }
    let (words, rest) = rest.as_chunks_mut::<8>();
    for lane in words {
        *lane = (u64::from_le_bytes(*lane) ^ word).to_le_bytes();
    }
    // BLOCK and 8 are multiples of four, so the tail begins at the first byte of the key again.
    for (byte, key) in rest.iter_mut().zip(word.to_le_bytes()) {
        *byte ^= key;
    }
}

/// A masking key for the next frame of a client.
///
/// The generator is SplitMix64, one per thread, seeded from the operating system's randomness
/// through [`RandomState`]. It is not a cryptographic one: masking defends proxies against scripts
/// that choose their own payload, and a program that links this crate can write what it likes to
/// the socket anyway. Secrets never come from here.
///
/// Cost: about a nanosecond; no system call after a thread's first key.
#[must_use]
pub fn next_key() -> [u8; 4] {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0u64));
    }
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        state.set(next);
        let mut mixed = next;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        ((mixed >> 32) as u32).to_ne_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_definition(data: &mut [u8], key: [u8; 4], phase: usize) {
        for (index, byte) in data.iter_mut().enumerate() {
            *byte ^= key[(phase + index) % 4];
        }
    }

    #[test]
    fn equals_the_definition_at_every_alignment_length_and_phase() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..200u8).map(|b| b.wrapping_mul(91)).collect();
        for start in 0..16 {
            for len in 0..=130 {
                for phase in 0..8 {
                    let mut fast = plain.clone();
                    let mut slow = plain.clone();
                    apply_mask(&mut fast[start..start + len], key, phase);
                    by_definition(&mut slow[start..start + len], key, phase);
                    assert_eq!(fast, slow, "start {start}, length {len}, phase {phase}");
                }
            }
        }
    }

    #[test]
    fn masking_in_parts_equals_masking_at_once() {
        let key = [1, 2, 3, 4];
        let mut whole: Vec<u8> = (0..130).collect();
        for cut in 0..=whole.len() {
            let mut parts = whole.clone();
            let (head, tail) = parts.split_at_mut(cut);
            apply_mask(head, key, 0);
            apply_mask(tail, key, cut);
            apply_mask(&mut whole, key, 0);
            assert_eq!(parts, whole, "cut at {cut}");
            apply_mask(&mut whole, key, 0);
        }
    }

    #[test]
    fn keys_differ_from_frame_to_frame_and_from_thread_to_thread() {
        let here: std::collections::HashSet<_> = (0..1_000).map(|_| next_key()).collect();
        assert!(here.len() > 990, "only {} distinct keys", here.len());
        let keys = || (0..4).map(|_| next_key()).collect::<Vec<_>>();
        let there = std::thread::spawn(keys)
            .join()
            .expect("no panic in the thread");
        assert_ne!(there, keys());
    }
}
