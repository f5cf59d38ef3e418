//! [`ExtHeader`]: the application's own header, out of the way of the packets that have none.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// The application's own header of a packet; reads as a slice of bytes.
///
/// Hardly any packet has one, so it stands behind a pointer: an absent one makes a packet 24 bytes smaller than a
/// [`Bytes`] would, and costs nothing to drop. A present one costs one small allocation. Cloning shares its bytes.
#[derive(Clone, Default)]
pub struct ExtHeader(Option<Box<Bytes>>);

impl ExtHeader {
    /// No header.
    #[inline]
    pub const fn new() -> Self {
        Self(None)
    }

    /// The bytes, empty where there is no header; shares them.
    pub fn to_bytes(&self) -> Bytes {
        self.0.as_deref().cloned().unwrap_or_default()
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        // An empty one is never boxed.
        self.0.is_none()
    }

    /// Bytes of the header.
    #[inline]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |bytes| bytes.len())
    }
}

impl Deref for ExtHeader {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.0.as_deref().map_or(&[], |bytes| bytes)
    }
}

impl AsRef<[u8]> for ExtHeader {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for ExtHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_bytes().fmt(f)
    }
}

impl From<Bytes> for ExtHeader {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Self((!bytes.is_empty()).then(|| Box::new(bytes)))
    }
}

macro_rules! from_bytes {
    ($($source:ty),*) => {$(
        impl From<$source> for ExtHeader {
            fn from(source: $source) -> Self {
                Bytes::from(source).into()
            }
        }
    )*};
}

from_bytes!(&'static str, String, &'static [u8], Vec<u8>);

impl Eq for ExtHeader {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for ExtHeader {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}
