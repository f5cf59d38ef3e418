//! [`Input`]: the choices in front of an input, and the pieces in which the rest arrives.

/// A fuzzer's bytes, taken from the front. Where they end, zeros go on.
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    #[cfg(feature = "session")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// How the rest will be cut.
    pub(crate) fn cuts(&mut self) -> Cuts {
        Cuts {
            lens: [self.byte(), self.byte(), self.byte(), self.byte()],
            next: 0,
        }
    }
}

/// Lengths of pieces, over and over: small ones cut inside headers, large ones take several frames at once.
pub(crate) struct Cuts {
    lens: [u8; 4],
    next: usize,
}

impl Cuts {
    /// The length of the next piece, at least 1.
    pub(crate) fn next_len(&mut self) -> usize {
        let len = usize::from(self.lens[self.next % 4]);
        self.next += 1;
        match len {
            0..=127 => len + 1,
            _ => (len - 127) * 64,
        }
    }
}
