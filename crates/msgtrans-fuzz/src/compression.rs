//! Decompression: bounded whatever the bytes are, and the inverse of compression.

use bytes::Bytes;
use msgtrans_core::{Compression, DecodeError};
use msgtrans_session::fuzzing::{compress, decompress};

use crate::input::Input;

/// zstd.
pub(crate) fn zstd(bytes: &[u8]) {
    codec(Compression::Zstd, bytes);
}

/// zlib.
pub(crate) fn zlib(bytes: &[u8]) {
    codec(Compression::Zlib, bytes);
}

fn codec(algorithm: Compression, bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choice = input.byte();
    let max = usize::from(input.u16()) + 1;
    let body = Bytes::copy_from_slice(input.rest());
    if choice & 1 == 0 {
        if let Ok(out) = decompress(algorithm, &body, max) {
            assert!(out.len() <= max, "{} bytes of at most {max}", out.len());
        }
        return;
    }
    // Repeated, so that it shrinks.
    let plain = Bytes::from(body.repeat(1 + usize::from(choice >> 4)));
    let Some(packed) = compress(algorithm, &plain).expect("compresses") else {
        return;
    };
    assert!(packed.len() < plain.len());
    let whole = decompress(algorithm, &packed, plain.len());
    assert_eq!(whole.expect("decompresses within its size"), plain);
    let short = decompress(algorithm, &packed, plain.len() - 1);
    assert!(
        matches!(short, Err(DecodeError::DecompressedTooLarge { max }) if max == plain.len() - 1),
        "{short:?}"
    );
    let trailing = Bytes::from([&packed[..], &[choice]].concat());
    assert!(
        decompress(algorithm, &trailing, plain.len()).is_err(),
        "bytes behind the end"
    );
}
