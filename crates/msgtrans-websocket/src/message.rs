//! Messages out of bytes: one state machine for whole frames, fragments and control frames, in any
//! split, without a copy where a frame lies whole in the read buffer.
//!
//! [`MessageReader::step`] takes everything it is given. A frame that is all there is unmasked where it
//! lies and handed out as a range of the caller's buffer; what is cut off by the end of the buffer
//! moves into the reader, which therefore leaves no reason to keep a read buffer while nothing
//! arrives. The memory that the reader holds is what it has received and not yet handed out, large
//! messages in buffers of the pool (see [`worker::make_room`]): a claimed length reserves nothing.
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

use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use msgtrans_mempool::worker;

use crate::frame::{
    FRAME_HEADER_LEN_MAX, FrameError, FrameHeader, OpCode, Role, parse_frame_header,
};
use crate::mask::apply_mask;
use crate::utf8::Utf8Validator;

/// What each fragment costs of its message's fragment budget, in bytes.
///
/// The budget is as large as the largest message and at least [`FRAGMENT_BUDGET_MIN`], so the default
/// limit of 16 842 767 bytes allows 131 584 fragments: 65 536 fragments of 64 bytes pass, an endless
/// flood of empty ones does not. The cost is counted apart from the bytes themselves, so that a
/// message at the limit is legal in fragments too.
pub const FRAGMENT_OVERHEAD: usize = 128;
/// The fragment budget where messages are limited to less than this, in bytes.
pub const FRAGMENT_BUDGET_MIN: usize = 64 * 1024;

/// A frame that still lacks at least this many bytes is read straight into the message's own buffer;
/// with less to come the shared read buffer is cheaper, because the same read takes what follows.
const DIRECT_READ_MIN: usize = 32 * 1024;
/// A message of which fewer bytes have come is read through the shared buffer, however long it claims
/// to be: a header alone must not cost its receiver a buffer.
const DIRECT_READ_AFTER: usize = 16 * 1024;
/// A read straight into the message's own buffer finds at least so much room.
const ROOM_MIN: usize = 16 * 1024;

/// What a message or control frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A whole text message, valid UTF-8.
    Text,
    /// A whole binary message.
    Binary,
    /// A ping: answer with a pong of the same payload.
    Ping,
    /// A pong.
    Pong,
    /// The peer's last frame; its payload has been checked. See [`CloseFrame::parse`].
    Close,
}

/// What [`MessageReader::step`] found at the beginning of the bytes it was given.
#[derive(Debug)]
pub enum Step {
    /// All bytes were taken in, and more are needed: the buffer is free for other use.
    NeedMore,
    /// A message or control frame lies, unmasked, at `payload` of the caller's buffer; the next step
    /// begins at `payload.end`.
    InPlace {
        /// What it is.
        kind: MessageKind,
        /// Where it lies.
        payload: Range<usize>,
    },
    /// A message or control frame that came in parts; the next step begins at `consumed`.
    Assembled {
        /// What it is.
        kind: MessageKind,
        /// Its bytes.
        payload: Bytes,
        /// Bytes of the caller's buffer that have been taken.
        consumed: usize,
    },
}

/// A message or control frame with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole binary message.
    Binary(Bytes),
    /// A whole text message, valid UTF-8.
    Text(Bytes),
    /// A ping.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The peer writes no more; `None` where its Close frame was empty.
    Close(Option<CloseFrame>),
}

impl Event {
    fn new(kind: MessageKind, payload: Bytes) -> Self {
        match kind {
            MessageKind::Binary => Self::Binary(payload),
            MessageKind::Text => Self::Text(payload),
            MessageKind::Ping => Self::Ping(payload),
            MessageKind::Pong => Self::Pong(payload),
            MessageKind::Close => Self::Close(CloseFrame::parse(payload)),
        }
    }
}

/// The code and reason of a Close frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseFrame {
    /// One of the codes that may stand in a Close frame (RFC 6455 section 7.4).
    pub code: u16,
    /// UTF-8 text, at most 123 bytes.
    pub reason: Bytes,
}

impl CloseFrame {
    /// Splits the payload that came with [`MessageKind::Close`]; `None` where it is empty.
    #[must_use]
    pub fn parse(mut payload: Bytes) -> Option<Self> {
        let code = payload.try_get_u16().ok()?;
        Some(Self {
            code,
            reason: payload,
        })
    }
}

/// Whether `code` may be sent in a Close frame: those that RFC 6455 and IANA's registry define for the
/// wire, and 3000 to 4999, which belong to libraries and applications.
#[must_use]
pub fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// What a peer did that ends the connection. [`close_code`](Self::close_code) is the answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// A frame header that RFC 6455 forbids.
    #[error("illegal frame header")]
    Frame(#[from] FrameError),
    /// A text message where only binary ones are spoken.
    #[error("text message on a connection that carries binary packets only")]
    TextRefused,
    /// A new message began before the last one had ended.
    #[error("{opcode} frame in the middle of a fragmented message")]
    ExpectedContinuation {
        /// Text or binary.
        opcode: OpCode,
    },
    /// A continuation of nothing.
    #[error("continuation frame without a message to continue")]
    UnexpectedContinuation,
    /// The message would exceed the limit, by the sum of its frames' claimed lengths.
    #[error("message of at least {len} bytes exceeds the limit of {max} bytes")]
    TooLarge {
        /// Bytes received of the message plus the length that the newest frame claims.
        len: u64,
        /// The limit in bytes.
        max: usize,
    },
    /// The message came in more fragments than its budget allows, see [`FRAGMENT_OVERHEAD`].
    #[error("message in more than {max} fragments")]
    TooManyFragments {
        /// The most fragments that a message may have.
        max: usize,
    },
    /// Text, or the reason of a Close frame, is not UTF-8.
    #[error("text is not valid UTF-8")]
    InvalidUtf8,
    /// A Close frame with half a code.
    #[error("close frame with a payload of one byte")]
    CloseTooShort,
    /// A Close frame with a code that may not be sent.
    #[error("close code {code} may not be sent")]
    InvalidCloseCode {
        /// The code.
        code: u16,
    },
}

impl MessageError {
    /// The code to close with: 1009 for what is too large, 1007 for what is not UTF-8, else 1002.
    #[must_use]
    pub fn close_code(&self) -> u16 {
        match self {
            Self::TooLarge { .. } | Self::TooManyFragments { .. } => 1009,
            Self::InvalidUtf8 => 1007,
            Self::Frame(error) => error.close_code(),
            _ => 1002,
        }
    }
}

/// What a [`MessageReader`] accepts.
#[derive(Debug, Clone, Copy)]
pub struct MessageLimits {
    /// The largest message in bytes, over all its fragments. Checked against claimed lengths, before
    /// a byte of the frame is read. Worst-case memory: twice this, while a message is under way.
    pub message_bytes_max: usize,
    /// Whether text messages are accepted; MsgTrans packets are binary (default `false`).
    pub text: bool,
}

/// The frame whose payload has begun to arrive and has not ended.
#[derive(Debug)]
struct OpenFrame {
    opcode: OpCode,
    fin: bool,
    mask: Option<[u8; 4]>,
    /// Payload bytes taken so far: the phase of the mask.
    taken: usize,
    remaining: usize,
}

/// Turns the bytes of one connection into messages and control frames.
///
/// Cost: no allocation for frames that lie whole in the buffer; about 170 bytes while idle.
#[derive(Debug)]
pub struct MessageReader {
    limits: MessageLimits,
    role: Role,
    /// After a Close frame or an error everything is discarded.
    closed: bool,
    /// The beginning of a header that the end of a buffer cut off.
    header: [u8; FRAME_HEADER_LEN_MAX],
    header_len: u8,
    frame: Option<OpenFrame>,
    /// The kind of the data message under way, if one is.
    message: Option<MessageKind>,
    /// Frames of that message so far.
    fragments: u32,
    body: BytesMut,
    /// What has come of a control frame, where one is under way.
    control: Option<Box<BytesMut>>,
    utf8: Utf8Validator,
}

impl MessageReader {
    /// A reader at the beginning of a connection, behind the upgrade.
    #[must_use]
    pub fn new(role: Role, limits: MessageLimits) -> Self {
        Self {
            limits,
            role,
            closed: false,
            header: [0; FRAME_HEADER_LEN_MAX],
            header_len: 0,
            frame: None,
            message: None,
            fragments: 0,
            body: BytesMut::new(),
            control: None,
            utf8: Utf8Validator::default(),
        }
    }

    /// Changes the limits for all frames whose headers have not been read yet.
    pub fn set_limits(&mut self, limits: MessageLimits) {
        self.limits = limits;
    }

    /// Whether the peer's Close frame has been handed out, or an error: nothing comes any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the bytes so far end in the middle of a frame or of a fragmented message.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.closed && (self.header_len > 0 || self.frame.is_some() || self.message.is_some())
    }

    /// Bytes of payload that the frame under way still lacks; 0 between frames. It is only a claim.
    #[must_use]
    pub fn frame_remaining(&self) -> usize {
        self.frame.as_ref().map_or(0, |frame| frame.remaining)
    }

    /// What has arrived of the message under way, unmasked: its beginning may already show that the
    /// rest is not worth having. Empty between messages.
    #[must_use]
    pub fn partial_message(&self) -> &[u8] {
        &self.body
    }

    /// How many bytes the next read may put straight into [`direct_buffer`](Self::direct_buffer); 0 where
    /// a shared buffer and [`step`](Self::step) serve better.
    #[inline]
    #[must_use]
    pub fn direct_len(&self) -> usize {
        match &self.frame {
            Some(frame)
                if frame.remaining >= DIRECT_READ_MIN
                    && self.body.len() >= DIRECT_READ_AFTER
                    && !frame.opcode.is_control() =>
            {
                frame.remaining
            }
            _ => 0,
        }
    }

    /// The buffer of the message under way, with room for the next bytes. Append at most
    /// [`direct_len`](Self::direct_len) bytes as they come from the peer, and hand them over with
    /// [`take_direct`](Self::take_direct).
    ///
    /// Memory: that of [`worker::make_room`], whatever the frame's header claims.
    pub fn direct_buffer(&mut self) -> &mut BytesMut {
        let missing = self.frame_remaining();
        // Less room than this is not worth a system call.
        let total = self.body.len().saturating_add(missing);
        worker::make_room(&mut self.body, missing.min(ROOM_MIN), total);
        &mut self.body
    }

    /// Takes the last `len` bytes of [`direct_buffer`](Self::direct_buffer) for the open frame's; the
    /// message, if they complete it.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn take_direct(
        &mut self,
        len: usize,
    ) -> Result<Option<(MessageKind, Bytes)>, MessageError> {
        debug_assert!(len <= self.frame_remaining(), "read beyond the frame");
        let start = self.body.len().saturating_sub(len);
        let message = self
            .end_payload(start)
            .and_then(|()| match self.frame_remaining() {
                0 => self.end_frame(),
                _ => Ok(None),
            });
        self.closed |= message.is_err();
        message
    }

    /// The payload of a binary message, unmasked, if one lies whole at the very beginning of `input` and
    /// nothing else is under way. `None` where [`step`](Self::step) has to look: nothing was touched.
    ///
    /// Cost: a handful of comparisons and the mask, about 20 ns less than the same message costs by
    /// `step`.
    #[inline]
    pub fn whole_message(&self, input: &mut [u8]) -> Option<Range<usize>> {
        let payload = self.find_whole(input, |_| true)?;
        self.unmask(input, &payload);
        Some(payload)
    }

    /// Where the payload of [`whole_message`](Self::whole_message) lies, if `fits` holds of its end. Touches nothing.
    #[inline]
    pub(crate) fn find_whole(
        &self,
        input: &[u8],
        fits: impl FnOnce(usize) -> bool,
    ) -> Option<Range<usize>> {
        if self.closed || self.header_len > 0 || self.frame.is_some() || self.message.is_some() {
            return None;
        }
        let (&[first, second], rest) = input.split_first_chunk()?;
        let mask_bit = if self.role == Role::Server { 0x80 } else { 0 };
        if first != 0x80 | OpCode::Binary as u8 || second & 0x80 != mask_bit {
            return None;
        }
        let (len, start) = match second & 0x7f {
            127 => return None,
            126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            len => (usize::from(len), 2usize),
        };
        if start == 4 && len < 126 {
            return None;
        }
        let start = start.saturating_add(if mask_bit != 0 { 4 } else { 0 });
        let end = start.saturating_add(len);
        let whole = end <= input.len() && len <= self.limits.message_bytes_max && fits(end);
        whole.then_some(start..end)
    }

    /// Unmasks in `input` the payload that [`find_whole`](Self::find_whole) has found there.
    #[inline]
    pub(crate) fn unmask(&self, input: &mut [u8], payload: &Range<usize>) {
        if self.role == Role::Server
            && let Some(frame) = input.get_mut(..payload.end)
            && let Some((header, payload)) = frame.split_at_mut_checked(payload.start)
            && let Some(key) = header.last_chunk()
        {
            apply_mask(payload, *key, 0);
        }
    }

    /// Takes bytes in until a message or control frame is complete. Call it again with the rest of
    /// the buffer until it says [`Step::NeedMore`].
    ///
    /// # Errors
    /// What the peer did wrong, as soon as the bytes show it. The connection is to be closed with the
    /// error's code; further bytes are discarded.
    ///
    /// Cost: bytes of a frame that lies whole in `input` are touched once, to unmask them; others are
    /// copied once as well.
    #[inline]
    pub fn step(&mut self, input: &mut [u8]) -> Result<Step, MessageError> {
        let step = self.step_unfused(input);
        self.closed |= step.is_err();
        step
    }

    /// Takes the next message or control frame from the beginning of `input`. `None`: all of `input`
    /// was taken in, and more bytes are needed.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    ///
    /// Cost: as [`step`](Self::step); the payload of a frame that lay whole in `input` shares its
    /// memory.
    pub fn next_event(&mut self, input: &mut BytesMut) -> Result<Option<Event>, MessageError> {
        match self.step(input)? {
            Step::NeedMore => {
                input.clear();
                Ok(None)
            }
            Step::InPlace { kind, payload } => {
                input.advance(payload.start);
                Ok(Some(Event::new(
                    kind,
                    input.split_to(payload.len()).freeze(),
                )))
            }
            Step::Assembled {
                kind,
                payload,
                consumed,
            } => {
                input.advance(consumed);
                Ok(Some(Event::new(kind, payload)))
            }
        }
    }

    #[inline]
    fn step_unfused(&mut self, input: &mut [u8]) -> Result<Step, MessageError> {
        if self.closed {
            return Ok(Step::NeedMore);
        }
        let mut at = 0usize;
        loop {
            if self.frame.is_some() {
                at = at.saturating_add(self.take_payload(input.get(at..).unwrap_or_default())?);
                if self.frame_remaining() > 0 {
                    return Ok(Step::NeedMore);
                }
                if let Some((kind, payload)) = self.end_frame()? {
                    return Ok(Step::Assembled {
                        kind,
                        payload,
                        consumed: at,
                    });
                }
            }
            let rest = input.get(at..).unwrap_or_default();
            let Some((header, taken)) = self.take_header(rest)? else {
                return Ok(Step::NeedMore);
            };
            at = at.saturating_add(taken);
            let len = self.admit(&header)?;
            if header.fin && header.opcode != OpCode::Continuation {
                let payload = at..at.saturating_add(len);
                if let Some(bytes) = input.get_mut(payload.clone()) {
                    if let Some(key) = header.mask {
                        apply_mask(bytes, key, 0);
                    }
                    let kind = self.whole_frame(header.opcode, bytes)?;
                    return Ok(Step::InPlace { kind, payload });
                }
            }
            self.begin_frame(&header, len)?;
        }
    }

    /// The next header and how many bytes of `input` it took, or `None` after taking them all.
    #[inline]
    fn take_header(&mut self, input: &[u8]) -> Result<Option<(FrameHeader, usize)>, MessageError> {
        if self.header_len == 0 {
            if let Some(header) = parse_frame_header(input, self.role)? {
                return Ok(Some((header, header.header_len)));
            }
            self.stash(0, input);
            return Ok(None);
        }
        self.resume_header(input)
    }

    /// Keeps `bytes` behind the `stashed` bytes of a header that is not whole yet; how many fitted.
    fn stash(&mut self, stashed: usize, bytes: &[u8]) -> usize {
        let room = self.header.get_mut(stashed..).unwrap_or_default();
        let taken = bytes.len().min(room.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.header_len = stashed.saturating_add(taken) as u8;
        taken
    }

    #[cold]
    fn resume_header(
        &mut self,
        input: &[u8],
    ) -> Result<Option<(FrameHeader, usize)>, MessageError> {
        let stashed = usize::from(self.header_len);
        self.stash(stashed, input);
        let header = self.header.get(..usize::from(self.header_len));
        let Some(header) = parse_frame_header(header.unwrap_or_default(), self.role)? else {
            return Ok(None);
        };
        self.header_len = 0;
        // What was stashed was not a whole header, so this one ends behind it.
        Ok(Some((header, header.header_len.saturating_sub(stashed))))
    }

    /// Checks a header against the message under way and the limits; returns the payload's length.
    #[inline]
    fn admit(&self, header: &FrameHeader) -> Result<usize, MessageError> {
        let opcode = header.opcode;
        if opcode.is_control() {
            return Ok(header.payload_len as usize);
        }
        match (opcode, self.message) {
            (OpCode::Continuation, None) => return Err(MessageError::UnexpectedContinuation),
            (OpCode::Text | OpCode::Binary, Some(_)) => {
                return Err(MessageError::ExpectedContinuation { opcode });
            }
            (OpCode::Text, None) if !self.limits.text => return Err(MessageError::TextRefused),
            _ => {}
        }
        let max = self.limits.message_bytes_max;
        let len = (self.body.len() as u64).saturating_add(header.payload_len);
        if len > max as u64 {
            return Err(MessageError::TooLarge { len, max });
        }
        Ok(header.payload_len as usize)
    }

    /// A frame that lies whole in the caller's buffer and is a message or control frame of its own.
    #[inline]
    fn whole_frame(&mut self, opcode: OpCode, payload: &[u8]) -> Result<MessageKind, MessageError> {
        let kind = kind_of(opcode);
        match kind {
            MessageKind::Text if std::str::from_utf8(payload).is_err() => {
                return Err(MessageError::InvalidUtf8);
            }
            MessageKind::Close => {
                check_close(payload)?;
                self.closed = true;
            }
            _ => {}
        }
        Ok(kind)
    }

    fn begin_frame(&mut self, header: &FrameHeader, len: usize) -> Result<(), MessageError> {
        let &FrameHeader {
            opcode, fin, mask, ..
        } = header;
        if !opcode.is_control() {
            if opcode != OpCode::Continuation {
                self.message = Some(kind_of(opcode));
                self.fragments = 0;
            }
            self.fragments = self.fragments.saturating_add(1);
            let max = self.limits.message_bytes_max.max(FRAGMENT_BUDGET_MIN) / FRAGMENT_OVERHEAD;
            if self.fragments as usize > max {
                return Err(MessageError::TooManyFragments { max });
            }
        }
        self.frame = Some(OpenFrame {
            opcode,
            fin,
            mask,
            taken: 0,
            remaining: len,
        });
        Ok(())
    }

    /// Moves what `input` has of the open frame's payload into the reader, unmasked; returns how many
    /// bytes that was.
    fn take_payload(&mut self, input: &[u8]) -> Result<usize, MessageError> {
        let Some(frame) = &self.frame else {
            return Ok(0);
        };
        let (input, _) = input.split_at(frame.remaining.min(input.len()));
        let target = if frame.opcode.is_control() {
            self.control.get_or_insert_default()
        } else {
            let total = self.body.len().saturating_add(frame.remaining);
            worker::make_room(&mut self.body, input.len(), total);
            &mut self.body
        };
        let start = target.len();
        target.extend_from_slice(input);
        self.end_payload(start)?;
        Ok(input.len())
    }

    /// Unmasks and accounts for the open frame's payload from `start` of its buffer on.
    fn end_payload(&mut self, start: usize) -> Result<(), MessageError> {
        let Some(frame) = &mut self.frame else {
            return Ok(());
        };
        let control = frame.opcode.is_control();
        let buffer = if control {
            self.control.get_or_insert_default()
        } else {
            &mut self.body
        };
        let fresh = buffer.get_mut(start..).unwrap_or_default();
        if let Some(key) = frame.mask {
            let phase = if cfg!(msgtrans_planted = "6") {
                0
            } else {
                frame.taken
            };
            apply_mask(fresh, key, phase);
        }
        frame.taken = frame.taken.saturating_add(fresh.len());
        frame.remaining = frame.remaining.saturating_sub(fresh.len());
        if !control && self.message == Some(MessageKind::Text) && !self.utf8.feed(fresh) {
            return Err(MessageError::InvalidUtf8);
        }
        Ok(())
    }

    /// The open frame is complete: what it completes with it, if anything.
    fn end_frame(&mut self) -> Result<Option<(MessageKind, Bytes)>, MessageError> {
        let Some(frame) = self.frame.take() else {
            return Ok(None);
        };
        if frame.opcode.is_control() {
            let payload = self.control.take().map(|control| *control);
            let payload = payload.unwrap_or_default().freeze();
            let kind = self.whole_frame(frame.opcode, &payload)?;
            return Ok(Some((kind, payload)));
        }
        if !frame.fin {
            return Ok(None);
        }
        if !self.utf8.finish() {
            return Err(MessageError::InvalidUtf8);
        }
        let payload = std::mem::take(&mut self.body).freeze();
        Ok(self.message.take().map(|kind| (kind, payload)))
    }
}

/// What a frame of this opcode is on its own. A continuation never is: it has been told apart before.
#[inline]
fn kind_of(opcode: OpCode) -> MessageKind {
    match opcode {
        OpCode::Text => MessageKind::Text,
        OpCode::Binary | OpCode::Continuation => MessageKind::Binary,
        OpCode::Close => MessageKind::Close,
        OpCode::Ping => MessageKind::Ping,
        OpCode::Pong => MessageKind::Pong,
    }
}

/// Whether a Close frame may have this payload.
fn check_close(payload: &[u8]) -> Result<(), MessageError> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() {
            Ok(())
        } else {
            Err(MessageError::CloseTooShort)
        };
    };
    let code = u16::from_be_bytes(*code);
    if !is_close_code(code) {
        return Err(MessageError::InvalidCloseCode { code });
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(MessageError::InvalidUtf8);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
