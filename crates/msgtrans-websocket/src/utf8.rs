//! UTF-8 checked piece by piece, failing at the first byte that no continuation can save.
// A peer's bytes pass here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

/// Where the text read so far stands: complete, or in the middle of a character.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Utf8Validator {
    /// The bytes of a character that has not ended yet.
    pending: [u8; 3],
    pending_len: u8,
}

impl Utf8Validator {
    /// Takes the next piece; `false` when the text can no longer become valid.
    pub(crate) fn feed(&mut self, mut piece: &[u8]) -> bool {
        // The character that the last piece left open takes one byte at a time, so that the byte
        // which breaks it is noticed even when nothing follows.
        while self.pending_len > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return true;
            };
            piece = rest;
            let open = usize::from(self.pending_len);
            let [a, b, c] = self.pending;
            let mut character = [a, b, c, 0];
            let Some((last, _)) = character.get_mut(open..).and_then(<[u8]>::split_first_mut)
            else {
                return false;
            };
            *last = byte;
            let (character, _) = character.split_at(open.saturating_add(1));
            match std::str::from_utf8(character) {
                Ok(_) => self.pending_len = 0,
                Err(error) if error.error_len().is_some() => return false,
                // Four bytes are a whole character or a wrong one, so there are three at most here.
                Err(_) => self.keep(character),
            }
        }
        let Err(error) = std::str::from_utf8(piece) else {
            return true;
        };
        if error.error_len().is_some() {
            return false;
        }
        let (_, open) = piece.split_at(error.valid_up_to());
        self.keep(open);
        true
    }

    /// Keeps the beginning of a character, three bytes at most.
    fn keep(&mut self, open: &[u8]) {
        for (to, from) in self.pending.iter_mut().zip(open) {
            *to = *from;
        }
        self.pending_len = open.len().min(self.pending.len()) as u8;
    }

    /// Ends the text and starts a new one; `false` when it ended inside a character.
    pub(crate) fn finish(&mut self) -> bool {
        std::mem::take(&mut self.pending_len) == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(pieces: &[&[u8]]) -> bool {
        let mut validator = Utf8Validator::default();
        pieces.iter().all(|piece| validator.feed(piece)) && validator.finish()
    }

    #[test]
    fn fails_at_the_first_byte_that_cannot_be_saved() {
        for (text, bad) in [
            (
                &b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90\x80\x80"[..],
                12,
            ),
            (b"a\xc0\xaf", 1),
            (b"\xed\xa0\x80", 1),
            (b"\xff", 0),
            (b"\xe2\x82x", 2),
        ] {
            let mut validator = Utf8Validator::default();
            let failed = text.iter().position(|&byte| !validator.feed(&[byte]));
            assert_eq!(failed, Some(bad), "{text:02x?}");
        }
    }

    #[test]
    fn an_unfinished_character_at_the_end_is_refused() {
        assert!(accepts(&["κόσμε".as_bytes()]));
        assert!(!accepts(&[b"\xce"]));
        assert!(!accepts(&[b"\xf0\x9f", b"\x98"]));
        assert!(accepts(&[b"\xf0\x9f", b"\x98", b"\x80"]));
    }

    proptest! {
        #[test]
        fn any_split_agrees_with_the_standard_library(
            text in prop_oneof![any::<String>().prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..12)],
            cuts in prop::collection::vec(0usize..64, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(&text[at..cut]);
                at = cut;
            }
            prop_assert_eq!(accepts(&pieces), std::str::from_utf8(&text).is_ok());
        }
    }
}
