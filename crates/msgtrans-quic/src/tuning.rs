//! [`Tuning`]: what both sides of a QUIC connection can set, and the quinn configuration that it becomes.

use std::sync::Arc;
use std::time::Duration;

use msgtrans_core::ConfigError;
use msgtrans_transport::{Endpoint, EndpointOptions};
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use crate::congestion::{self, QuicCongestion};
use crate::preset::{Path, QuicPreset};

/// The largest UDP payload that is ever sent or received. quinn hands the kernel up to 10 datagrams in one call, and
/// such a call cannot carry more than 65 507 bytes: what is above is lost without an error.
pub(crate) const DATAGRAM_MAX: u16 = 6_400;
/// The UDP payload that every path of QUIC carries.
const DATAGRAM_MIN: u16 = 1_200;
/// What fits into an Ethernet frame with IPv6 around it.
const DATAGRAM_ETHERNET: u16 = 1_452;
/// Loopback paths are searched in coarse steps: five probes instead of nine.
const LOOPBACK_STEP: u16 = 256;
/// Longer times than a day are mistakes.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Settings of a QUIC transport that servers and clients share, as they were asked for: what is `None` is the preset's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    pub(crate) preset: Option<QuicPreset>,
    pub(crate) max_idle_timeout: Duration,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) stream_window: Option<u32>,
    pub(crate) connection_window: Option<u32>,
    pub(crate) send_window: Option<u32>,
    pub(crate) mtu: Option<u16>,
    pub(crate) udp_buffer: Option<u32>,
    pub(crate) congestion: Option<QuicCongestion>,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            preset: None,
            max_idle_timeout: Duration::from_secs(60),
            keep_alive: None,
            stream_window: None,
            connection_window: None,
            send_window: None,
            mtu: None,
            udp_buffer: None,
            congestion: None,
        }
    }
}

macro_rules! tuning_knobs {
    () => {
        /// Sets what belongs to a kind of path; none by default. What is set by itself holds, before or after.
        #[must_use]
        pub fn preset(mut self, preset: $crate::QuicPreset) -> Self {
            self.tuning.preset = Some(preset);
            self
        }

        /// How the sender finds out what a path carries, instead of the preset's way.
        #[must_use]
        pub fn congestion(mut self, congestion: $crate::QuicCongestion) -> Self {
            self.tuning.congestion = Some(congestion);
            self
        }

        /// How long the peer may be silent before the connection is lost, 1 s to 24 h, 60 s by default; the shorter of
        /// both sides' times holds. Sessions notice earlier by their heartbeat.
        #[must_use]
        pub fn max_idle_timeout(mut self, time: Duration) -> Self {
            self.tuning.max_idle_timeout = $crate::tuning::whole_ms(time);
            self
        }

        /// Sends a probe when nothing has arrived for this long, 1 s to 24 h and less than the idle timeout. 20 s by
        /// default on clients, off on servers: one side suffices.
        #[must_use]
        pub fn keep_alive(mut self, interval: Duration) -> Self {
            self.tuning.keep_alive = Some($crate::tuning::whole_ms(interval));
            self
        }

        /// Bytes that the peer may send on the stream before they are read here, 65 536 to 1 GiB, 2 MiB by default:
        /// what divides the bandwidth of a long path by its round trip. Worst case memory a connection.
        #[must_use]
        pub fn stream_window(mut self, bytes: u32) -> Self {
            self.tuning.stream_window = Some(bytes);
            self
        }

        /// Bytes that the peer may send on the whole connection, from the stream's window to 1 GiB, 4 MiB by default.
        #[must_use]
        pub fn connection_window(mut self, bytes: u32) -> Self {
            self.tuning.connection_window = Some(bytes);
            self
        }

        /// Bytes that are kept until the peer has acknowledged them, 65 536 to 1 GiB, 4 MiB by default: beyond them a
        /// send waits. Worst case memory a connection.
        #[must_use]
        pub fn send_window(mut self, bytes: u32) -> Self {
            self.tuning.send_window = Some(bytes);
            self
        }

        /// The largest UDP payload that is tried out on a path, 1 200 to 6 400 bytes. By default 1 452, which fits
        /// Ethernet, and 6 400 to loopback peers.
        #[must_use]
        pub fn mtu(mut self, bytes: u16) -> Self {
            self.tuning.mtu = Some(bytes);
            self
        }

        /// The kernel's send and receive buffer of the UDP socket in bytes, 65 536 to 1 GiB, 7 MiB by default: all
        /// connections share it, and what does not fit is lost like on a bad path. The system may give less
        /// (`net.core.rmem_max`).
        #[must_use]
        pub fn udp_buffer(mut self, bytes: u32) -> Self {
            self.tuning.udp_buffer = Some(bytes);
            self
        }
    };
}
pub(crate) use tuning_knobs;

/// What a URL can say, so that both spellings of a configuration are equal.
pub(crate) fn whole_ms(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

impl Tuning {
    /// The defaults of a client, which alone keeps the path alive.
    pub(crate) fn client() -> Self {
        Self {
            keep_alive: Some(Duration::from_secs(20)),
            ..Self::default()
        }
    }

    /// Takes the options of a URL, the rest as in `self`.
    pub(crate) fn take(mut self, options: &mut EndpointOptions<'_>) -> Result<Self, ConfigError> {
        self.preset = options.take("preset", "lan, wan or lossy")?;
        self.congestion = options.take("congestion", "cubic, bbr or new_reno")?;
        if let Some(time) = options.take_duration("max_idle_timeout")? {
            self.max_idle_timeout = time;
        }
        if let Some(time) = options.take_duration("keep_alive")? {
            self.keep_alive = Some(time);
        }
        let bytes = "a number of bytes";
        for (name, field) in [
            ("stream_window", &mut self.stream_window),
            ("connection_window", &mut self.connection_window),
            ("send_window", &mut self.send_window),
            ("udp_buffer", &mut self.udp_buffer),
        ] {
            *field = options.take(name, bytes)?;
        }
        self.mtu = options.take("mtu", bytes)?;
        Ok(self)
    }

    /// What holds: what was asked for, and the rest as the preset has it.
    pub(crate) fn path(&self) -> Path {
        let base = Path::of(self.preset);
        Path {
            stream_window: self.stream_window.unwrap_or(base.stream_window),
            connection_window: self.connection_window.unwrap_or(base.connection_window),
            send_window: self.send_window.unwrap_or(base.send_window),
            udp_buffer: self.udp_buffer.unwrap_or(base.udp_buffer),
            congestion: self.congestion.unwrap_or(base.congestion),
            ..base
        }
    }

    /// Adds what differs from `default` to a URL.
    pub(crate) fn put(&self, default: &Self, mut endpoint: Endpoint) -> Endpoint {
        if let Some(preset) = self.preset {
            endpoint = endpoint.with_option("preset", preset);
        }
        let (path, base) = (self.path(), Path::of(self.preset));
        if path.congestion != base.congestion {
            endpoint = endpoint.with_option("congestion", path.congestion);
        }
        let ms = |time: Duration| format!("{}ms", time.as_millis());
        if self.max_idle_timeout != default.max_idle_timeout {
            endpoint = endpoint.with_option("max_idle_timeout", ms(self.max_idle_timeout));
        }
        if let Some(interval) = self
            .keep_alive
            .filter(|_| self.keep_alive != default.keep_alive)
        {
            endpoint = endpoint.with_option("keep_alive", ms(interval));
        }
        for (name, value, base) in [
            ("stream_window", path.stream_window, base.stream_window),
            (
                "connection_window",
                path.connection_window,
                base.connection_window,
            ),
            ("send_window", path.send_window, base.send_window),
            ("udp_buffer", path.udp_buffer, base.udp_buffer),
        ] {
            if value != base {
                endpoint = endpoint.with_option(name, value);
            }
        }
        match self.mtu {
            Some(mtu) => endpoint.with_option("mtu", mtu),
            None => endpoint,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        check_time("max_idle_timeout", self.max_idle_timeout)?;
        if let Some(interval) = self.keep_alive {
            check_time("keep_alive", interval)?;
            if interval >= self.max_idle_timeout {
                let expected = format!(
                    "must be less than max_idle_timeout of {:?}",
                    self.max_idle_timeout
                );
                let value = format_args!("{interval:?}");
                return Err(ConfigError::new("keep_alive", value, expected));
            }
        }
        let path = self.path();
        check_bytes("stream_window", path.stream_window, 65_536, 1 << 30)?;
        check_bytes(
            "connection_window",
            path.connection_window,
            path.stream_window,
            1 << 30,
        )?;
        check_bytes("send_window", path.send_window, 65_536, 1 << 30)?;
        check_bytes("udp_buffer", path.udp_buffer, 65_536, 1 << 30)?;
        if let Some(mtu) = self.mtu {
            check_bytes(
                "mtu",
                u32::from(mtu),
                u32::from(DATAGRAM_MIN),
                u32::from(DATAGRAM_MAX),
            )?;
        }
        Ok(())
    }

    /// The quinn configuration for a path, to a loopback peer or not.
    pub(crate) fn transport(&self, loopback: bool) -> Arc<TransportConfig> {
        let path = self.path();
        let mut transport = TransportConfig::default();
        let mut mtu = MtuDiscoveryConfig::default();
        match self.mtu {
            Some(bound) => mtu.upper_bound(bound),
            None if loopback => mtu.upper_bound(DATAGRAM_MAX).minimum_change(LOOPBACK_STEP),
            None => mtu.upper_bound(DATAGRAM_ETHERNET),
        };
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(path.ack_every))
            .max_ack_delay(Some(path.ack_within));
        transport
            // One stream is all that the wire format has; a peer cannot make others cost anything.
            .max_concurrent_bidi_streams(VarInt::from_u32(1))
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(None)
            // `validate` keeps the time far below what the field can hold.
            .max_idle_timeout(IdleTimeout::try_from(self.max_idle_timeout).ok())
            .keep_alive_interval(self.keep_alive)
            .stream_receive_window(VarInt::from_u32(path.stream_window))
            .receive_window(VarInt::from_u32(path.connection_window))
            .send_window(u64::from(path.send_window))
            .send_fairness(false)
            .packet_threshold(path.reordering)
            .congestion_controller_factory(congestion::factory(path.congestion))
            .ack_frequency_config(Some(acks))
            .mtu_discovery_config(Some(mtu));
        if let Some(initial_rtt) = path.initial_rtt {
            transport.initial_rtt(initial_rtt);
        }
        Arc::new(transport)
    }
}

fn check_time(field: &'static str, time: Duration) -> Result<(), ConfigError> {
    if (Duration::from_secs(1)..=TIME_MAX).contains(&time) {
        return Ok(());
    }
    let value = format_args!("{time:?}");
    Err(ConfigError::new(field, value, "must be from 1 s to 24 h"))
}

/// Checks that `value` is from `min` to `max` bytes.
fn check_bytes(field: &'static str, value: u32, min: u32, max: u32) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let expected = format!("must be from {min} to {max} bytes");
    Err(ConfigError::new(field, value, expected))
}
