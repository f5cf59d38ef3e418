//! WebSocket by hand: upgrade requests and frames, right or wrong in any bit.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Opcodes.
pub mod opcode {
    /// Goes on where a fragmented message stopped.
    pub const CONTINUATION: u8 = 0;
    /// Text.
    pub const TEXT: u8 = 1;
    /// Bytes.
    pub const BINARY: u8 = 2;
    /// The end.
    pub const CLOSE: u8 = 8;
    /// A sign of life that asks for one.
    pub const PING: u8 = 9;
    /// The answer to a ping.
    pub const PONG: u8 = 10;
}

/// How a length is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// In the fewest bytes, as the RFC wants it.
    Minimal,
    /// In 16 bits, whatever it is.
    Wide,
    /// In 64 bits, whatever it is.
    Widest,
    /// Claimed to be this, in 64 bits.
    Claimed(u64),
}

/// One frame of a client.
#[derive(Clone, Debug)]
pub struct ClientFrame {
    /// FIN, three reserved bits, opcode.
    pub first: u8,
    /// The masking key; a client must have one.
    pub mask: Option<[u8; 4]>,
    /// How the length is written.
    pub length: Length,
    /// What the frame carries.
    pub payload: Vec<u8>,
}

impl ClientFrame {
    /// A whole message, masked as it must be.
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            first: 0x80 | opcode,
            mask: Some([0x5A, 0x11, 0xC3, 0x7E]),
            length: Length::Minimal,
            payload: payload.into(),
        }
    }

    /// More of the message follows.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.first &= 0x7F;
        self
    }

    /// With these reserved bits, of 0x70.
    #[must_use]
    pub fn reserved(mut self, bits: u8) -> Self {
        self.first |= bits & 0x70;
        self
    }

    /// Without a mask.
    #[must_use]
    pub fn unmasked(mut self) -> Self {
        self.mask = None;
        self
    }

    /// With its length written so.
    #[must_use]
    pub fn length(mut self, length: Length) -> Self {
        self.length = length;
        self
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.payload.len() + 14);
        self.put(&mut bytes);
        bytes
    }

    /// The same, behind what is there already.
    pub fn put(&self, bytes: &mut Vec<u8>) {
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        let len = self.payload.len();
        bytes.push(self.first);
        match (self.length, u8::try_from(len), u16::try_from(len)) {
            (Length::Minimal, Ok(short @ 0..=125), _) => bytes.push(masked | short),
            (Length::Minimal | Length::Wide, _, Ok(medium)) => {
                bytes.push(masked | 126);
                bytes.extend_from_slice(&medium.to_be_bytes());
            }
            (form, ..) => {
                let len = match form {
                    Length::Claimed(len) => len,
                    _ => len as u64,
                };
                bytes.push(masked | 127);
                bytes.extend_from_slice(&len.to_be_bytes());
            }
        }
        let start = bytes.len() + if self.mask.is_some() { 4 } else { 0 };
        if let Some(mask) = self.mask {
            bytes.extend_from_slice(&mask);
        }
        bytes.extend_from_slice(&self.payload);
        if let Some(mask) = self.mask {
            for (byte, key) in bytes[start..].iter_mut().zip(mask.iter().cycle()) {
                *byte ^= key;
            }
        }
    }
}

/// A request that a server must grant, with `extra` lines, each ended by CRLF.
pub fn upgrade_request(host: &str, extra: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
}

/// Asks for an upgrade to version 2 and reads the answer, which must be 101.
///
/// # Errors
/// Refused, or no answer.
pub async fn upgrade(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
) -> io::Result<()> {
    upgrade_with(stream, host, "Sec-WebSocket-Protocol: msgtrans.v2\r\n").await
}

/// The same with `extra` lines alone: without a subprotocol the first frame decides the version.
///
/// # Errors
/// Refused, or no answer.
pub async fn upgrade_with(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    extra: &str,
) -> io::Result<()> {
    let request = upgrade_request(host, extra);
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let (status, head) = response(stream).await?;
    if status == 101 {
        Ok(())
    } else {
        Err(io::Error::other(head))
    }
}

/// Reads the head of a response: its status and its text. No byte behind it is taken.
///
/// # Errors
/// The stream ends before the head, or the head is no response.
pub async fn response(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u16, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < 64 * 1024 {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(text.clone()))?;
    Ok((status, text))
}

/// The next frame of a server: first byte and payload. `None` at the end of the stream, or where a server breaks the
/// RFC by masking.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    let len = match stream.read_u8().await.ok()? {
        short @ 0..=125 => u64::from(short),
        126 => u64::from(stream.read_u16().await.ok()?),
        127 => stream.read_u64().await.ok()?,
        _ => return None,
    };
    let mut payload = vec![0; usize::try_from(len).ok().filter(|len| *len <= 64 << 20)?];
    stream.read_exact(&mut payload).await.ok()?;
    Some((first, payload))
}
