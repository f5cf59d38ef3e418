//! A leased buffer: filled by one owner, then shared as `Bytes` until the last slice drops.

use crate::pool::Shared;
use bytes::{Bytes, BytesMut};
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A buffer leased from a [`BufferPool`](crate::BufferPool). Dropping it returns it.
///
/// It starts empty and shows only what was put into it, so nothing of an earlier lease is ever seen.
/// It derefs to those bytes. It never grows beyond [`capacity`](Self::capacity).
pub struct PooledBuf {
    // Neither split nor grown while it belongs to a tier.
    bytes: BytesMut,
    // What of it is lent: a tier's buffers may have a little more than their length.
    capacity: usize,
    home: Home,
}

/// Where a buffer came from. There is one for each lease and it is consumed by the return, so a
/// buffer cannot come back twice.
pub(crate) struct Home {
    pub(crate) pool: Arc<Shared>,
    // `None` when it was too long for every tier.
    pub(crate) tier: Option<usize>,
    pub(crate) shard: usize,
    pub(crate) requested: usize,
}

impl PooledBuf {
    pub(crate) fn new(bytes: BytesMut, capacity: usize, home: Home) -> Self {
        Self {
            bytes,
            capacity,
            home,
        }
    }

    /// How many bytes fit in all: at least as many as were asked for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many more bytes fit.
    pub fn remaining(&self) -> usize {
        self.capacity - self.bytes.len()
    }

    /// Appends as much of `bytes` as fits and says how much that was.
    #[inline]
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.remaining());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Makes `len` bytes visible: new ones are zero, surplus ones are cut off. For callers that fill
    /// a slice, such as a read; [`put`](Self::put) spares the zeroing.
    ///
    /// # Panics
    /// When `len` is above [`capacity`](Self::capacity).
    pub fn resize(&mut self, len: usize) {
        assert!(
            len <= self.capacity(),
            "length of {len} exceeds the capacity of {} bytes",
            self.capacity()
        );
        self.bytes.resize(len, 0);
    }

    /// Forgets what was put in.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The first `len` bytes, to be shared without copying. The buffer returns to the pool when the
    /// last slice of them drops, on whatever thread that is.
    ///
    /// # Panics
    /// When fewer than `len` bytes were put in.
    ///
    /// # Cost
    /// One allocation of about 80 bytes for the shared count.
    pub fn freeze(mut self, len: usize) -> Bytes {
        assert!(
            len <= self.bytes.len(),
            "{len} bytes were asked for and {} were put in",
            self.bytes.len()
        );
        self.bytes.truncate(len);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for PooledBuf {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Deref for PooledBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for PooledBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl io::Write for PooledBuf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.put(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PooledBuf {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.home.pool.put(bytes, &self.home);
    }
}

impl fmt::Debug for PooledBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledBuf")
            .field("len", &self.bytes.len())
            .field("capacity", &self.bytes.capacity())
            .finish()
    }
}
