//! The fixed 16 bytes in front of every frame (wire format, sections 1 and 2).
// A peer's bytes pass here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use crate::error::DecodeError;
use crate::limits::Limits;
use crate::packet::{Compression, Flags, PacketType};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 16;

/// The version of the wire format, the same in every frame of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum WireVersion {
    /// What the published 2.x crate speaks.
    V1 = 1,
    /// Handshake, failures, cancel, heartbeat, Goodbye, resume.
    V2 = 2,
}

/// Which versions a side takes, where the first frame decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WireVersions {
    /// Version 1 alone.
    V1,
    /// Version 2 alone.
    V2,
    /// Both; the first frame decides.
    #[default]
    Any,
}

impl WireVersions {
    /// Whether `version` is among them.
    pub const fn contains(self, version: WireVersion) -> bool {
        match self {
            Self::V1 => matches!(version, WireVersion::V1),
            Self::V2 => matches!(version, WireVersion::V2),
            Self::Any => true,
        }
    }
}

impl std::str::FromStr for WireVersions {
    type Err = crate::ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "v1" => Ok(Self::V1),
            "v2" => Ok(Self::V2),
            "auto" | "any" => Ok(Self::Any),
            other => Err(crate::ConfigError::new(
                "wire",
                other,
                "must be v1, v2 or auto",
            )),
        }
    }
}

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The frame's version.
    pub version: WireVersion,
    /// How the payload is compressed.
    pub compression: Compression,
    /// What the frame is.
    pub packet_type: PacketType,
    /// The application's own.
    pub biz_type: u8,
    /// See the wire format, section 3.
    pub message_id: u32,
    /// Bytes of extended header.
    pub ext_header_len: u16,
    /// Bytes of payload as sent.
    pub payload_len: u32,
    /// Known bits alone; unknown ones are dropped here.
    pub flags: Flags,
}

impl Header {
    /// Reads a header and checks everything that the 16 bytes alone can tell, `limits` included.
    ///
    /// # Errors
    /// Unknown version, packet type or compression, one that the frame's version does not have, a body above
    /// `limits`, a control frame with an extended header, compression or too long a body.
    #[inline(always)]
    pub fn parse(bytes: &[u8; HEADER_LEN], limits: &Limits) -> Result<Self, DecodeError> {
        let [
            v,
            c,
            t,
            biz_type,
            i0,
            i1,
            i2,
            i3,
            e0,
            e1,
            p0,
            p1,
            p2,
            p3,
            f0,
            f1,
        ] = *bytes;
        let version = match v {
            1 => WireVersion::V1,
            2 => WireVersion::V2,
            _ => return Err(DecodeError::UnknownVersion { version: v }),
        };
        let packet_type = PacketType::parse(t, version)?;
        let compression = Compression::parse(c, version)?;
        let header = Self {
            version,
            compression,
            packet_type,
            biz_type,
            message_id: u32::from_be_bytes([i0, i1, i2, i3]),
            ext_header_len: u16::from_be_bytes([e0, e1]),
            payload_len: u32::from_be_bytes([p0, p1, p2, p3]),
            flags: Flags::from_wire(u16::from_be_bytes([f0, f1]), version),
        };
        header.check(limits)?;
        Ok(header)
    }

    #[inline(always)]
    fn check(&self, limits: &Limits) -> Result<(), DecodeError> {
        if self.packet_type.is_data() {
            if self.payload_len > limits.max_payload() && !cfg!(msgtrans_planted = "1") {
                return Err(DecodeError::PayloadTooLarge {
                    len: self.payload_len,
                    max: limits.max_payload(),
                });
            }
            if u32::from(self.ext_header_len) > limits.max_ext_header() {
                return Err(DecodeError::ExtHeaderTooLarge {
                    len: self.ext_header_len,
                    max: limits.max_ext_header(),
                });
            }
            if self.flags.contains(Flags::UNRELIABLE) && self.packet_type != PacketType::OneWay {
                return Err(DecodeError::UnreliableNotOneWay {
                    packet_type: self.packet_type,
                });
            }
            return Ok(());
        }
        self.check_control()
    }

    #[cold]
    fn check_control(&self) -> Result<(), DecodeError> {
        let packet_type = self.packet_type;
        if self.flags.contains(Flags::UNRELIABLE) {
            return Err(DecodeError::UnreliableNotOneWay { packet_type });
        }
        if self.ext_header_len != 0 {
            return Err(DecodeError::ControlWithExtHeader {
                packet_type,
                len: self.ext_header_len,
            });
        }
        if self.compression != Compression::None {
            return Err(DecodeError::ControlCompressed { packet_type });
        }
        let max = Limits::max_control(packet_type);
        if self.payload_len > max {
            return Err(DecodeError::ControlTooLarge {
                packet_type,
                len: self.payload_len,
                max,
            });
        }
        if packet_type == PacketType::Ack && self.payload_len != 8 {
            return Err(DecodeError::AckLength {
                len: self.payload_len,
            });
        }
        Ok(())
    }

    /// The header as it goes on the wire.
    #[inline]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let [i0, i1, i2, i3] = self.message_id.to_be_bytes();
        let [e0, e1] = self.ext_header_len.to_be_bytes();
        let [p0, p1, p2, p3] = self.payload_len.to_be_bytes();
        let [f0, f1] = self.flags.to_wire(self.version).to_be_bytes();
        [
            self.version as u8,
            self.compression.as_u8(),
            self.packet_type.as_u8(),
            self.biz_type,
            i0,
            i1,
            i2,
            i3,
            e0,
            e1,
            p0,
            p1,
            p2,
            p3,
            f0,
            f1,
        ]
    }

    /// Bytes of the whole frame; a header within [`Limits`] cannot overflow it on any target.
    #[inline]
    pub const fn frame_len(&self) -> usize {
        HEADER_LEN
            .saturating_add(self.ext_header_len as usize)
            .saturating_add(self.payload_len as usize)
    }
}
