//! What can be wrong with one direction of a path, as data.

use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
    /// Either way.
    Both,
}

/// How a connection ends that a proxy ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides get a reset (SO_LINGER of 0), without what the proxy still held.
    Reset,
    /// Both sides get an orderly end of the stream, in the middle of whatever was going on.
    Cut,
}

/// What is wrong with one direction of a TCP connection; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamFaults {
    /// How long bytes are on their way.
    pub latency: Duration,
    /// At most so much more, drawn for each read. Bytes do not overtake each other.
    pub jitter: Duration,
    /// How many bytes pass in a second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Every write is of one to this many bytes, drawn for each.
    pub slice_bytes_max: Option<NonZeroUsize>,
    /// After this many bytes of a connection have passed in this direction, the whole connection ends. One that is
    /// beyond it ends at once; every new one meets it again.
    pub end_at: Option<(u64, End)>,
    /// Nothing is read, nothing is written, and neither end of the stream is passed on: the peer might as well be
    /// unplugged. What waits passes once this is off again. The kernels still acknowledge what the proxy's socket
    /// buffers take, so that it is the programs that must notice.
    pub blackhole: bool,
}

/// What is wrong with one direction of a UDP path; nothing by default.
///
/// Probabilities are from 0 to 1, for each datagram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatagramFaults {
    /// How long a datagram is on its way.
    pub latency: Duration,
    /// At most so much more, drawn for each datagram: those that follow each other closely change places.
    pub jitter: Duration,
    /// How many bytes pass in a second. What would wait behind too many is dropped.
    pub bytes_per_second: Option<NonZeroU64>,
    /// The probability of being lost.
    pub loss: f64,
    /// The probability of arriving twice; the second one is as late as a reordered one.
    pub duplication: f64,
    /// The probability of being 1 to 10 ms late, so that others overtake it.
    pub reordering: f64,
    /// Everything is lost, what is on its way too.
    pub blackhole: bool,
}
