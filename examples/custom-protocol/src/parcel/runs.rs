//! Run-length compression of batches: small, and enough to show where a real one goes.
//!
//! A control byte below 128 stands before as many literal bytes and one more; above, its low seven bits and three more
//! say how often the next byte repeats.

use msgtrans_core::DecodeError;

/// Two bytes say a run, so that shorter ones gain nothing.
const RUN_MIN: usize = 3;
const RUN_MAX: usize = RUN_MIN + 127;
const LITERALS_MAX: usize = 128;

/// Appends `plain` as runs.
pub(super) fn pack(plain: &[u8], out: &mut Vec<u8>) {
    let (mut literals, mut rest) = (plain, plain);
    while let Some(byte) = rest.first() {
        let run = rest
            .iter()
            .take(RUN_MAX)
            .take_while(|next| *next == byte)
            .count();
        if run >= RUN_MIN {
            put_literals(&literals[..literals.len() - rest.len()], out);
            out.extend([0x80 | (run - RUN_MIN) as u8, *byte]);
            literals = &rest[run..];
        }
        rest = &rest[run..];
    }
    put_literals(literals, out);
}

fn put_literals(literals: &[u8], out: &mut Vec<u8>) {
    for chunk in literals.chunks(LITERALS_MAX) {
        out.push((chunk.len() - 1) as u8);
        out.extend_from_slice(chunk);
    }
}

/// Unpacks exactly `len` bytes, which the caller has found reasonable; never gives memory for more.
pub(super) fn unpack(mut packed: &[u8], len: usize) -> Result<Vec<u8>, DecodeError> {
    let wrong = |why: &str| DecodeError::Decompress {
        why: why.to_owned(),
    };
    let mut plain = Vec::with_capacity(len);
    while let Some((control, rest)) = packed.split_first() {
        let control = usize::from(*control);
        let count = if control < 0x80 {
            control + 1
        } else {
            (control & 0x7f) + RUN_MIN
        };
        if plain.len() + count > len {
            return Err(DecodeError::DecompressedTooLarge { max: len });
        }
        if control < 0x80 {
            let literals = rest.get(..count).ok_or_else(|| wrong("cut literals"))?;
            plain.extend_from_slice(literals);
            packed = &rest[count..];
        } else {
            let (byte, rest) = rest.split_first().ok_or_else(|| wrong("a cut run"))?;
            plain.resize(plain.len() + count, *byte);
            packed = rest;
        }
    }
    if plain.len() == len {
        Ok(plain)
    } else {
        Err(wrong("fewer bytes than were promised"))
    }
}
