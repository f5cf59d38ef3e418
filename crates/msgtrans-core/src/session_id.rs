//! [`SessionId`]: the name of a session, unique within one server process.

use std::fmt;

/// Names a session. Cheap to copy, ordered by creation, printable; a name, never a secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The session with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, as it stands in a Welcome.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.0)
    }
}

impl From<u64> for SessionId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}
