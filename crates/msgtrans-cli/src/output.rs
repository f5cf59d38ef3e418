//! [`Output`]: data to standard output, diagnostics to standard error, as text or as JSON.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use msgtrans::Packet;
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;

/// How the command speaks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    out_is_terminal: bool,
    err_is_terminal: bool,
    color: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            json,
            out_is_terminal: io::stdout().is_terminal(),
            err_is_terminal: io::stderr().is_terminal(),
            color,
        }
    }

    /// Sends what the library logs to standard error.
    pub(crate) fn init_log(&self) {
        let filter = match std::env::var("RUST_LOG") {
            Ok(directives) if !directives.is_empty() => {
                EnvFilter::builder().parse_lossy(directives)
            }
            // Who says --insecure need not be told.
            _ => EnvFilter::new(
                "warn,msgtrans_quic::connector=error,msgtrans_tcp::tls=error,msgtrans_websocket::tls=error",
            ),
        };
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(io::stderr)
            .with_ansi(self.color && self.err_is_terminal)
            .init();
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// One line of data, written at once: who waits for it reads a pipe.
    pub(crate) fn line(&self, line: &str) -> io::Result<()> {
        self.bytes(line.as_bytes())
    }

    /// One object of data on a line.
    pub(crate) fn object(&self, object: &Value) -> io::Result<()> {
        self.line(&object.to_string())
    }

    /// A payload as it is, and the end of the line if it has none. A terminal is not handed another program's control
    /// characters.
    pub(crate) fn payload(&self, payload: &[u8]) -> io::Result<()> {
        if self.out_is_terminal {
            return self.bytes(escape_controls(&String::from_utf8_lossy(payload)).as_bytes());
        }
        self.bytes(payload)
    }

    /// Data as it is, and the end of the line if it has none.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        if !bytes.ends_with(b"\n") {
            out.write_all(b"\n")?;
        }
        out.flush()
    }

    /// `text` in bold, where standard output is a terminal.
    pub(crate) fn bold<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.color && self.out_is_terminal {
            Cow::Owned(format!("\x1b[1m{text}\x1b[0m"))
        } else {
            Cow::Borrowed(text)
        }
    }

    /// A line such as `note: …` on standard error.
    pub(crate) fn note(&self, text: &str) {
        if self.json {
            self.diagnostic(&json!({ "note": text }).to_string());
        } else {
            self.tell("note", "36", text);
        }
    }

    /// A [`note`](Self::note) that only helps who watches.
    pub(crate) fn chat(&self, text: &str) {
        if self.err_is_terminal {
            self.note(text);
        }
    }

    /// A labelled line on standard error; `color` is the SGR number of the label.
    pub(crate) fn tell(&self, label: &str, color: &str, text: &str) {
        if self.color && self.err_is_terminal {
            self.diagnostic(&format!("\x1b[1;{color}m{label}:\x1b[0m {text}"));
        } else {
            self.diagnostic(&format!("{label}: {text}"));
        }
    }

    /// One line on standard error. Where that cannot be written either there is nobody left to tell.
    pub(crate) fn diagnostic(&self, line: &str) {
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Shows what is being done, in place of what was shown before; nothing to show clears it.
    pub(crate) fn progress(&self, text: &str) {
        if self.err_is_terminal {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
        }
    }
}

/// A packet's fields for programs: the payload as text where it is text, else in hexadecimal digits.
pub(crate) fn packet_object(packet: &Packet) -> Value {
    let mut object = json!({
        "message_id": packet.message_id,
        "biz_type": packet.biz_type,
        "bytes": packet.payload.len(),
    });
    put_bytes(&mut object, "payload", &packet.payload);
    if !packet.ext_header.is_empty() {
        put_bytes(&mut object, "ext_header", &packet.ext_header);
    }
    object
}

fn put_bytes(object: &mut Value, field: &str, bytes: &[u8]) {
    let is_binary = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(is_binary) => object[field] = json!(text),
        _ => {
            let mut digits = String::with_capacity(bytes.len() * 2);
            for byte in bytes {
                // Writing to a String does not fail.
                let _ = write!(digits, "{byte:02x}");
            }
            object[format!("{field}_hex")] = json!(digits);
        }
    }
}

/// Text without control characters but tabs and line ends, which escapes stand for.
fn escape_controls(text: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_harmful(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_text_and_bytes_as_digits() {
        let text = packet_object(&Packet::text("größer\n"));
        assert_eq!(text["payload"], "größer\n");
        let count = packet_object(&Packet::binary(5_u64.to_be_bytes().to_vec()));
        assert_eq!(count["payload_hex"], "0000000000000005");
        assert_eq!(count.get("payload"), None);
    }

    #[test]
    fn a_terminal_gets_no_escape_sequences_of_peers() {
        assert_eq!(escape_controls("a\x1b[2Jb\tc\n"), "a\\u{1b}[2Jb\tc\n");
        assert!(matches!(escape_controls("plain"), Cow::Borrowed(_)));
    }
}
