//! Page-aligned read memory: kernel copies above 4 KiB fall to a tenth of their speed at unlucky alignments.

const PAGE: usize = 4096;

/// Zeroed bytes that begin on a page.
#[derive(Debug, Default)]
pub struct AlignedBytes {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// Allocates `len` bytes and one page more.
    pub fn new(len: usize) -> Self {
        let memory = vec![0; len + PAGE];
        let start = memory.as_ptr().align_offset(PAGE);
        // `align_offset` may give up (usize::MAX) by contract; an unaligned buffer is slower, not wrong.
        let start = if start > PAGE { 0 } else { start };
        Self { memory, start, len }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }

    /// The bytes, writable.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_begins_on_a_page() {
        for len in [1, 4096, 70_000] {
            let mut buffer = AlignedBytes::new(len);
            assert_eq!(buffer.bytes_mut().len(), len);
            assert_eq!(buffer.bytes().as_ptr() as usize % PAGE, 0);
        }
    }
}
