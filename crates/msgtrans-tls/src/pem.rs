//! PEM and base64 by hand: writing a section, and the 44 characters of a pin.
//!
//! Reading PEM is `rustls-pki-types`'s work. It cannot write, and a crate for thirty lines lost.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LINE_CHARS: usize = 64;

/// Appends one section, in the strict form of RFC 7468: padded base64 in lines of 64.
pub(crate) fn push_section(out: &mut String, label: &str, der: &[u8]) {
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    // 48 bytes make one line, and whole groups of three: only the last line is padded.
    for line in der.chunks(LINE_CHARS / 4 * 3) {
        push_base64(out, line);
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
}

/// Appends padded base64.
pub(crate) fn push_base64(out: &mut String, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for position in 0..4 {
            if position <= group.len() {
                let index = (bits >> (18 - 6 * position)) & 63;
                out.push(char::from(ALPHABET[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
}

/// Decodes the padded base64 of exactly 32 bytes, in its one canonical spelling.
pub(crate) fn decode_base64_32(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('=')?.as_bytes();
    if digits.len() != 43 {
        return None;
    }
    let mut out = Vec::with_capacity(33);
    let mut bits = 0_u32;
    let mut pending = 0;
    for digit in digits {
        let value = ALPHABET.iter().position(|known| known == digit)?;
        bits = (bits << 6) | value as u32;
        pending += 6;
        if pending >= 8 {
            pending -= 8;
            out.push((bits >> pending) as u8);
            bits &= (1 << pending) - 1;
        }
    }
    // 43 digits are 258 bits; the two over must be zero, or one key would have four spellings.
    if bits != 0 {
        return None;
    }
    out.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base64(bytes: &[u8]) -> String {
        let mut out = String::new();
        push_base64(&mut out, bytes);
        out
    }

    #[test]
    fn base64_matches_the_vectors_of_rfc_4648() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[0xFB, 0xEF, 0xFF]), "++//");
    }

    #[test]
    fn thirty_two_bytes_survive_the_round_trip() {
        for first in [0, 1, 127, 255] {
            let bytes: [u8; 32] = std::array::from_fn(|i| (i as u8).wrapping_mul(37) ^ first);
            assert_eq!(decode_base64_32(&base64(&bytes)), Some(bytes));
        }
    }

    #[test]
    fn other_lengths_alphabets_and_spellings_are_refused() {
        let good = base64(&[0; 32]);
        assert_eq!(good, format!("{}=", "A".repeat(43)));
        for bad in [
            String::new(),
            "=".to_owned(),
            base64(&[0; 31]),
            base64(&[0; 33]),
            good.replace('=', ""),
            good.replacen('A', "-", 1),
            good.replacen('A', "é", 1),
            format!("{}B=", "A".repeat(42)),
        ] {
            assert_eq!(decode_base64_32(&bad), None, "{bad:?}");
        }
    }

    #[test]
    fn lines_are_64_characters_long_and_the_last_may_be_shorter() {
        for (len, lines) in [(0, vec![]), (48, vec![64]), (49, vec![64, 4])] {
            let mut out = String::new();
            push_section(&mut out, "X", &vec![7; len]);
            let body: Vec<usize> = out.lines().map(str::len).collect();
            assert_eq!(body[1..body.len() - 1], lines, "{len} bytes");
            assert!(out.starts_with("-----BEGIN X-----\n"), "{out}");
            assert!(out.ends_with("-----END X-----\n"), "{out}");
        }
    }
}
