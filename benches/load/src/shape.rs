//! What every message of a run looks like, made once: a head with a hole for the id, and a payload cut from a pattern.

use bench_kit::frame::{self, HEADER_LEN, Header};
use bench_kit::websocket::{self, BINARY, HEADER_MAX, Head};

/// Payloads begin at one of so many steps into the pattern, by their id: a mixed-up payload does not match.
const STEPS: u32 = 64;
const STEP_LEN: usize = 64;
/// The mask of all client frames. A constant lets the payload be masked once for the whole run; the server's work is
/// the same as with any other.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0xe8];
/// The first message's id; 0 is never a request's.
pub(crate) const FIRST_ID: u32 = 1;
/// Where the message id stands in a frame.
const ID_AT: usize = 4;
const TYPE_AT: usize = 2;
/// max_frame in Hello: the largest legal frame.
const MAX_FRAME: u32 = 16_842_767;
const AGENT: &[u8] = b"msgtrans-bench load";

/// What stands around a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Envelope {
    Bare,
    /// Its length in four bytes, big-endian.
    Length4,
    /// Its length as message-io writes it: seven bits a byte, the lowest first.
    Varint,
    /// A message of one frame, as a ZMTP 3 DEALER sends it.
    Zmtp,
    WebSocket,
}

impl Envelope {
    /// The length of the head and that of the frame behind it; `None` while the head is incomplete.
    pub(crate) fn decode(self, bytes: &[u8]) -> Option<(usize, usize)> {
        match self {
            Self::Bare => Some((0, Header::decode(bytes)?.frame_len())),
            Self::Length4 => Some((4, u32::from_be_bytes(*bytes.first_chunk()?) as usize)),
            Self::Varint => {
                let len = 1 + bytes.iter().position(|byte| byte & 0x80 == 0)?;
                let value = bytes[..len]
                    .iter()
                    .rev()
                    .fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f));
                Some((len, value))
            }
            Self::Zmtp if bytes.first()? & ZMTP_LONG == 0 => Some((2, usize::from(*bytes.get(1)?))),
            Self::Zmtp => {
                let len = bytes.get(1..)?.first_chunk()?;
                Some((9, u64::from_be_bytes(*len) as usize))
            }
            Self::WebSocket => Head::decode(bytes).map(|head| (head.len, head.payload_len)),
        }
    }
}

/// A ZMTP frame whose length takes eight bytes.
const ZMTP_LONG: u8 = 2;

/// What is sent, and what comes back for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One-way messages that come back as they were.
    Echo,
    /// Requests; the Response carries the same payload.
    Request,
    /// One-way messages that do not come back; each `every`th is a Request for the count.
    Sink { every: u32 },
}

/// See the module.
pub(crate) struct Shape {
    pub(crate) version: u8,
    pub(crate) envelope: Envelope,
    pub(crate) kind: Kind,
    pub(crate) payload_len: usize,
    /// Bytes of one message as sent, envelope included.
    pub(crate) frame_len: usize,
    heartbeat_ms: Option<u32>,
    /// Envelope and header as sent, the id zero; masked on WebSocket.
    send_head: Vec<u8>,
    send_id_at: usize,
    mask: [u8; 4],
    /// Envelope and header as they must come back.
    reply_head: Vec<u8>,
    reply_id_at: usize,
    pattern: Vec<u8>,
    masked_pattern: Option<Vec<u8>>,
}

impl Shape {
    pub(crate) fn new(
        version: u8,
        envelope: Envelope,
        kind: Kind,
        payload_len: usize,
        heartbeat_ms: Option<u32>,
    ) -> Self {
        let sent = match kind {
            Kind::Echo | Kind::Sink { .. } => frame::ONE_WAY,
            Kind::Request => frame::REQUEST,
        };
        let reply = if kind == Kind::Request {
            frame::RESPONSE
        } else {
            sent
        };
        let header = Header {
            version,
            packet_type: sent,
            payload_len: u32::try_from(payload_len).unwrap_or(u32::MAX),
            ..Header::default()
        };
        let mask = if envelope == Envelope::WebSocket {
            MASK
        } else {
            [0; 4]
        };

        let mut send_head = Vec::new();
        push_envelope(
            &mut send_head,
            envelope,
            HEADER_LEN + payload_len,
            Some(mask),
        );
        let send_id_at = send_head.len() + ID_AT;
        websocket::extend_masked(&mut send_head, &header.encode(), mask);

        let mut reply_head = Vec::new();
        push_envelope(&mut reply_head, envelope, HEADER_LEN + payload_len, None);
        let reply_id_at = reply_head.len() + ID_AT;
        reply_head.extend_from_slice(
            &Header {
                packet_type: reply,
                ..header
            }
            .encode(),
        );

        let pattern = pattern(payload_len + STEPS as usize * STEP_LEN);
        let masked_pattern = (envelope == Envelope::WebSocket).then(|| {
            let mut masked = pattern.clone();
            websocket::apply_mask(&mut masked, mask);
            masked
        });
        Self {
            version,
            envelope,
            kind,
            payload_len,
            frame_len: send_head.len() + payload_len,
            heartbeat_ms,
            send_head,
            send_id_at,
            mask,
            reply_head,
            reply_id_at,
            pattern,
            masked_pattern,
        }
    }

    /// Bytes of a message and of its answer, if it has one.
    pub(crate) fn bytes_per_message(&self) -> usize {
        match self.kind {
            Kind::Sink { .. } => self.frame_len,
            Kind::Echo | Kind::Request => self.frame_len + self.reply_head.len() + self.payload_len,
        }
    }

    /// The id of the first message to which an answer comes.
    pub(crate) fn first_answer(&self) -> u32 {
        match self.kind {
            Kind::Sink { every } => every,
            Kind::Echo | Kind::Request => FIRST_ID,
        }
    }

    /// Bytes in front of a payload as sent.
    pub(crate) fn send_head_len(&self) -> usize {
        self.send_head.len()
    }

    /// Bytes in front of a payload as it comes back.
    pub(crate) fn reply_head_len(&self) -> usize {
        self.reply_head.len()
    }

    /// Whether this message asks for an answer of its own kind (sink runs only).
    pub(crate) fn asks_for_count(&self, id: u32) -> bool {
        matches!(self.kind, Kind::Sink { every } if id.is_multiple_of(every))
    }

    /// Appends envelope and header of message `id`.
    #[inline]
    pub(crate) fn push_head(&self, out: &mut Vec<u8>, id: u32) {
        let at = out.len() + self.send_id_at;
        out.extend_from_slice(&self.send_head);
        let key = u32::from_be_bytes(self.mask);
        out[at..at + 4].copy_from_slice(&(id ^ key).to_be_bytes());
        if self.asks_for_count(id) {
            out[at - ID_AT + TYPE_AT] = frame::REQUEST ^ self.mask[TYPE_AT];
        }
    }

    /// The payload of message `id` as sent.
    #[inline]
    pub(crate) fn send_payload(&self, id: u32) -> &[u8] {
        let from = self.step(id);
        &self.masked_pattern.as_ref().unwrap_or(&self.pattern)[from..from + self.payload_len]
    }

    /// The payload of message `id` as it must come back.
    #[inline]
    pub(crate) fn reply_payload(&self, id: u32) -> &[u8] {
        let from = self.step(id);
        &self.pattern[from..from + self.payload_len]
    }

    /// Whether `head` is that of the answer to message `id`.
    #[inline]
    pub(crate) fn is_reply_head(&self, head: &[u8], id: u32) -> bool {
        let at = self.reply_id_at;
        head[at..at + 4] == id.to_be_bytes()
            && head[..at] == self.reply_head[..at]
            && head[at + 4..] == self.reply_head[at + 4..]
    }

    fn step(&self, id: u32) -> usize {
        (id % STEPS) as usize * STEP_LEN
    }

    /// Appends a control frame in its envelope.
    pub(crate) fn push_control(
        &self,
        out: &mut Vec<u8>,
        packet_type: u8,
        message_id: u32,
        payload: &[u8],
    ) {
        let header = Header {
            version: self.version,
            packet_type,
            message_id,
            // Control payloads are a few bytes of ours, or the at most 64 of a Ping.
            payload_len: payload.len() as u32,
            ..Header::default()
        };
        push_envelope(
            out,
            self.envelope,
            HEADER_LEN + payload.len(),
            Some(self.mask),
        );
        let from = out.len();
        out.extend_from_slice(&header.encode());
        out.extend_from_slice(payload);
        websocket::apply_mask(&mut out[from..], self.mask);
    }

    /// Appends a WebSocket control frame.
    pub(crate) fn push_ws_control(&self, out: &mut Vec<u8>, first: u8, payload: &[u8]) {
        let mut head = [0; HEADER_MAX];
        let len = websocket::encode_head(&mut head, first, payload.len(), Some(self.mask));
        out.extend_from_slice(&head[..len]);
        websocket::extend_masked(out, payload, self.mask);
    }

    /// Appends Hello: what we accept, no features, who we are.
    pub(crate) fn push_hello(&self, out: &mut Vec<u8>) {
        let mut tlvs = Vec::new();
        frame::push_tlv(&mut tlvs, 1, &MAX_FRAME.to_be_bytes());
        frame::push_tlv(&mut tlvs, 2, &0u32.to_be_bytes());
        if let Some(heartbeat) = self.heartbeat_ms {
            frame::push_tlv(&mut tlvs, 3, &heartbeat.to_be_bytes());
        }
        frame::push_tlv(&mut tlvs, 6, AGENT);
        self.push_control(out, frame::HELLO, 0, &tlvs);
    }
}

fn push_envelope(out: &mut Vec<u8>, envelope: Envelope, frame_len: usize, mask: Option<[u8; 4]>) {
    match envelope {
        Envelope::Bare => {}
        Envelope::Length4 => out.extend_from_slice(&(frame_len as u32).to_be_bytes()),
        Envelope::Varint => {
            let mut rest = frame_len;
            while rest >= 0x80 {
                out.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            out.push(rest as u8);
        }
        Envelope::Zmtp => match u8::try_from(frame_len) {
            Ok(len) => out.extend([0, len]),
            Err(_) => {
                out.push(ZMTP_LONG);
                out.extend_from_slice(&(frame_len as u64).to_be_bytes());
            }
        },
        Envelope::WebSocket => {
            let mut head = [0; HEADER_MAX];
            let len = websocket::encode_head(&mut head, BINARY, frame_len, mask);
            out.extend_from_slice(&head[..len]);
        }
    }
}

/// Bytes without a pattern of their own (splitmix64), the same in every run.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0u64;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_message_is_laid_out_as_the_specification_says() {
        let shape = Shape::new(2, Envelope::Bare, Kind::Echo, 3, None);
        let mut out = Vec::new();
        shape.push_head(&mut out, 0x0102_0304);
        assert_eq!(out, [2, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 3, 0, 0]);
        assert_eq!(shape.frame_len, 19);
        assert_eq!(shape.send_payload(5).len(), 3);
        assert_ne!(shape.send_payload(5), shape.send_payload(6));
        assert!(shape.is_reply_head(&out, 0x0102_0304));
        assert!(!shape.is_reply_head(&out, 0x0102_0305));
    }

    #[test]
    fn hello_is_laid_out_as_the_specification_says() {
        let shape = Shape::new(2, Envelope::Bare, Kind::Echo, 64, Some(60_000));
        let mut out = Vec::new();
        shape.push_hello(&mut out);
        let mut by_hand = vec![2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 43, 0, 0];
        by_hand.extend([1, 0, 4, 0x01, 0x01, 0x00, 0x0f]);
        by_hand.extend([2, 0, 4, 0, 0, 0, 0]);
        by_hand.extend([3, 0, 4, 0x00, 0x00, 0xea, 0x60]);
        by_hand.extend([6, 0, 19]);
        by_hand.extend(b"msgtrans-bench load");
        assert_eq!(out, by_hand);
    }

    #[test]
    fn websocket_message_is_one_masked_binary_frame() {
        let shape = Shape::new(1, Envelope::WebSocket, Kind::Request, 2, None);
        let mut out = Vec::new();
        shape.push_head(&mut out, 7);
        out.extend_from_slice(shape.send_payload(7));
        assert_eq!(
            out[..6],
            [0x82, 0x80 | 18, MASK[0], MASK[1], MASK[2], MASK[3]]
        );
        websocket::apply_mask(&mut out[6..], MASK);
        assert_eq!(out[6..22], [1, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 2, 0, 0]);
        assert_eq!(&out[22..], shape.reply_payload(7));
        assert!(shape.is_reply_head(
            &[0x82, 18, 1, 0, 2, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 2, 0, 0],
            7
        ));
    }

    #[test]
    fn every_envelope_is_read_as_it_is_written() {
        let envelopes = [
            Envelope::Bare,
            Envelope::Length4,
            Envelope::Varint,
            Envelope::Zmtp,
            Envelope::WebSocket,
        ];
        for envelope in envelopes {
            for payload in [0, 64, 111, 112, 1_000, 100_000] {
                let shape = Shape::new(1, envelope, Kind::Echo, payload, None);
                let head = shape.reply_head.clone();
                let envelope_len = head.len() - HEADER_LEN;
                let read = Some((envelope_len, HEADER_LEN + payload));
                assert_eq!(envelope.decode(&head), read, "{envelope:?} {payload}");
                let first = &head[..envelope_len.saturating_sub(1)];
                assert_eq!(envelope.decode(first), None, "{envelope:?} {payload}");
            }
        }
    }

    #[test]
    fn length4_puts_the_frame_behind_its_length() {
        let shape = Shape::new(1, Envelope::Length4, Kind::Sink { every: 4 }, 1, None);
        let mut out = Vec::new();
        shape.push_head(&mut out, 8);
        assert_eq!(
            out,
            [0, 0, 0, 17, 1, 0, 1, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 1, 0, 0]
        );
        out.clear();
        shape.push_head(&mut out, 9);
        assert_eq!(out[6], frame::ONE_WAY);
    }
}
