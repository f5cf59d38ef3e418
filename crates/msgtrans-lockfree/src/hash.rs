//! A hasher for keys that are integers at heart, such as session ids.

use std::hash::{BuildHasherDefault, Hasher};

/// Builds [`KeyHasher`]s; the default hasher of [`LockFreeHashMap`](crate::LockFreeHashMap).
pub type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

/// One multiplication per word, about 1 ns for an integer key where SipHash takes 20 to 35 ns.
///
/// # Limits
/// Not keyed: somebody who chooses the keys can make them collide, and a map then walks long
/// chains. Use it for ids that this side hands out; give the map `std`'s `RandomState` for keys
/// that a peer chooses.
#[derive(Debug, Default, Clone, Copy)]
pub struct KeyHasher {
    state: u64,
}

// 2^64 divided by the golden ratio, made odd: neighbouring integers land far apart in the high bits,
// which are the ones that the map reads.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl KeyHasher {
    #[inline(always)]
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.state.rotate_left(23) ^ word) * u128::from(MULTIPLIER);
        // Folding brings what overflowed back in, so that keys differing only in high bits differ
        // in every bit of the result.
        self.state = (product as u64) ^ ((product >> 64) as u64);
    }
}

impl Hasher for KeyHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.state
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        let rest = chunks.remainder();
        if !rest.is_empty() {
            let mut word = [0; 8];
            word[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(word));
        }
        // The length tells "ab" + "c" from "a" + "bc".
        self.mix(bytes.len() as u64);
    }

    #[inline(always)]
    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n));
    }

    #[inline(always)]
    fn write_u16(&mut self, n: u16) {
        self.mix(u64::from(n));
    }

    #[inline(always)]
    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n));
    }

    #[inline(always)]
    fn write_u64(&mut self, n: u64) {
        self.mix(n);
    }

    #[inline(always)]
    fn write_u128(&mut self, n: u128) {
        self.mix(n as u64);
        self.mix((n >> 64) as u64);
    }

    #[inline(always)]
    fn write_usize(&mut self, n: usize) {
        self.mix(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::{BuildHasher, Hash};

    fn top_bits_used(keys: impl Iterator<Item = u64>) -> usize {
        let build = BuildKeyHasher::default();
        keys.map(|key| build.hash_one(key) >> 54)
            .collect::<HashSet<_>>()
            .len()
    }

    #[test]
    fn sequential_and_shifted_keys_spread_over_the_high_bits() {
        // 1024 keys into 1024 cells at random would fill about 647.
        assert!(top_bits_used(0..1024) > 600);
        for shift in [4, 12, 20, 32, 48, 54] {
            let used = top_bits_used((0..1024).map(|key| key << shift));
            assert!(
                used > 500,
                "keys shifted by {shift} use {used} of 1024 cells"
            );
        }
    }

    #[test]
    fn strings_that_concatenate_alike_hash_differently() {
        let build = BuildKeyHasher::default();
        let hash = |value: (&str, &str)| build.hash_one(Wrapper(value.0, value.1));
        struct Wrapper<'a>(&'a str, &'a str);
        impl Hash for Wrapper<'_> {
            fn hash<H: Hasher>(&self, state: &mut H) {
                state.write(self.0.as_bytes());
                state.write(self.1.as_bytes());
            }
        }
        assert_ne!(hash(("ab", "c")), hash(("a", "bc")));
    }
}
