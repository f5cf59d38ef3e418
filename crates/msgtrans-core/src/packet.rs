//! [`Packet`]: the unit of everything, and the small types in its header.

use std::fmt;

use bytes::Bytes;

use crate::Code;
use crate::error::DecodeError;
use crate::ext_header::ExtHeader;
use crate::header::WireVersion;
use crate::meta::Meta;

/// What a frame is (wire format, section 2).
///
/// A byte with names rather than an enum: the compiler must not hide the tag of an `Option<Packet>` in it, because every
/// move of a packet would then take the byte out of its word and put it back, a stalled store each time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct PacketType(u8);

#[expect(
    non_upper_case_globals,
    reason = "they are used like the variants of an enum"
)]
impl PacketType {
    /// A message that expects no answer; text and binary alike.
    pub const OneWay: Self = Self(0);
    /// A message that expects a Response or a Failure with its id.
    pub const Request: Self = Self(1);
    /// The answer to a Request.
    pub const Response: Self = Self(2);
    /// A Request that failed; v2.
    pub const Failure: Self = Self(3);
    /// The requester no longer waits; v2.
    pub const Cancel: Self = Self(4);
    /// A v2 client's first frame.
    pub const Hello: Self = Self(8);
    /// A v2 server's first frame.
    pub const Welcome: Self = Self(9);
    /// Nothing follows it.
    pub const Goodbye: Self = Self(10);
    /// Asks for a Pong.
    pub const Ping: Self = Self(11);
    /// Answers a Ping with its bytes.
    pub const Pong: Self = Self(12);
    /// How many data frames have arrived in this session.
    pub const Ack: Self = Self(13);
    /// Finish what runs, start nothing new here.
    pub const GoAway: Self = Self(14);
    /// Messages that an overload policy dropped at this point of the stream.
    pub const Gap: Self = Self(15);

    /// The byte of the wire.
    #[inline]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::OneWay => "OneWay",
            Self::Request => "Request",
            Self::Response => "Response",
            Self::Failure => "Failure",
            Self::Cancel => "Cancel",
            Self::Hello => "Hello",
            Self::Welcome => "Welcome",
            Self::Goodbye => "Goodbye",
            Self::Ping => "Ping",
            Self::Pong => "Pong",
            Self::Ack => "Ack",
            Self::GoAway => "GoAway",
            Self::Gap => "Gap",
            _ => "unknown",
        })
    }
}

impl PacketType {
    #[inline(always)]
    pub(crate) fn parse(byte: u8, version: WireVersion) -> Result<Self, DecodeError> {
        let packet_type = match byte {
            0 => return Ok(Self::OneWay),
            1 => return Ok(Self::Request),
            2 => return Ok(Self::Response),
            3 => Self::Failure,
            4 => Self::Cancel,
            8 => Self::Hello,
            9 => Self::Welcome,
            10 => Self::Goodbye,
            11 => Self::Ping,
            12 => Self::Pong,
            13 => Self::Ack,
            14 => Self::GoAway,
            15 => Self::Gap,
            #[cfg(msgtrans_planted = "4")]
            _ => None.unwrap(),
            #[cfg(not(msgtrans_planted = "4"))]
            _ => {
                return Err(DecodeError::UnknownPacketType {
                    packet_type: byte,
                    version,
                });
            }
        };
        if version == WireVersion::V1 {
            return Err(DecodeError::UnknownPacketType {
                packet_type: byte,
                version,
            });
        }
        Ok(packet_type)
    }

    /// Whether frames of this type are data: counted, replayed, bounded by the session's limits. Types 0 to 4 and 15.
    #[inline]
    pub const fn is_data(self) -> bool {
        self.0 <= 4 || matches!(self, Self::Gap)
    }

    /// Whether version 1 has this type.
    pub const fn is_v1(self) -> bool {
        self.0 <= 2
    }
}

/// How a payload is compressed on the wire.
///
/// A byte with names rather than an enum: the compiler must not hide the tag of an `Option<Packet>` in it, because every
/// move of a packet would then take the byte out of its word and put it back, a stalled store each time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Compression(u8);

#[expect(
    non_upper_case_globals,
    reason = "they are used like the variants of an enum"
)]
impl Compression {
    /// As it is.
    pub const None: Self = Self(0);
    /// One zstd frame.
    pub const Zstd: Self = Self(1);
    /// One zlib stream.
    pub const Zlib: Self = Self(2);
    /// One LZ4 block; v2.
    pub const Lz4: Self = Self(3);

    /// The byte of the wire.
    #[inline]
    pub const fn as_u8(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::None => "None",
            Self::Zstd => "Zstd",
            Self::Zlib => "Zlib",
            Self::Lz4 => "Lz4",
            _ => "unknown",
        })
    }
}

impl Compression {
    #[inline(always)]
    pub(crate) fn parse(byte: u8, version: WireVersion) -> Result<Self, DecodeError> {
        match (byte, version) {
            (0, _) => Ok(Self::None),
            (1, _) => Ok(Self::Zstd),
            (2, _) => Ok(Self::Zlib),
            (3, WireVersion::V2) => Ok(Self::Lz4),
            _ => Err(DecodeError::UnknownCompression {
                compression: byte,
                version,
            }),
        }
    }
}

/// The flag bits of a header. Bits that the wire format does not name never survive a decode or an encode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u16);

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);
    /// Carried, never acted on.
    pub const FRAGMENTED: Flags = Flags(1);
    /// The application's hint.
    pub const HIGH_PRIORITY: Flags = Flags(1 << 1);
    /// The extended header holds a route tag.
    pub const HAS_ROUTE_TAG: Flags = Flags(1 << 2);
    /// May be lost on the way; OneWay and v2 alone.
    pub const UNRELIABLE: Flags = Flags(1 << 3);
    /// The extended header begins with our own TLVs; v2. Set by the codec from [`Packet::meta`].
    pub(crate) const META: Flags = Flags(1 << 4);
    /// The sender wants an Ack at once; v2.
    pub const ACK_NOW: Flags = Flags(1 << 5);
    /// Never on the wire: the session numbers this packet when it takes it, unless the application set an id.
    pub(crate) const AUTO_ID: Flags = Flags(1 << 15);

    const V1_BITS: u16 = 0b111;
    const V2_BITS: u16 = 0b11_1111;

    const fn known(version: WireVersion) -> u16 {
        match version {
            WireVersion::V1 => Self::V1_BITS,
            WireVersion::V2 => Self::V2_BITS,
        }
    }

    #[inline]
    pub(crate) const fn from_wire(bits: u16, version: WireVersion) -> Self {
        Self(bits & Self::known(version))
    }

    #[inline]
    pub(crate) const fn to_wire(self, version: WireVersion) -> u16 {
        self.0 & Self::known(version)
    }

    /// Whether no bit would go on any wire.
    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & Self::V2_BITS == 0
    }

    /// The bits as they would go on a v2 wire.
    pub const fn bits(self) -> u16 {
        self.0 & Self::V2_BITS
    }

    /// Whether every bit of `other` is set.
    #[inline]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and `other`.
    #[must_use]
    pub const fn with(self, other: Flags) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags without `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Self {
        Self(self.0 & !other.0)
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        self.with(other)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::FRAGMENTED, "FRAGMENTED"),
            (Self::HIGH_PRIORITY, "HIGH_PRIORITY"),
            (Self::HAS_ROUTE_TAG, "HAS_ROUTE_TAG"),
            (Self::UNRELIABLE, "UNRELIABLE"),
            (Self::META, "META"),
            (Self::ACK_NOW, "ACK_NOW"),
        ];
        let mut list = f.debug_list();
        list.entries(
            names
                .iter()
                .filter(|(flag, _)| self.contains(*flag))
                .map(|(_, name)| format_args!("{name}").to_string()),
        );
        list.finish()
    }
}

/// One message, request, response or control frame.
///
/// Cloning shares the payload. A packet that came from the network shares a larger read buffer; call
/// [`Packet::detach`] before keeping a small one for long.
#[derive(Clone, PartialEq)]
pub struct Packet {
    /// What it is.
    pub packet_type: PacketType,
    /// How the payload goes, or came, over the wire. A session hands over packets already decompressed (`None`);
    /// setting it on a packet to send asks the session to compress.
    pub compression: Compression,
    /// The application's own, carried untouched.
    pub biz_type: u8,
    /// Names the packet (wire format, section 3). The constructors leave it to the session's counter.
    pub message_id: u32,
    /// Hints of the application.
    pub flags: Flags,
    /// The application's own header, at most 65 535 bytes, never compressed.
    pub ext_header: ExtHeader,
    /// The message itself.
    pub payload: Bytes,
    /// Deadline, trace context, key, code: what v2 carries in front of the extended header.
    pub meta: Option<Box<Meta>>,
}

/// Type and compression in [`Packet::word`].
const ALL_BUT_FLAGS: u32 = 0xFFFF_0000;

impl Packet {
    /// A packet of `packet_type` whose id the session chooses.
    pub fn new(packet_type: PacketType, payload: impl Into<Bytes>) -> Self {
        Self {
            packet_type,
            compression: Compression::None,
            biz_type: 0,
            message_id: 0,
            flags: Flags::AUTO_ID,
            ext_header: ExtHeader::new(),
            payload: payload.into(),
            meta: None,
        }
    }

    /// Whether it is a one-way message with which nothing is to be done but to hand it on: not compressed, and no Ack
    /// is wanted at once.
    #[inline(always)]
    pub fn is_plain_message(&self) -> bool {
        self.word() & (ALL_BUT_FLAGS | u32::from(Flags::ACK_NOW.0)) == 0
    }

    /// Flags, type and compression, which lie side by side, as one number: one look instead of three. It is 0 for a
    /// OneWay that is not compressed and has no flags.
    #[inline(always)]
    fn word(&self) -> u32 {
        u32::from(self.flags.0)
            | u32::from(self.packet_type.0) << 16
            | u32::from(self.compression.0) << 24
    }

    /// A decoded packet from the first half of a plain header: version, compression, type, biz_type, id.
    #[inline(always)]
    pub(crate) fn plain(head: u64, payload: Bytes) -> Self {
        Self {
            packet_type: PacketType((head >> 40) as u8),
            compression: Compression::None,
            biz_type: (head >> 32) as u8,
            message_id: head as u32,
            flags: Flags::NONE,
            ext_header: ExtHeader::new(),
            payload,
            meta: None,
        }
    }

    /// Whether the packet has nothing but type, biz_type, id and payload: the first half of its header without the
    /// version, if so.
    #[inline(always)]
    pub(crate) fn plain_head(&self) -> Option<u64> {
        let plain = self.packet_type.is_v1()
            && self.compression == Compression::None
            && self.flags.is_plain()
            && self.ext_header.is_empty()
            && self.meta.is_none();
        plain.then(|| {
            u64::from(self.packet_type.0) << 40
                | u64::from(self.biz_type) << 32
                | u64::from(self.message_id)
        })
    }

    /// [`plain_head`](Self::plain_head) of one that is a one-way message.
    #[inline(always)]
    pub(crate) fn plain_message_head(&self) -> Option<u64> {
        let plain = self.word() & (ALL_BUT_FLAGS | u32::from(Flags::V2_BITS)) == 0
            && self.ext_header.is_empty()
            && self.meta.is_none();
        plain.then(|| u64::from(self.biz_type) << 32 | u64::from(self.message_id))
    }

    /// Drops the packet, for who drops one a message: what hardly any packet has is looked for here, which costs less than
    /// the call of the code that drops all parts.
    #[inline(always)]
    pub fn done_with(self) {
        if !self.ext_header.is_empty() || self.meta.is_some() {
            return drop(self);
        }
        let Self {
            payload,
            ext_header,
            meta,
            ..
        } = self;
        // Nothing is in them, so nothing leaks.
        std::mem::forget((ext_header, meta));
        drop(payload);
    }

    /// A one-way text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(PacketType::OneWay, text.into())
    }

    /// A one-way message of bytes.
    pub fn binary(payload: impl Into<Bytes>) -> Self {
        Self::new(PacketType::OneWay, payload)
    }

    /// A one-way message with the id and payload of the message that it answers.
    pub fn echo(message_id: u32, payload: impl Into<Bytes>) -> Self {
        Self {
            message_id,
            flags: Flags::NONE,
            ..Self::new(PacketType::OneWay, payload)
        }
    }

    /// A request; [`message_id`](Self::message_id) is given by the session that sends it.
    pub fn request(payload: impl Into<Bytes>) -> Self {
        Self::new(PacketType::Request, payload)
    }

    /// A response; the session puts the request's id and, where this one's is 0, its biz_type.
    pub fn response(payload: impl Into<Bytes>) -> Self {
        Self::new(PacketType::Response, payload)
    }

    /// A failed request: `code` for programs, `message` for people.
    pub fn failure(request_id: u32, code: Code, message: impl Into<String>) -> Self {
        let meta = Meta {
            code: Some(code),
            ..Meta::default()
        };
        Self {
            message_id: request_id,
            flags: Flags::NONE,
            ..Self::new(PacketType::Failure, message.into())
        }
        .with_meta(meta)
    }

    /// A control or other frame with exactly this id.
    pub fn numbered(packet_type: PacketType, message_id: u32, payload: impl Into<Bytes>) -> Self {
        Self {
            message_id,
            flags: Flags::NONE,
            ..Self::new(packet_type, payload)
        }
    }

    /// Sets the id; a session leaves it as it is, even 0.
    #[must_use]
    pub fn with_message_id(mut self, message_id: u32) -> Self {
        self.message_id = message_id;
        self.flags = self.flags.without(Flags::AUTO_ID);
        self
    }

    /// Sets the application's type.
    #[must_use]
    pub fn with_biz_type(mut self, biz_type: u8) -> Self {
        self.biz_type = biz_type;
        self
    }

    /// Sets the extended header.
    #[must_use]
    pub fn with_ext_header(mut self, ext_header: impl Into<ExtHeader>) -> Self {
        self.ext_header = ext_header.into();
        self
    }

    /// Adds `flags`.
    #[must_use]
    pub fn with_flags(mut self, flags: Flags) -> Self {
        self.flags = self.flags.with(flags);
        self
    }

    /// Asks the session to compress the payload, where the peer takes it.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets what v2 carries beside the application's header.
    #[must_use]
    pub fn with_meta(mut self, meta: Meta) -> Self {
        self.meta = (meta != Meta::default()).then(|| Box::new(meta));
        self
    }

    /// The payload as text; `None` if it is not UTF-8.
    pub fn payload_as_string(&self) -> Option<String> {
        self.payload_as_str().map(str::to_owned)
    }

    /// The payload as text without a copy; `None` if it is not UTF-8.
    pub fn payload_as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.payload).ok()
    }

    /// Numbers the packet with `next` unless the application set an id.
    #[inline]
    pub fn assign_id(&mut self, next: impl FnOnce() -> u32) {
        if self.flags.contains(Flags::AUTO_ID) {
            if self.message_id == 0 {
                self.message_id = next();
            }
            self.flags = self.flags.without(Flags::AUTO_ID);
        }
    }

    /// What each packet counts for in a queue, whatever is in it.
    pub(crate) const QUEUED_BYTES: usize = 64;

    /// Bytes that the packet occupies in a queue: extended header, payload and 64 for the rest, so that a queue of
    /// empty packets is bounded too.
    #[inline]
    pub fn queued_bytes(&self) -> usize {
        Self::QUEUED_BYTES + self.ext_header.len() + self.payload.len()
    }

    /// Copies a payload of at most `max` bytes (and a header of that size) out of the buffer it shares, so that a
    /// small packet kept for long does not keep a large read buffer alive.
    pub fn detach(&mut self, max: usize) {
        if !self.ext_header.is_empty() && self.ext_header.len() <= max {
            self.ext_header = Bytes::copy_from_slice(&self.ext_header).into();
        }
        if !self.payload.is_empty() && self.payload.len() <= max {
            self.payload = Bytes::copy_from_slice(&self.payload);
        }
    }
}

macro_rules! from_payload {
    ($($payload:ty),*) => {$(
        impl From<$payload> for Packet {
            /// A one-way message.
            fn from(payload: $payload) -> Self {
                Self::binary(payload)
            }
        }
    )*};
}

from_payload!(&'static str, String, &'static [u8], Vec<u8>, Bytes);

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Payloads are never printed: logs must not hold what users send.
        f.debug_struct("Packet")
            .field("packet_type", &self.packet_type)
            .field("message_id", &self.message_id)
            .field("biz_type", &self.biz_type)
            .field("flags", &self.flags)
            .field("compression", &self.compression)
            .field("ext_header_len", &self.ext_header.len())
            .field("payload_len", &self.payload.len())
            .field("meta", &self.meta)
            .finish()
    }
}
