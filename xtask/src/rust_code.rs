//! Rust text without its comments and literals, so that a word in prose is no finding.

/// The text with every comment, string and character literal blanked, line for line.
///
/// A scanner, not a parser: it knows nested comments, raw strings and lifetimes, and takes
/// broken code as it comes.
pub(crate) fn without_comments_and_literals(text: &str) -> String {
    let mut scanner = Scanner {
        chars: text.chars().collect(),
        at: 0,
        code: String::with_capacity(text.len()),
    };
    scanner.scan();
    scanner.code
}

/// Byte offsets in `code` where `word` stands alone, not as a part of a longer name.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).filter_map(move |(start, _)| {
        let before = code[..start].chars().next_back();
        let after = code[start + word.len()..].chars().next();
        let alone = !before.is_some_and(is_name) && !after.is_some_and(is_name);
        alone.then_some(start)
    })
}

struct Scanner {
    chars: Vec<char>,
    at: usize,
    code: String,
}

impl Scanner {
    fn scan(&mut self) {
        while let Some(current) = self.peek(0) {
            match (current, self.peek(1)) {
                ('/', Some('/')) => self.blank_while(|c| c != '\n'),
                ('/', Some('*')) => self.blank_block_comment(),
                ('"', _) => match self.raw_string_hashes() {
                    Some(hashes) => self.blank_raw_string(hashes),
                    None => self.blank_quoted('"'),
                },
                ('\'', _) if self.is_char_literal() => self.blank_quoted('\''),
                _ => {
                    self.code.push(current);
                    self.at += 1;
                }
            }
        }
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn blank(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(current) = self.peek(0) {
                self.code.push(if current == '\n' { '\n' } else { ' ' });
                self.at += 1;
            }
        }
    }

    fn blank_while(&mut self, keep_on: impl Fn(char) -> bool) {
        while self.peek(0).is_some_and(&keep_on) {
            self.blank(1);
        }
    }

    fn blank_block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.at < self.chars.len() {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.blank(2);
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.blank(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.blank(1),
            }
        }
    }

    /// From the opening quote to the closing one; a backslash takes the next character along.
    fn blank_quoted(&mut self, quote: char) {
        self.blank(1);
        while let Some(current) = self.peek(0) {
            match current {
                '\\' => self.blank(2),
                _ if current == quote => return self.blank(1),
                _ => self.blank(1),
            }
        }
    }

    /// How many `#` stand before this quote if an `r`, `br` or `cr` stands before them.
    fn raw_string_hashes(&self) -> Option<usize> {
        let before = &self.chars[..self.at];
        let hashes = before.iter().rev().take_while(|&&c| c == '#').count();
        let prefix: String = before[..before.len() - hashes]
            .iter()
            .rev()
            .take_while(|&&c| is_name(c))
            .collect();
        matches!(prefix.as_str(), "r" | "rb" | "rc").then_some(hashes)
    }

    fn blank_raw_string(&mut self, hashes: usize) {
        self.blank(1);
        while let Some(current) = self.peek(0) {
            let closes = current == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == Some('#'));
            if closes {
                return self.blank(1 + hashes);
            }
            self.blank(1);
        }
    }

    /// `'a'` and `'\n'` are literals, `'a` is a lifetime.
    fn is_char_literal(&self) -> bool {
        self.peek(1) == Some('\\') || self.peek(2) == Some('\'')
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let code = without_comments_and_literals(text);
        let squeezed: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(squeezed.join(" "), expected);
        assert_eq!(code.lines().count(), text.lines().count());
    }

    #[test]
    fn comments_vanish_and_lines_stay() {
        check(
            "//! a\nfn f() {} // b\n/* c /* d */\n e */ x",
            "fn f() {} x",
        );
    }

    #[test]
    fn strings_vanish_with_their_escapes() {
        check(
            r#"f("a\"unsafe//", b"x", 'y', '\'', '"', z)"#,
            "f( , b , , , , z)",
        );
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        check(
            r####"f(r#"a " b"#, br"\", r##"x"# y"##, g)"####,
            "f(r# , br , r## , g)",
        );
    }

    #[test]
    fn lifetimes_are_code() {
        check(
            "fn f<'a>(x: &'a str, c: char) -> &'static str",
            "fn f<'a>(x: &'a str, c: char) -> &'static str",
        );
    }

    #[test]
    fn a_word_inside_a_longer_name_does_not_count() {
        assert_eq!(
            words("unsafe_code unsafe {} my_unsafe", "unsafe").collect::<Vec<_>>(),
            [12]
        );
    }
}
