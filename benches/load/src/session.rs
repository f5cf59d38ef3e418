//! What a connection hears: upgrade, Welcome, then answers that are compared with what they must be.

use crate::shape::{Envelope, Kind, Shape};
use crate::{Trouble, trouble, zmtp};
use bench_kit::frame::{self, HEADER_LEN, Header};
use bench_kit::websocket::{self, BINARY};

/// An answer up to this size is checked when it is whole; of a larger one each piece is checked as it comes.
pub(crate) const WHOLE_MAX: usize = 32 * 1024;
/// The key of every upgrade; a server may not care whether it is random.
const KEY: &str = "bXNndHJhbnMtYmVuY2gtMQ==";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Upgrading,
    Greeting,
    Open,
}

/// What a piece of input brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fed {
    /// Bytes that are dealt with; the others have to be offered again with more behind them.
    pub(crate) consumed: usize,
    /// Answers that were right, in order.
    pub(crate) messages: u64,
    /// The session opened just now.
    pub(crate) opened: bool,
    /// Pongs.
    pub(crate) pongs: u64,
    /// The last count that a sink told.
    pub(crate) count: Option<u64>,
}

/// See the module.
pub(crate) struct Session {
    phase: Phase,
    /// The id whose answer comes next.
    expected: u32,
    /// Bytes of a large answer's payload that came already.
    body: Option<usize>,
    /// Requests of a sink run answered so far, and the count that the first answer told.
    count_base: Option<u64>,
}

impl Session {
    /// `first_id` is the id of the first message to come back.
    pub(crate) fn new(first_id: u32) -> Self {
        Self {
            phase: Phase::Upgrading,
            expected: first_id,
            body: None,
            count_base: None,
        }
    }

    /// Whether messages may be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Appends the first bytes of the connection; true when it is open with that.
    pub(crate) fn begin(&mut self, shape: &Shape, host: &str, out: &mut Vec<u8>) -> bool {
        if shape.envelope == Envelope::WebSocket {
            let protocol = if shape.version == 2 {
                "msgtrans.v2"
            } else {
                "msgtrans.v1"
            };
            out.extend_from_slice(websocket::upgrade_request(host, KEY, Some(protocol)).as_bytes());
            return false;
        }
        if shape.envelope == Envelope::Zmtp {
            zmtp::greet(out);
            return false;
        }
        self.greet(shape, out)
    }

    fn greet(&mut self, shape: &Shape, out: &mut Vec<u8>) -> bool {
        if shape.version == 2 {
            shape.push_hello(out);
            self.phase = Phase::Greeting;
        } else {
            self.phase = Phase::Open;
        }
        self.is_open()
    }

    /// Takes what was read; answers that it has to give at once go to `out`.
    pub(crate) fn feed(
        &mut self,
        shape: &Shape,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Fed, Trouble> {
        let mut fed = Fed::default();
        if self.phase == Phase::Upgrading {
            let len = match shape.envelope {
                Envelope::Zmtp => zmtp::greeting_len(input)?,
                _ => websocket::http_head_len(input),
            };
            let Some(len) = len else {
                return Ok(fed);
            };
            if shape.envelope == Envelope::WebSocket {
                check_upgrade(&input[..len], shape.version)?;
            }
            fed.consumed = len;
            fed.opened = self.greet(shape, out);
        }
        if self.body.is_some() {
            self.continue_body(shape, input, &mut fed)?;
        }
        let head_len = shape.reply_head_len();
        let reply_len = head_len + shape.payload_len;
        let echo = !matches!(shape.kind, Kind::Sink { .. });
        loop {
            let rest = &input[fed.consumed..];
            // The answer that is due next, compared with what it must be; anything else takes the long way.
            if echo
                && self.is_open()
                && rest.len() >= head_len
                && shape.is_reply_head(&rest[..head_len], self.expected)
            {
                if rest.len() >= reply_len {
                    if rest[head_len..reply_len] != *shape.reply_payload(self.expected) {
                        return trouble(format!(
                            "message {} came back with another payload",
                            self.expected
                        ));
                    }
                    self.answered(&mut fed);
                    fed.consumed += reply_len;
                    continue;
                }
                if reply_len > WHOLE_MAX {
                    fed.consumed += head_len;
                    self.body = Some(0);
                    self.continue_body(shape, input, &mut fed)?;
                }
                break;
            }
            match self.other(shape, rest, out, &mut fed)? {
                0 => break,
                len => fed.consumed += len,
            }
        }
        Ok(fed)
    }

    fn answered(&mut self, fed: &mut Fed) {
        self.expected = self.expected.wrapping_add(1);
        fed.messages += 1;
    }

    fn continue_body(&mut self, shape: &Shape, input: &[u8], fed: &mut Fed) -> Result<(), Trouble> {
        let from = self.body.take().unwrap_or_default();
        let missing = &shape.reply_payload(self.expected)[from..];
        let rest = &input[fed.consumed..];
        let len = missing.len().min(rest.len());
        if rest[..len] != missing[..len] {
            return trouble(format!(
                "message {} came back with another payload",
                self.expected
            ));
        }
        fed.consumed += len;
        if len == missing.len() {
            self.answered(fed);
        } else {
            self.body = Some(from + len);
        }
        Ok(())
    }

    /// One frame that is not the echo expected next; returns its length, 0 while it is incomplete.
    fn other(
        &mut self,
        shape: &Shape,
        rest: &[u8],
        out: &mut Vec<u8>,
        fed: &mut Fed,
    ) -> Result<usize, Trouble> {
        let Some((envelope_len, frame_len)) = shape.envelope.decode(rest) else {
            return Ok(0);
        };
        if shape.envelope == Envelope::WebSocket && rest[1] & 0x80 != 0 {
            return trouble("the server masks its frames");
        }
        let end = envelope_len + frame_len;
        if rest.len() < end {
            // Nothing that is not an echo is large, so this is an echo out of order or with another head.
            if frame_len > WHOLE_MAX && rest.len() >= envelope_len + HEADER_LEN {
                return trouble(self.unexpected(Header::decode(&rest[envelope_len..])));
            }
            return Ok(0);
        }
        let body = &rest[envelope_len..end];
        if shape.envelope == Envelope::WebSocket && rest[0] != BINARY {
            match rest[0] {
                websocket::PING => shape.push_ws_control(out, websocket::PONG, body),
                websocket::PONG => {}
                websocket::CLOSE => {
                    let code = body
                        .first_chunk()
                        .map_or(1005, |code| u16::from_be_bytes(*code));
                    return trouble(format!("the server closed with code {code}"));
                }
                first => {
                    return trouble(format!("a WebSocket frame that begins with {first:#04x}"));
                }
            }
            return Ok(end);
        }
        match Header::decode(body) {
            Some(header) if header.frame_len() == frame_len && header.version == shape.version => {
                self.handle(shape, header, &body[HEADER_LEN..], out, fed)?;
            }
            other => return trouble(self.unexpected(other)),
        }
        Ok(end)
    }

    fn handle(
        &mut self,
        shape: &Shape,
        header: Header,
        body: &[u8],
        out: &mut Vec<u8>,
        fed: &mut Fed,
    ) -> Result<(), Trouble> {
        match (header.packet_type, self.phase) {
            (frame::WELCOME, Phase::Greeting) => {
                let max_frame = frame::find_tlv(body, 1).and_then(|value| value.try_into().ok());
                let max_frame = max_frame.map_or(81_920, u32::from_be_bytes) as usize;
                if max_frame < HEADER_LEN + shape.payload_len {
                    return trouble(format!(
                        "the server accepts frames of at most {max_frame} bytes"
                    ));
                }
                self.phase = Phase::Open;
                fed.opened = true;
            }
            (frame::PING, Phase::Open) if shape.version == 2 => {
                shape.push_control(out, frame::PONG, header.message_id, body);
            }
            (frame::PONG, Phase::Open) => fed.pongs += 1,
            (frame::ACK, Phase::Open) => {}
            (frame::RESPONSE, Phase::Open) if let Kind::Sink { every } = shape.kind => {
                let Ok(count) = body.try_into().map(u64::from_be_bytes) else {
                    return trouble(format!("a count of {} bytes", body.len()));
                };
                if header.message_id != self.expected {
                    return trouble(self.unexpected(Some(header)));
                }
                self.check_count(count, every)?;
                self.expected = self.expected.wrapping_add(every);
                fed.messages += u64::from(every);
                fed.count = Some(count);
            }
            (frame::GOODBYE | frame::GO_AWAY, _) => {
                let code = frame::find_tlv(body, 16)
                    .and_then(|value| value.try_into().ok())
                    .map_or(0, u16::from_be_bytes);
                let reason = frame::find_tlv(body, 17)
                    .map(String::from_utf8_lossy)
                    .unwrap_or_default();
                return trouble(format!("the server said goodbye: code {code} {reason}"));
            }
            _ => return trouble(self.unexpected(Some(header))),
        }
        Ok(())
    }

    /// Between two answers of a sink lie `every - 1` one-way messages on this connection; other connections of the same
    /// run may add to the count.
    fn check_count(&mut self, count: u64, every: u32) -> Result<(), Trouble> {
        if let Some(before) = self.count_base.replace(count)
            && count < before + u64::from(every) - 1
        {
            return trouble(format!(
                "the sink counted from {before} to {count} where {} were sent",
                every - 1
            ));
        }
        Ok(())
    }

    fn unexpected(&self, header: Option<Header>) -> String {
        format!(
            "expected the answer to message {}, got {header:?} ({:?})",
            self.expected, self.phase
        )
    }
}

fn check_upgrade(head: &[u8], version: u8) -> Result<(), Trouble> {
    let text = String::from_utf8_lossy(head);
    if !text.starts_with("HTTP/1.1 101") {
        return trouble(format!(
            "no upgrade: {}",
            text.lines().next().unwrap_or_default()
        ));
    }
    if websocket::http_header(&text, "sec-websocket-accept") != Some(&websocket::accept_value(KEY))
    {
        return trouble("a wrong Sec-WebSocket-Accept");
    }
    // A peer that does not negotiate is as good as one that took the offer.
    let offered = format!("msgtrans.v{version}");
    match websocket::http_header(&text, "sec-websocket-protocol") {
        Some(taken) if taken != offered => {
            trouble(format!("subprotocol {taken} where {offered} was offered"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
