//! The 16-byte frame header, from section 1 of the wire specification, without the product's codec.

/// Bytes of a frame header.
pub const HEADER_LEN: usize = 16;

/// Data: a message without an answer.
pub const ONE_WAY: u8 = 0;
/// Data: a message that asks for a Response.
pub const REQUEST: u8 = 1;
/// Data: the answer to a Request.
pub const RESPONSE: u8 = 2;
/// Data, v2: the request could not be answered.
pub const FAILURE: u8 = 3;
/// Control, v2: the client's first frame.
pub const HELLO: u8 = 8;
/// Control, v2: the server's first frame.
pub const WELCOME: u8 = 9;
/// Control, v2: nothing follows.
pub const GOODBYE: u8 = 10;
/// Control, v2: are you there.
pub const PING: u8 = 11;
/// Control, v2: yes.
pub const PONG: u8 = 12;
/// Control, v2: data frames received so far.
pub const ACK: u8 = 13;
/// Control, v2: start nothing new here.
pub const GO_AWAY: u8 = 14;
/// Data, v2: messages were dropped at this point.
pub const GAP: u8 = 15;

/// A frame header; all integers are big-endian on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Header {
    /// 1 or 2.
    pub version: u8,
    /// 0: none.
    pub compression: u8,
    /// One of the constants of this module.
    pub packet_type: u8,
    /// The application's own.
    pub biz_type: u8,
    /// Which message.
    pub message_id: u32,
    /// Bytes of extended header.
    pub ext_header_len: u16,
    /// Bytes of payload.
    pub payload_len: u32,
    /// Flag bits.
    pub flags: u16,
}

impl Header {
    /// The bytes of this header.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = self.version;
        out[1] = self.compression;
        out[2] = self.packet_type;
        out[3] = self.biz_type;
        out[4..8].copy_from_slice(&self.message_id.to_be_bytes());
        out[8..10].copy_from_slice(&self.ext_header_len.to_be_bytes());
        out[10..14].copy_from_slice(&self.payload_len.to_be_bytes());
        out[14..16].copy_from_slice(&self.flags.to_be_bytes());
        out
    }

    /// Reads a header from the first 16 bytes; `None` while there are fewer.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let b: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        Some(Self {
            version: b[0],
            compression: b[1],
            packet_type: b[2],
            biz_type: b[3],
            message_id: u32::from_be_bytes([b[4], b[5], b[6], b[7]]),
            ext_header_len: u16::from_be_bytes([b[8], b[9]]),
            payload_len: u32::from_be_bytes([b[10], b[11], b[12], b[13]]),
            flags: u16::from_be_bytes([b[14], b[15]]),
        })
    }

    /// Header, extended header and payload together, in bytes.
    pub fn frame_len(&self) -> usize {
        HEADER_LEN + usize::from(self.ext_header_len) + self.payload_len as usize
    }
}

/// Appends one TLV (u8 tag, u16 length, value) as control frames carry them.
///
/// # Panics
/// When the value is longer than 65 535 bytes: no control frame holds that much.
pub fn push_tlv(out: &mut Vec<u8>, tag: u8, value: &[u8]) {
    let len = u16::try_from(value.len()).expect("a TLV value fits its u16 length");
    out.push(tag);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
}

/// The first TLV with this tag in the payload of a control frame.
pub fn find_tlv(mut tlvs: &[u8], tag: u8) -> Option<&[u8]> {
    while let [found, high, low, rest @ ..] = tlvs {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let value = rest.get(..len)?;
        if *found == tag {
            return Some(value);
        }
        tlvs = &rest[len..];
    }
    None
}

/// Bytes of the Welcome of [`welcome_to`].
pub const WELCOME_LEN: usize = HEADER_LEN + 11;

/// The shortest Welcome that names the session, in answer to a whole Hello and nothing else.
pub fn welcome_to(hello: &[u8], session: u64) -> Option<[u8; WELCOME_LEN]> {
    let said = Header::decode(hello)?;
    if said.version != 2 || said.packet_type != HELLO || said.frame_len() != hello.len() {
        return None;
    }
    let header = Header {
        version: 2,
        packet_type: WELCOME,
        payload_len: 11,
        ..Header::default()
    };
    let mut out = [0; WELCOME_LEN];
    out[..HEADER_LEN].copy_from_slice(&header.encode());
    out[HEADER_LEN..HEADER_LEN + 3].copy_from_slice(&[7, 0, 8]);
    out[HEADER_LEN + 3..].copy_from_slice(&session.to_be_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_is_laid_out_byte_by_byte() {
        let header = Header {
            version: 1,
            compression: 0,
            packet_type: REQUEST,
            biz_type: 10,
            message_id: 0x0102_0304,
            ext_header_len: 0x0506,
            payload_len: 0x0708_090a,
            flags: 0x0002,
        };
        let by_hand = [1, 0, 1, 10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 2];
        assert_eq!(header.encode(), by_hand);
        assert_eq!(Header::decode(&by_hand), Some(header));
        assert_eq!(Header::decode(&by_hand[..15]), None);
    }

    #[test]
    fn a_hello_alone_is_welcomed_by_name() {
        let header = Header {
            version: 2,
            packet_type: HELLO,
            ..Header::default()
        };
        let mut hello = header.encode().to_vec();
        let welcome = welcome_to(&hello, 0x0102).expect("a Hello");
        let said = Header::decode(&welcome).expect("a header");
        assert_eq!((said.version, said.packet_type), (2, WELCOME));
        assert_eq!(said.frame_len(), welcome.len());
        let session = 0x0102_u64.to_be_bytes();
        assert_eq!(find_tlv(&welcome[HEADER_LEN..], 7), Some(&session[..]));
        hello[2] = PING;
        assert_eq!(welcome_to(&hello, 1), None);
        hello[2] = HELLO;
        assert_eq!(welcome_to(&[&hello[..], b"more"].concat(), 1), None);
    }

    #[test]
    fn tlvs_are_found_by_tag_and_an_overrun_is_not() {
        let mut tlvs = Vec::new();
        push_tlv(&mut tlvs, 1, &[0, 1, 0x40, 0]);
        push_tlv(&mut tlvs, 6, b"x");
        assert_eq!(tlvs, [1, 0, 4, 0, 1, 0x40, 0, 6, 0, 1, b'x']);
        assert_eq!(find_tlv(&tlvs, 6), Some(&b"x"[..]));
        assert_eq!(find_tlv(&tlvs, 7), None);
        assert_eq!(find_tlv(&[6, 0, 9, 1], 6), None);
    }
}
