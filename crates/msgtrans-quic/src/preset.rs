//! [`QuicPreset`]: the settings that belong to a kind of path, in one word.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::tuning::Tuning;

const MIB: u32 = 1024 * 1024;

/// What kind of path a server or a client is for.
///
/// A preset sets windows, the UDP socket's buffers, acknowledgements, the round trip that is assumed before one has been
/// measured, and the congestion controller. Both sides should have the same one, and each works with any other. What is
/// set after it holds: `QuicServerConfig::new(..).preset(QuicPreset::Wan).stream_window(..)`; in a URL, whose options have
/// no order, a preset is what the others are added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QuicPreset {
    /// One building: round trips under 5 ms and hardly any loss. A datagram that is lost before a round trip is known
    /// is sent again after 30 ms instead of 1 s, and a lone packet is acknowledged within 1 ms instead of 5 ms.
    Lan,
    /// Across countries: much bandwidth times 100 ms. Windows of 16 MiB on the stream and 32 MiB otherwise instead of 2
    /// and 4 (worst case memory a connection), UDP buffers of 16 MiB, and a lost first datagram is sent again after
    /// 300 ms.
    Wan,
    /// Radio, phones, bad lines: loss that is not congestion. BBR, which follows the measured bandwidth and round trip,
    /// instead of CUBIC, which slows down at each loss; packets that overtake each other count as lost later; windows of
    /// 8 MiB on the stream and 16 MiB otherwise.
    Lossy,
}

/// How the sender finds out what a path carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Congestion {
    Cubic,
    Bbr,
}

impl QuicPreset {
    const ALL: [(Self, &'static str); 3] = [
        (Self::Lan, "lan"),
        (Self::Wan, "wan"),
        (Self::Lossy, "lossy"),
    ];

    /// `tuning` with what this kind of path wants.
    pub(crate) fn apply(self, tuning: Tuning) -> Tuning {
        let base = Tuning {
            preset: Some(self),
            ..tuning
        };
        match self {
            Self::Lan => Tuning {
                initial_rtt: Some(Duration::from_millis(10)),
                ack_within: Duration::from_millis(1),
                ..base
            },
            Self::Wan => Tuning {
                stream_window: 16 * MIB,
                connection_window: 32 * MIB,
                send_window: 32 * MIB,
                udp_buffer: 16 * MIB,
                initial_rtt: Some(Duration::from_millis(100)),
                ..base
            },
            Self::Lossy => Tuning {
                stream_window: 8 * MIB,
                connection_window: 16 * MIB,
                send_window: 16 * MIB,
                initial_rtt: Some(Duration::from_millis(100)),
                reordering: 8,
                congestion: Congestion::Bbr,
                ..base
            },
        }
    }
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
