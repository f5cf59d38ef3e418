//! [`Limits`]: every bound on a frame, in one type.

use crate::error::ConfigError;
use crate::header::HEADER_LEN;
use crate::packet::PacketType;

/// What a side accepts, checked from the 16 header bytes before anything of the body is buffered.
///
/// Worst case memory a connection for one frame: `max_frame()`, grown as the bytes arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    max_payload: u32,
    max_ext_header: u32,
}

impl Limits {
    /// The default and largest payload: 16 MiB.
    pub const MAX_PAYLOAD: u32 = 16 * 1024 * 1024;
    /// The default and largest extended header: 65 535 bytes, what its u16 length can say.
    pub const MAX_EXT_HEADER: u32 = 65_535;
    /// The smallest `max_frame` a v2 side may announce.
    pub const MIN_FRAME: u32 = 81_920;
    /// The largest Hello payload.
    pub const MAX_HELLO: u32 = 16 * 1024;
    /// The largest payload of every other control frame.
    pub const MAX_CONTROL: u32 = 4 * 1024;
    /// The most bytes a Ping carries.
    pub const MAX_PING: u32 = 64;

    /// Limits of `max_payload` bytes of payload and `max_ext_header` bytes of extended header.
    ///
    /// # Errors
    /// A payload limit that cannot carry a v2 session's smallest `max_frame` (81 920 bytes with header and extended
    /// header) or is above 1 GiB, an extended header limit of 0 or above 65 535.
    pub fn new(max_payload: u32, max_ext_header: u32) -> Result<Self, ConfigError> {
        const MAX: u32 = 1 << 30;
        if max_ext_header == 0 || max_ext_header > Self::MAX_EXT_HEADER {
            return Err(ConfigError::new(
                "max_ext_header",
                max_ext_header,
                "must be from 1 to 65535 bytes",
            ));
        }
        let limits = Self {
            max_payload,
            max_ext_header,
        };
        if max_payload > MAX || limits.max_frame() < Self::MIN_FRAME {
            let min = Self::MIN_FRAME - HEADER_LEN as u32 - max_ext_header;
            return Err(ConfigError::new(
                "max_payload",
                max_payload,
                format!("must be from {min} to {MAX} bytes"),
            ));
        }
        Ok(limits)
    }

    /// The largest payload of a control frame of this type.
    pub(crate) const fn max_control(packet_type: PacketType) -> u32 {
        match packet_type {
            PacketType::Hello => Self::MAX_HELLO,
            PacketType::Ping | PacketType::Pong => Self::MAX_PING,
            _ => Self::MAX_CONTROL,
        }
    }

    /// Bytes of payload, as sent.
    pub const fn max_payload(&self) -> u32 {
        self.max_payload
    }

    /// Bytes of extended header.
    pub const fn max_ext_header(&self) -> u32 {
        self.max_ext_header
    }

    /// The largest whole frame: header, extended header, payload.
    pub const fn max_frame(&self) -> u32 {
        HEADER_LEN as u32 + self.max_ext_header + self.max_payload
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_payload: Self::MAX_PAYLOAD,
            max_ext_header: Self::MAX_EXT_HEADER,
        }
    }
}
