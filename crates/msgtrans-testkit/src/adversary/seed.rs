//! [`Seed`]: numbers that are the same in every run of the same seed.

/// SplitMix64: one state word, any seed is good.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// The stream of numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for part `number` of a run.
    #[must_use]
    pub fn part(&self, number: u64) -> Self {
        Self(self.0 ^ number.wrapping_mul(0xD134_2543_DE82_EF95)).skip()
    }

    fn skip(mut self) -> Self {
        self.next_u64();
        self
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The remainder's bias is far below what a test could notice.
        usize::try_from(self.next_u64() % (bound.max(1) as u64)).unwrap_or_default()
    }

    /// A number from `min` to `max`.
    pub fn between(&mut self, min: usize, max: usize) -> usize {
        min + self.below(max.saturating_sub(min) + 1)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of `of`, which is not empty.
    ///
    /// # Panics
    /// `of` is empty.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.next_u64().to_le_bytes()[0]
    }

    /// As many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
