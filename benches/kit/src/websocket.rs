//! As much of RFC 6455 as binary messages in single frames need: the upgrade, frame headers, masking.

use base64::Engine;
use sha1::{Digest, Sha1};

/// Opcode of a binary message, FIN set.
pub const BINARY: u8 = 0x82;
/// Opcode of a close frame, FIN set.
pub const CLOSE: u8 = 0x88;
/// Opcode of a ping, FIN set.
pub const PING: u8 = 0x89;
/// Opcode of a pong, FIN set.
pub const PONG: u8 = 0x8a;
/// The longest header: 2 bytes, 8 of length, 4 of mask.
pub const HEADER_MAX: usize = 14;

/// A frame header as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// First byte: FIN, reserved bits and opcode.
    pub first: u8,
    /// Bytes of the header itself.
    pub len: usize,
    /// Bytes of payload behind it.
    pub payload_len: usize,
    /// The mask, where there is one.
    pub mask: Option<[u8; 4]>,
}

impl Head {
    /// Reads a header; `None` while bytes are missing.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else {
            return None;
        };
        let (mut len, payload_len) = match second & 0x7f {
            126 => (4, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (
                10,
                usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?,
            ),
            short => (2, usize::from(short)),
        };
        let mut mask = None;
        if second & 0x80 != 0 {
            mask = Some(*bytes.get(len..)?.first_chunk()?);
            len += 4;
        }
        Some(Self {
            first: *first,
            len,
            payload_len,
            mask,
        })
    }
}

/// Writes a header and says how long it is.
#[inline]
pub fn encode_head(
    out: &mut [u8; HEADER_MAX],
    first: u8,
    payload_len: usize,
    mask: Option<[u8; 4]>,
) -> usize {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    out[0] = first;
    let mut len = match payload_len {
        0..126 => {
            out[1] = masked | payload_len as u8;
            2
        }
        126..=0xffff => {
            out[1] = masked | 126;
            out[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            out[1] = masked | 127;
            out[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    };
    if let Some(mask) = mask {
        out[len..len + 4].copy_from_slice(&mask);
        len += 4;
    }
    len
}

/// Masks or unmasks in place, eight bytes at a time.
#[inline]
pub fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    let word = wide(mask);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends `bytes`, masked or unmasked on the way.
#[inline]
pub fn extend_masked(out: &mut Vec<u8>, bytes: &[u8], mask: [u8; 4]) {
    let from = out.len();
    out.extend_from_slice(bytes);
    apply_mask(&mut out[from..], mask);
}

fn wide(mask: [u8; 4]) -> u64 {
    let [a, b, c, d] = mask;
    u64::from_ne_bytes([a, b, c, d, a, b, c, d])
}

/// What the server has to answer to this `Sec-WebSocket-Key`.
pub fn accept_value(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(hash.finalize())
}

/// Where an HTTP head ends (behind the empty line); `None` while it has not.
pub fn http_head_len(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 4)
}

/// The value of the first header with this name, trimmed.
pub fn http_header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.split("\r\n").skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The client's upgrade request; `protocol` is the subprotocol that it offers.
pub fn upgrade_request(host: &str, key: &str, protocol: Option<&str>) -> String {
    let offer = protocol
        .map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"))
        .unwrap_or_default();
    format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{offer}\r\n"
    )
}

/// The server's answer to an upgrade request, the offered subprotocol taken; `None` when it is no such request.
pub fn upgrade_response(request: &str) -> Option<String> {
    let key = http_header(request, "sec-websocket-key")?;
    let taken = http_header(request, "sec-websocket-protocol")
        .and_then(|offer| offer.split(',').next())
        .map(|name| format!("Sec-WebSocket-Protocol: {}\r\n", name.trim()))
        .unwrap_or_default();
    Some(format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{taken}\r\n",
        accept_value(key)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_value_is_that_of_the_rfc() {
        assert_eq!(
            accept_value("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn masked_hello_is_that_of_the_rfc() {
        let by_hand = [
            0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58,
        ];
        let head = Head::decode(&by_hand).expect("whole header");
        assert_eq!(
            head,
            Head {
                first: 0x81,
                len: 6,
                payload_len: 5,
                mask: Some([0x37, 0xfa, 0x21, 0x3d])
            }
        );
        let mut text = by_hand[6..].to_vec();
        apply_mask(&mut text, [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(text, b"Hello");
        assert_eq!(Head::decode(&by_hand[..5]), None);
    }

    #[test]
    fn headers_take_the_shortest_length_form() {
        let mut out = [0; HEADER_MAX];
        assert_eq!(encode_head(&mut out, BINARY, 125, None), 2);
        assert_eq!(out[..2], [0x82, 125]);
        assert_eq!(encode_head(&mut out, BINARY, 126, None), 4);
        assert_eq!(out[..4], [0x82, 126, 0, 126]);
        assert_eq!(
            encode_head(&mut out, BINARY, 0x1_0000, Some([1, 2, 3, 4])),
            14
        );
        assert_eq!(out, [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]);
        assert_eq!(
            Head::decode(&out).map(|head| head.payload_len),
            Some(0x1_0000)
        );
    }

    #[test]
    fn masking_keeps_its_phase_over_words_and_the_rest() {
        let mask = [1, 2, 3, 4];
        let plain: Vec<u8> = (0..61).collect();
        let expected: Vec<u8> = plain
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ mask[at % 4])
            .collect();
        let mut out = vec![9];
        extend_masked(&mut out, &plain, mask);
        assert_eq!(out[1..], expected);
    }

    #[test]
    fn upgrade_takes_the_offered_subprotocol() {
        let request = upgrade_request("h:1", "dGhlIHNhbXBsZSBub25jZQ==", Some("msgtrans.v2"));
        assert_eq!(http_head_len(request.as_bytes()), Some(request.len()));
        let response = upgrade_response(&request).expect("an upgrade");
        assert_eq!(
            http_header(&response, "Sec-WebSocket-Protocol"),
            Some("msgtrans.v2")
        );
        assert_eq!(
            http_header(&response, "sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert_eq!(upgrade_response("GET / HTTP/1.1\r\n\r\n"), None);
    }
}
