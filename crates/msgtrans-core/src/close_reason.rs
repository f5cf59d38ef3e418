//! [`CloseReason`]: who ended a session and why, with the codes of the wire format.

use std::fmt::{self, Write as _};

/// A code of the wire format, section 5. Numbers from 1 000 up belong to the application.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal $text:literal;)*) => {
        impl Code {
            $($(#[$doc])* pub const $name: Code = Code($number);)*

            /// What the code means, in words; `"application"` from 1 000 up.
            pub const fn as_str(self) -> &'static str {
                match self.0 {
                    $($number => $text,)*
                    1000.. => "application",
                    _ => "unknown",
                }
            }
        }
    };
}

codes! {
    /// The session ended as intended.
    NORMAL = 0 "normal";
    /// The server shuts down or drains.
    GOING_AWAY = 1 "going away";
    /// The peer broke the wire format.
    PROTOCOL_ERROR = 2 "protocol error";
    /// A frame or message above a limit.
    TOO_LARGE = 3 "too large";
    /// The authenticator refused.
    UNAUTHORIZED = 4 "unauthorized";
    /// More messages than the rate limit allows.
    RATE_LIMITED = 5 "rate limited";
    /// No room for the session or the request.
    OVERLOADED = 6 "overloaded";
    /// A handshake or a silent peer ran out of time.
    TIMEOUT = 7 "timeout";
    /// A fault of ours.
    INTERNAL = 8 "internal";
    /// The handler returned an error or panicked.
    HANDLER_FAILED = 9 "handler failed";
    /// The session cannot be resumed.
    RESUME_REFUSED = 10 "resume refused";
    /// The peer asked for what this side does not do.
    UNSUPPORTED = 11 "unsupported";
    /// The request's deadline passed before the handler answered.
    DEADLINE_EXCEEDED = 12 "deadline exceeded";
    /// The requester no longer waits.
    CANCELLED = 13 "cancelled";
    /// The peer did not read what was written to it.
    SLOW_CONSUMER = 14 "slow consumer";
    /// The session was resumed on another connection.
    REPLACED = 15 "replaced";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.as_str(), self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} {})", self.0, self.as_str())
    }
}

/// Which side ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initiator {
    /// This side closed.
    Local,
    /// The peer said Goodbye, or ended its stream in good order.
    Peer,
    /// The connection was lost: reset, cut or silent.
    Network,
}

/// Why a session ended. The first reason wins; it never changes afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseReason {
    /// The code that went, or would go, into the Goodbye.
    pub code: Code,
    /// The words beside it, at most 1 024 bytes; may be empty.
    pub reason: String,
    /// Who ended it.
    pub initiator: Initiator,
}

/// The longest reason that a Goodbye carries, in bytes (wire format, tag 17).
pub(crate) const REASON_MAX: usize = 1024;

/// The longest beginning of `text` that has at most `max` bytes and cuts no character.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    (0..=max.min(text.len()))
        .rev()
        .find_map(|end| text.get(..end))
        .unwrap_or_default()
}

/// A peer's words as they may stand in a log: without control characters, which could forge a line, and at most 256
/// bytes of them.
pub(crate) struct Words<'a>(pub(crate) &'a str);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 256;
        let shown = cut(self.0, SHOWN_MAX);
        for c in shown.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        if shown.len() < self.0.len() {
            f.write_str("…")?;
        }
        Ok(())
    }
}

impl CloseReason {
    /// This side closes with `code`; a `reason` above 1 024 bytes is cut at a character boundary.
    pub fn local(code: Code, reason: impl Into<String>) -> Self {
        Self::with(code, reason.into(), Initiator::Local)
    }

    /// The peer closed with `code`.
    pub fn peer(code: Code, reason: impl Into<String>) -> Self {
        Self::with(code, reason.into(), Initiator::Peer)
    }

    /// The connection was lost.
    pub fn network(code: Code, reason: impl Into<String>) -> Self {
        Self::with(code, reason.into(), Initiator::Network)
    }

    fn with(code: Code, mut reason: String, initiator: Initiator) -> Self {
        reason.truncate(cut(&reason, REASON_MAX).len());
        Self {
            code,
            reason,
            initiator,
        }
    }

    /// An orderly end by this side, code 0.
    pub fn normal() -> Self {
        Self::local(Code::NORMAL, "")
    }

    /// Whether the session ended as intended: code 0 or 1, and not by losing the connection.
    pub fn is_clean(&self) -> bool {
        self.code <= Code::GOING_AWAY && self.initiator != Initiator::Network
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.initiator {
            Initiator::Local => "closed by this side",
            Initiator::Peer => "closed by the peer",
            Initiator::Network => "connection lost",
        };
        f.write_str(who)?;
        // A connection that was lost has no code of its own unless one is known.
        if self.initiator != Initiator::Network || self.code != Code::NORMAL {
            write!(f, ": {}", self.code)?;
        }
        if !self.reason.is_empty() {
            write!(f, ": {}", Words(&self.reason))?;
        }
        Ok(())
    }
}
