//! The opening of a ZMTP 3.0 connection, as a DEALER without security: greeting and READY.

use crate::{Trouble, trouble};

const SIGNATURE: [u8; 10] = [0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f];
const GREETING_LEN: usize = 64;
const COMMAND: u8 = 4;

/// Appends greeting and READY.
pub(crate) fn greet(out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend(SIGNATURE);
    out.extend([3, 0]);
    out.extend(b"NULL");
    out.resize(begin + GREETING_LEN, 0);
    let mut ready = b"\x05READY".to_vec();
    for (name, value) in [("Socket-Type", "DEALER"), ("Identity", "")] {
        ready.push(name.len() as u8);
        ready.extend(name.as_bytes());
        ready.extend((value.len() as u32).to_be_bytes());
        ready.extend(value.as_bytes());
    }
    out.extend([COMMAND, ready.len() as u8]);
    out.extend(ready);
}

/// The length of the server's greeting and READY; `None` while they are incomplete.
pub(crate) fn greeting_len(input: &[u8]) -> Result<Option<usize>, Trouble> {
    let Some([kind, len, body @ ..]) = input.get(GREETING_LEN..) else {
        return Ok(None);
    };
    if input[0] != SIGNATURE[0] || *kind != COMMAND {
        return trouble("this is not ZMTP 3 without security");
    }
    let Some(ready) = body.get(..usize::from(*len)) else {
        return Ok(None);
    };
    if !ready.starts_with(b"\x05READY") {
        return trouble("a ZMTP handshake without READY");
    }
    Ok(Some(GREETING_LEN + 2 + ready.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_opening_is_laid_out_as_zmtp_says() {
        let mut opening = Vec::new();
        greet(&mut opening);
        assert_eq!(opening[..16], *b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0NULL");
        assert_eq!(opening[64..72], *b"\x04\x29\x05READY");
        assert_eq!(opening.len(), 64 + 2 + 0x29);
        assert_eq!(greeting_len(&opening).expect("ours"), Some(opening.len()));
        assert_eq!(greeting_len(&opening[..106]).expect("ours"), None);
        assert!(greeting_len(&[0; 70]).is_err());
    }
}
