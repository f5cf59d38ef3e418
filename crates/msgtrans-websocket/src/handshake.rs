//! The HTTP/1.1 upgrade, both sides, from bytes to bytes.
//!
//! Nothing here reads a socket or a clock: the caller feeds what has arrived and ends a peer that
//! dawdles at its own deadline. Heads are parsed by httparse; what it leaves open is decided
//! here: how much is read, which path, which origin, which subprotocol.

mod client;
mod head;
mod origin;
mod server;

use std::fmt;

pub use client::{ClientUpgrade, RequestError, UpgradeError};
pub use head::{HEAD_HEADERS_MAX, HEAD_LEN_MAX};
pub use origin::{Origin, OriginError, OriginPolicy};
pub use server::{Refusal, ServerUpgrade, Upgrade, UpgradePolicy};

/// The WebSocket subprotocols of MsgTrans (wire format, section 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subprotocol {
    /// `msgtrans.v1`, the format of the published 2.x crate.
    V1,
    /// `msgtrans.v2`.
    V2,
}

impl Subprotocol {
    /// The name as it stands in `Sec-WebSocket-Protocol`; compared with its case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "msgtrans.v1",
            Self::V2 => "msgtrans.v2",
        }
    }
}

impl fmt::Display for Subprotocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
