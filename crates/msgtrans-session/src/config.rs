//! [`SessionConfig`]: every bound and deadline of a session, in one type.

use std::time::Duration;

use msgtrans_actor::Bounds;
use msgtrans_core::{ConfigError, Limits, WireVersions};

use crate::compress::CompressionConfig;
use crate::handler::Redacted;
use crate::rate_limit::RateLimiterConfig;

/// Bounds and deadlines of every session of a server or client. The defaults are the fast and safe choice.
///
/// Worst case memory of one session: `outbound.bytes` + 256 KiB of encoded packets out, `inbound_bytes` waiting for its
/// handler, one incomplete frame of at most `limits.max_frame()` grown as it arrives, and what its handlers hold.
#[derive(Clone)]
#[non_exhaustive]
pub struct SessionConfig {
    /// The wire versions to accept or offer.
    pub wire: WireVersions,
    /// What one frame may be.
    pub limits: Limits,
    /// Bytes that one compressed payload may decompress to; 16 MiB.
    pub decompressed_max: usize,
    /// Packets that wait to be written; 1 024 and 4 MiB.
    pub outbound: Bounds,
    /// Bytes of packets that wait for the handler before the session stops reading; 1 MiB.
    pub inbound_bytes: usize,
    /// Requests of the peer handled at once; 64, at most 1 024.
    pub requests_handled_max: usize,
    /// Requests of this side that await their responses; 1 024.
    pub requests_pending_max: usize,
    /// How long a request waits where the call does not say; 10 s.
    pub request_timeout: Duration,
    /// How long a send waits for room, and a write for progress before the peer counts as a slow consumer; also how long a
    /// session that closes waits until its peer has what was queued, over QUIC up to the acknowledgement; 10 s.
    pub send_timeout: Duration,
    /// From accept to an open session; never extended by trickled bytes; 10 s.
    pub handshake_timeout: Duration,
    /// A side that has written nothing for this long writes a Ping, and a peer silent for three of them is gone; 15 s,
    /// from 5 s to 300 s on the wire.
    pub heartbeat: Duration,
    /// How long a version 1 session, which has no heartbeat, may be silent; 300 s.
    pub idle_timeout_v1: Duration,
    /// How long a silent peer is waited for before it counts as a version 1 peer that listens first; 1 s.
    pub listen_first_after: Duration,
    /// Bytes a second that must come of a packet under way, on average over each
    /// [`frame_rate_window`](Self::frame_rate_window); below, the peer is cut with code 7 (timeout); 256. Between two packets a
    /// peer may be silent, and what this side does not read, because a handler is slow, counts against nobody.
    pub frame_rate_min: u32,
    /// How long bytes of a packet under way are counted before they are judged: a link may fail for so long; 30 s.
    pub frame_rate_window: Duration,
    /// Compress payloads where the peer takes it; off by default.
    pub compression: Option<CompressionConfig>,
    /// Messages a session may send; off by default.
    pub rate_limit: Option<RateLimiterConfig>,
    /// What a client presents to the server's `on_connect`.
    pub auth: Option<bytes::Bytes>,
}

impl std::fmt::Debug for SessionConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            wire,
            limits,
            decompressed_max,
            outbound,
            inbound_bytes,
            requests_handled_max,
            requests_pending_max,
            request_timeout,
            send_timeout,
            handshake_timeout,
            heartbeat,
            idle_timeout_v1,
            listen_first_after,
            frame_rate_min,
            frame_rate_window,
            compression,
            rate_limit,
            auth,
        } = self;
        f.debug_struct("SessionConfig")
            .field("wire", wire)
            .field("limits", limits)
            .field("decompressed_max", decompressed_max)
            .field("outbound", outbound)
            .field("inbound_bytes", inbound_bytes)
            .field("requests_handled_max", requests_handled_max)
            .field("requests_pending_max", requests_pending_max)
            .field("request_timeout", request_timeout)
            .field("send_timeout", send_timeout)
            .field("handshake_timeout", handshake_timeout)
            .field("heartbeat", heartbeat)
            .field("idle_timeout_v1", idle_timeout_v1)
            .field("listen_first_after", listen_first_after)
            .field("frame_rate_min", frame_rate_min)
            .field("frame_rate_window", frame_rate_window)
            .field("compression", compression)
            .field("rate_limit", rate_limit)
            .field("auth", &Redacted::of(auth))
            .finish()
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            wire: WireVersions::Any,
            limits: Limits::default(),
            decompressed_max: 16 * 1024 * 1024,
            outbound: Bounds {
                items: 1024,
                bytes: 4 * 1024 * 1024,
            },
            inbound_bytes: 1024 * 1024,
            requests_handled_max: 64,
            requests_pending_max: 1024,
            request_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
            idle_timeout_v1: Duration::from_secs(300),
            listen_first_after: Duration::from_secs(1),
            frame_rate_min: 256,
            frame_rate_window: Duration::from_secs(30),
            compression: None,
            rate_limit: None,
            auth: None,
        }
    }
}

impl SessionConfig {
    /// Checks every value.
    ///
    /// # Errors
    /// Names the field, its value and its bound. Zero is refused, not "unlimited".
    pub fn validate(&self) -> Result<(), ConfigError> {
        const GIB: usize = 1 << 30;
        between("decompressed_max", self.decompressed_max, 1, GIB)?;
        between("outbound.items", self.outbound.items, 1, 1 << 20)?;
        between("outbound.bytes", self.outbound.bytes, 1024, GIB)?;
        between("inbound_bytes", self.inbound_bytes, 1024, GIB)?;
        between("requests_handled_max", self.requests_handled_max, 1, 1024)?;
        between(
            "requests_pending_max",
            self.requests_pending_max,
            1,
            1 << 20,
        )?;
        let day = Duration::from_secs(24 * 3600);
        let ms = Duration::from_millis;
        time("request_timeout", self.request_timeout, ms(1), day)?;
        time("send_timeout", self.send_timeout, ms(10), day)?;
        time("handshake_timeout", self.handshake_timeout, ms(10), day)?;
        time("heartbeat", self.heartbeat, ms(5_000), ms(300_000))?;
        time("idle_timeout_v1", self.idle_timeout_v1, ms(1_000), day)?;
        time("listen_first_after", self.listen_first_after, ms(10), day)?;
        let rate = usize::try_from(self.frame_rate_min).unwrap_or(usize::MAX);
        between("frame_rate_min", rate, 1, 1 << 20)?;
        time("frame_rate_window", self.frame_rate_window, ms(100), day)?;
        if let Some(auth) = self.auth.as_ref().filter(|auth| auth.len() > 12 * 1024) {
            return Err(ConfigError::new(
                "auth",
                format_args!("{} bytes", auth.len()),
                "must be at most 12288 bytes",
            ));
        }
        if let Some(compression) = &self.compression {
            compression.validate()?;
        }
        if let Some(rate_limit) = &self.rate_limit {
            rate_limit.validate()?;
        }
        Ok(())
    }
}

fn between(field: &str, value: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(
        field,
        value,
        format!("must be from {min} to {max}"),
    ))
}

fn time(field: &str, value: Duration, min: Duration, max: Duration) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(
        field,
        format_args!("{value:?}"),
        format!("must be from {min:?} to {max:?}"),
    ))
}
