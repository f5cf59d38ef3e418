//! [`Frame`]: the sixteen header bytes with anything in them, as the wire format lays them out.

use tokio::io::{AsyncRead, AsyncReadExt};

/// Packet types by number.
pub mod kind {
    /// A message.
    pub const ONE_WAY: u8 = 0;
    /// A request.
    pub const REQUEST: u8 = 1;
    /// The answer to a request.
    pub const RESPONSE: u8 = 2;
    /// The failure of a request.
    pub const FAILURE: u8 = 3;
    /// A request is no longer awaited.
    pub const CANCEL: u8 = 4;
    /// The client's first frame.
    pub const HELLO: u8 = 8;
    /// The server's first frame.
    pub const WELCOME: u8 = 9;
    /// The last frame.
    pub const GOODBYE: u8 = 10;
    /// A sign of life that asks for one.
    pub const PING: u8 = 11;
    /// The answer to a ping.
    pub const PONG: u8 = 12;
    /// How many data frames have arrived.
    pub const ACK: u8 = 13;
    /// Start nothing new here.
    pub const GO_AWAY: u8 = 14;
    /// Messages were dropped here.
    pub const GAP: u8 = 15;
}

/// A frame. The lengths are those of the parts unless they are claimed to be others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Byte 0.
    pub version: u8,
    /// Byte 1.
    pub compression: u8,
    /// Byte 2.
    pub packet_type: u8,
    /// Byte 3.
    pub biz_type: u8,
    /// Bytes 4 to 7.
    pub message_id: u32,
    /// Bytes 8 and 9, where they lie.
    pub claimed_ext: Option<u16>,
    /// Bytes 10 to 13, where they lie.
    pub claimed_payload: Option<u32>,
    /// Bytes 14 and 15.
    pub flags: u16,
    /// The extended header.
    pub ext: Vec<u8>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// How long a header is.
    pub const HEADER: usize = 16;

    /// A frame of version 1.
    pub fn v1(packet_type: u8) -> Self {
        Self {
            version: 1,
            packet_type,
            ..Self::default()
        }
    }

    /// A frame of version 2.
    pub fn v2(packet_type: u8) -> Self {
        Self {
            version: 2,
            packet_type,
            ..Self::default()
        }
    }

    /// A Hello that asks for nothing.
    pub fn hello() -> Self {
        Self::v2(kind::HELLO).payload(tlv(1, &(16_842_767_u32).to_be_bytes()))
    }

    /// With this identifier.
    #[must_use]
    pub fn id(mut self, message_id: u32) -> Self {
        self.message_id = message_id;
        self
    }

    /// With this payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// With this extended header.
    #[must_use]
    pub fn ext(mut self, ext: impl Into<Vec<u8>>) -> Self {
        self.ext = ext.into();
        self
    }

    /// With these flags.
    #[must_use]
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    /// With this byte for the compression.
    #[must_use]
    pub fn compression(mut self, compression: u8) -> Self {
        self.compression = compression;
        self
    }

    /// Says that the payload has so many bytes, whatever it has.
    #[must_use]
    pub fn claiming(mut self, payload: u32) -> Self {
        self.claimed_payload = Some(payload);
        self
    }

    /// Says that the extended header has so many bytes, whatever it has.
    #[must_use]
    pub fn claiming_ext(mut self, ext: u16) -> Self {
        self.claimed_ext = Some(ext);
        self
    }

    /// The bytes on the wire. A part that is longer than its field can say is claimed to be as long as that.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::HEADER + self.ext.len() + self.payload.len());
        self.put(&mut bytes);
        bytes
    }

    /// The same, behind what is there already.
    pub fn put(&self, bytes: &mut Vec<u8>) {
        let ext = self
            .claimed_ext
            .unwrap_or(u16::try_from(self.ext.len()).unwrap_or(u16::MAX));
        let payload = self
            .claimed_payload
            .unwrap_or(u32::try_from(self.payload.len()).unwrap_or(u32::MAX));
        bytes.extend_from_slice(&[
            self.version,
            self.compression,
            self.packet_type,
            self.biz_type,
        ]);
        bytes.extend_from_slice(&self.message_id.to_be_bytes());
        bytes.extend_from_slice(&ext.to_be_bytes());
        bytes.extend_from_slice(&payload.to_be_bytes());
        bytes.extend_from_slice(&self.flags.to_be_bytes());
        bytes.extend_from_slice(&self.ext);
        bytes.extend_from_slice(&self.payload);
    }

    /// Reads a frame of at most 64 MiB; `None` at the end of the stream, however it came.
    ///
    /// # Cancel safety
    /// None: what was read of a frame is lost.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let mut header = [0; Self::HEADER];
        from.read_exact(&mut header).await.ok()?;
        let mut frame = Self::of_header(&header);
        let (ext, payload) = (frame.claimed_ext.take()?, frame.claimed_payload.take()?);
        if payload > 64 << 20 {
            return None;
        }
        frame.ext = vec![0; usize::from(ext)];
        from.read_exact(&mut frame.ext).await.ok()?;
        frame.payload = vec![0; usize::try_from(payload).ok()?];
        from.read_exact(&mut frame.payload).await.ok()?;
        Some(frame)
    }

    /// The fields of a header, its lengths as claims.
    fn of_header(header: &[u8; Self::HEADER]) -> Self {
        let [v, c, t, b, i0, i1, i2, i3, e0, e1, p0, p1, p2, p3, f0, f1] = *header;
        Self {
            version: v,
            compression: c,
            packet_type: t,
            biz_type: b,
            message_id: u32::from_be_bytes([i0, i1, i2, i3]),
            claimed_ext: Some(u16::from_be_bytes([e0, e1])),
            claimed_payload: Some(u32::from_be_bytes([p0, p1, p2, p3])),
            flags: u16::from_be_bytes([f0, f1]),
            ext: Vec::new(),
            payload: Vec::new(),
        }
    }

    /// The frame that these bytes are, whole and alone.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk::<{ Self::HEADER }>()?;
        let mut frame = Self::of_header(header);
        let (ext, payload) = (frame.claimed_ext.take()?, frame.claimed_payload.take()?);
        let (ext, payload) = (usize::from(ext), usize::try_from(payload).ok()?);
        frame.ext = rest.get(..ext)?.to_vec();
        frame.payload = rest.get(ext..)?.to_vec();
        (frame.payload.len() == payload).then_some(frame)
    }

    /// The value of a TLV in the payload.
    pub fn tlv(&self, tag: u8) -> Option<&[u8]> {
        let mut rest = self.payload.as_slice();
        while let [found, high, low, behind @ ..] = rest {
            let len = usize::from(u16::from_be_bytes([*high, *low]));
            let value = behind.get(..len)?;
            if *found == tag {
                return Some(value);
            }
            rest = behind.get(len..)?;
        }
        None
    }

    /// The code of a Goodbye or GoAway.
    pub fn code(&self) -> Option<u16> {
        let value: [u8; 2] = self.tlv(16)?.try_into().ok()?;
        Some(u16::from_be_bytes(value))
    }
}

/// A TLV; a value above what its length field can say is cut.
pub fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&len.to_be_bytes());
    bytes.extend_from_slice(&value[..usize::from(len)]);
    bytes
}
