//! [`QuicPreset`]: the settings that belong to a kind of path, in one word.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::QuicCongestion;

const MIB: u32 = 1024 * 1024;

/// What kind of path a server or a client is for.
///
/// A preset sets windows, the UDP socket's buffers, acknowledgements, the round trip that is assumed before one has been
/// measured, and the congestion controller. Both sides should have the same one, and each works with any other. What is
/// set by itself holds beside it, in whatever order: `QuicServerConfig::new(..).stream_window(..).preset(QuicPreset::Wan)`.
///
/// The largest datagram is none of a path's kind: discovery finds it, up to 1 452 bytes of payload and 6 400 to loopback
/// (`mtu`). Neither are idle times: 60 s (`max_idle_timeout`), of which a client's keep-alive of 20 s takes care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QuicPreset {
    /// One building: round trips under 5 ms and hardly any loss. A datagram that is lost before a round trip is known
    /// is sent again after 30 ms instead of 1 s, and a lone packet is acknowledged within 1 ms instead of 5 ms. The
    /// windows are the defaults: 2 MiB in 5 ms are 400 MB/s.
    Lan,
    /// Across countries: much bandwidth times 100 ms. Windows of 16 MiB on the stream, which are 160 MB/s at 100 ms, and
    /// 32 MiB otherwise instead of 2 and 4 (worst case memory a connection), UDP buffers of 16 MiB, and a lost first
    /// datagram is sent again after 300 ms.
    Wan,
    /// Radio, phones, bad lines: loss that is not congestion. BBR, which follows the measured bandwidth and round trip,
    /// instead of CUBIC, which slows down at each loss; packets that overtake each other count as lost later; windows of
    /// 8 MiB on the stream, which are 80 MB/s at 100 ms, and 16 MiB otherwise.
    Lossy,
}

/// What a kind of path wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) stream_window: u32,
    pub(crate) connection_window: u32,
    pub(crate) send_window: u32,
    pub(crate) udp_buffer: u32,
    /// Assumed until one has been measured; quinn's 333 ms without.
    pub(crate) initial_rtt: Option<Duration>,
    /// Packets that a peer receives before it must acknowledge; it does so after `ack_within` anyway. On loopback the
    /// server's CPU time is up to 8 % less with 10 than with the usual 2.
    pub(crate) ack_every: u32,
    /// How long a peer may keep the acknowledgement of a lone packet to itself: a confirmed send takes 6 ms on loopback
    /// with 5, and 26 ms with the usual 25.
    pub(crate) ack_within: Duration,
    /// Packets sent later whose acknowledgement makes an earlier one count as lost.
    pub(crate) reordering: u32,
    pub(crate) congestion: QuicCongestion,
}

/// The defaults, for a path that nobody knows.
const ANY: Path = Path {
    stream_window: 2 * MIB,
    connection_window: 4 * MIB,
    send_window: 4 * MIB,
    udp_buffer: 7 * MIB,
    initial_rtt: None,
    ack_every: 10,
    ack_within: Duration::from_millis(5),
    // What RFC 9002 recommends.
    reordering: 3,
    congestion: QuicCongestion::Cubic,
};

impl Path {
    pub(crate) const fn of(preset: Option<QuicPreset>) -> Self {
        match preset {
            None => ANY,
            Some(QuicPreset::Lan) => Self {
                initial_rtt: Some(Duration::from_millis(10)),
                ack_within: Duration::from_millis(1),
                ..ANY
            },
            Some(QuicPreset::Wan) => Self {
                stream_window: 16 * MIB,
                connection_window: 32 * MIB,
                send_window: 32 * MIB,
                udp_buffer: 16 * MIB,
                initial_rtt: Some(Duration::from_millis(100)),
                ..ANY
            },
            Some(QuicPreset::Lossy) => Self {
                stream_window: 8 * MIB,
                connection_window: 16 * MIB,
                send_window: 16 * MIB,
                initial_rtt: Some(Duration::from_millis(100)),
                reordering: 8,
                congestion: QuicCongestion::Bbr,
                ..ANY
            },
        }
    }
}

impl QuicPreset {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Lan, "lan"),
        (Self::Wan, "wan"),
        (Self::Lossy, "lossy"),
    ];
}

impl fmt::Display for QuicPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(preset, _)| preset == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

/// The text is none of `lan`, `wan` and `lossy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPreset;

impl fmt::Display for UnknownPreset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be lan, wan or lossy")
    }
}

impl std::error::Error for UnknownPreset {}

impl FromStr for QuicPreset {
    type Err = UnknownPreset;

    fn from_str(text: &str) -> Result<Self, UnknownPreset> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(preset, _)| *preset).ok_or(UnknownPreset)
    }
}
