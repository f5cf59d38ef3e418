//! One frame in one binary message: a hand-written upgrade, then the TCP loop with unmasking.

use crate::server::{FRAME_MAX, Reply, Service};
use crate::tcp::{checked_header, count_response};
use bench_kit::frame::{self, HEADER_LEN, ONE_WAY, REQUEST, RESPONSE};
use bench_kit::websocket::{self, BINARY, CLOSE, HEADER_MAX, Head, PING, PONG};
use std::io;
use std::ops::Range;

/// Echo, or sink, inside WebSocket.
pub(crate) struct Ws {
    pub(crate) sink: bool,
    /// Whether a Hello comes first, and is answered with a Welcome.
    pub(crate) greet: bool,
    /// The sessions so far.
    pub(crate) sessions: u64,
}

/// What a connection remembers.
#[derive(Default)]
pub(crate) struct State {
    upgraded: bool,
    greeted: bool,
    count: u64,
}

fn refused(why: &'static str) -> io::Error {
    io::Error::other(why)
}

fn checked_head(bytes: &[u8]) -> io::Result<Option<(Head, [u8; 4])>> {
    let Some(head) = Head::decode(bytes) else {
        return Ok(None);
    };
    match head.mask {
        Some(_) if head.payload_len > FRAME_MAX => Err(refused("too large")),
        Some(mask) => Ok(Some((head, mask))),
        None => Err(refused("a client has to mask")),
    }
}

impl Ws {
    /// The header of one whole inner frame; a Request that is echoed becomes a Response.
    fn check_inner(
        &self,
        state: &mut State,
        frame: &mut [u8],
    ) -> io::Result<Option<[u8; HEADER_LEN + 8]>> {
        let header = checked_header(frame)?.ok_or_else(|| refused("less than a frame"))?;
        if header.frame_len() != frame.len() {
            return Err(refused("not exactly one frame"));
        }
        match header.packet_type {
            REQUEST if self.sink => return Ok(Some(count_response(&header, state.count))),
            REQUEST => frame[2] = RESPONSE,
            ONE_WAY => state.count += 1,
            _ => {}
        }
        Ok(None)
    }
}

fn push(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    push_head(out, first, payload.len());
    out.extend_from_slice(payload);
}

#[inline]
fn push_head(out: &mut Vec<u8>, first: u8, payload_len: usize) {
    let mut head = [0; HEADER_MAX];
    let len = websocket::encode_head(&mut head, first, payload_len, None);
    out.extend_from_slice(&head[..len]);
}

impl Service for Ws {
    type State = State;

    fn frame_len(&self, state: &State, bytes: &[u8]) -> io::Result<Option<usize>> {
        if !state.upgraded {
            return Ok(None);
        }
        Ok(checked_head(bytes)?.map(|(head, _)| head.len + head.payload_len))
    }

    fn serve(
        &mut self,
        state: &mut State,
        data: &mut [u8],
        out: &mut Vec<u8>,
    ) -> io::Result<(usize, Reply)> {
        let mut at = 0;
        if !state.upgraded {
            let Some(len) = websocket::http_head_len(data) else {
                return Ok((0, Reply::Out));
            };
            let request = std::str::from_utf8(&data[..len]).map_err(|_| refused("not HTTP"))?;
            let response =
                websocket::upgrade_response(request).ok_or_else(|| refused("no upgrade"))?;
            out.extend_from_slice(response.as_bytes());
            state.upgraded = true;
            at = len;
        }
        while let Some((head, mask)) = checked_head(&data[at..])? {
            let (begin, end) = (at + head.len, at + head.len + head.payload_len);
            if data.len() < end {
                break;
            }
            match head.first {
                BINARY if self.greet && !state.greeted => {
                    let hello = &mut data[begin..end];
                    websocket::apply_mask(hello, mask);
                    self.sessions += 1;
                    let welcome = frame::welcome_to(hello, self.sessions)
                        .ok_or_else(|| refused("no Hello"))?;
                    push(out, BINARY, &welcome);
                    state.greeted = true;
                }
                BINARY if self.sink => {
                    let frame = &mut data[begin..end];
                    websocket::apply_mask(frame, mask);
                    if let Some(response) = self.check_inner(state, frame)? {
                        push(out, BINARY, &response);
                    }
                }
                BINARY => {
                    push_head(out, BINARY, head.payload_len);
                    let from = out.len();
                    websocket::extend_masked(out, &data[begin..end], mask);
                    self.check_inner(state, &mut out[from..])?;
                }
                PING | CLOSE => {
                    let payload = &mut data[begin..end];
                    websocket::apply_mask(payload, mask);
                    push(out, if head.first == PING { PONG } else { CLOSE }, payload);
                }
                PONG => {}
                _ => {
                    return Err(refused(
                        "neither a whole binary message nor a control frame",
                    ));
                }
            }
            at = end;
        }
        Ok((at, Reply::Out))
    }

    fn serve_large(
        &mut self,
        state: &mut State,
        frame: &mut [u8],
        out: &mut Vec<u8>,
    ) -> io::Result<Range<usize>> {
        let (head, mask) = checked_head(frame)?.ok_or_else(|| refused("less than a frame"))?;
        if head.first != BINARY {
            return Err(refused("a large frame that is not binary"));
        }
        let end = frame.len();
        let inner = &mut frame[head.len..];
        websocket::apply_mask(inner, mask);
        match self.check_inner(state, inner)? {
            Some(response) => push(out, BINARY, &response),
            None if self.sink => {}
            None => {
                push_head(out, BINARY, head.payload_len);
                return Ok(head.len..end);
            }
        }
        Ok(0..0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(greet: bool) -> Ws {
        Ws {
            sink: false,
            greet,
            sessions: 0,
        }
    }

    #[test]
    fn upgrade_and_a_masked_echo_in_one_read() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let mut data = websocket::upgrade_request("h", key, None).into_bytes();
        let inner = [1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 2, 0, 0, b'h', b'i'];
        let mask = [1, 2, 3, 4];
        data.extend([0x82, 0x80 | 18, 1, 2, 3, 4]);
        websocket::extend_masked(&mut data, &inner, mask);
        let (mut state, mut out) = (State::default(), Vec::new());
        let (served, _) = echo(false)
            .serve(&mut state, &mut data, &mut out)
            .expect("served");
        assert_eq!(served, data.len());
        assert!(out.starts_with(b"HTTP/1.1 101 "));
        assert!(out.ends_with(&[&[0x82, 18], &inner[..]].concat()));
    }

    #[test]
    fn a_hello_is_welcomed_once_where_peers_are_greeted() {
        let mut state = State {
            upgraded: true,
            ..State::default()
        };
        let mut hello = [0; HEADER_LEN];
        (hello[0], hello[2]) = (2, frame::HELLO);
        let message = [&[0x82, 0x80 | 16, 0, 0, 0, 0], &hello[..]].concat();
        let mut server = echo(true);
        let mut out = Vec::new();
        server
            .serve(&mut state, &mut message.clone(), &mut out)
            .expect("welcomed");
        let welcome = frame::welcome_to(&hello, 1).expect("a Hello");
        assert_eq!(out, [&[0x82, welcome.len() as u8], &welcome[..]].concat());
        let again = server.serve(&mut state, &mut message.clone(), &mut Vec::new());
        assert!(again.is_err());
    }

    #[test]
    fn a_message_that_is_not_exactly_one_frame_is_refused() {
        let mut state = State {
            upgraded: true,
            ..State::default()
        };
        let inner = [1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 3, 0, 0, b'h', b'i'];
        let mut data = [&[0x82, 0x80 | 18, 0, 0, 0, 0], &inner[..]].concat();
        assert!(
            echo(false)
                .serve(&mut state, &mut data, &mut Vec::new())
                .is_err()
        );
    }
}
