//! [`Capabilities`]: what a protocol claims, so that the suite knows what to hold it to.

use msgtrans_core::Limits;

/// What a protocol can do. Start from [`byte_stream`](Self::byte_stream) or [`packets`](Self::packets).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Packets travel as bytes, so that a part of one may be on the way or be lost.
    pub bytes: bool,
    /// Small unreliable packets travel as datagrams, beside the stream and its order.
    pub datagrams: bool,
    /// Wire version 1 is spoken.
    pub v1: bool,
    /// A close in version 1 waits for the peer's end and shows none of its own meanwhile. Off unless it is claimed: a
    /// protocol whose close is a message of its own, or ends the whole connection at once, shows it at once.
    pub v1_close_waits: bool,
    /// A side that has closed is still read from until it is gone, and one that has not closed may still write.
    pub half_close: bool,
    /// Dialling where nobody listens fails at once.
    pub refuses: bool,
    /// The address of a listener is free as soon as the listener is gone, while its connections live on. Off where they
    /// share its socket.
    pub rebinds: bool,
    /// The largest payload that crosses, in bytes.
    pub max_payload: usize,
    /// The largest extended header that crosses, in bytes.
    pub max_ext_header: usize,
}

impl Capabilities {
    /// Frames back to back on a byte stream, as on TCP: everything but datagrams.
    pub const fn byte_stream() -> Self {
        Self {
            bytes: true,
            datagrams: false,
            v1: true,
            v1_close_waits: false,
            half_close: true,
            refuses: true,
            rebinds: true,
            max_payload: Limits::MAX_PAYLOAD as usize,
            max_ext_header: Limits::MAX_EXT_HEADER as usize,
        }
    }

    /// Packets that change hands whole, as in process: version 2, no datagrams.
    pub const fn packets() -> Self {
        Self {
            bytes: false,
            v1: false,
            ..Self::byte_stream()
        }
    }

    /// Sets [`datagrams`](Self::datagrams).
    #[must_use]
    pub const fn datagrams(mut self, datagrams: bool) -> Self {
        self.datagrams = datagrams;
        self
    }

    /// Sets [`v1`](Self::v1).
    #[must_use]
    pub const fn v1(mut self, v1: bool) -> Self {
        self.v1 = v1;
        self
    }

    /// Sets [`v1_close_waits`](Self::v1_close_waits).
    #[must_use]
    pub const fn v1_close_waits(mut self, v1_close_waits: bool) -> Self {
        self.v1_close_waits = v1_close_waits;
        self
    }

    /// Sets [`half_close`](Self::half_close).
    #[must_use]
    pub const fn half_close(mut self, half_close: bool) -> Self {
        self.half_close = half_close;
        self
    }

    /// Sets [`refuses`](Self::refuses).
    #[must_use]
    pub const fn refuses(mut self, refuses: bool) -> Self {
        self.refuses = refuses;
        self
    }

    /// Sets [`rebinds`](Self::rebinds).
    #[must_use]
    pub const fn rebinds(mut self, rebinds: bool) -> Self {
        self.rebinds = rebinds;
        self
    }

    /// Sets [`max_payload`](Self::max_payload).
    #[must_use]
    pub const fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = bytes;
        self
    }

    /// Sets [`max_ext_header`](Self::max_ext_header).
    #[must_use]
    pub const fn max_ext_header(mut self, bytes: usize) -> Self {
        self.max_ext_header = bytes;
        self
    }
}
