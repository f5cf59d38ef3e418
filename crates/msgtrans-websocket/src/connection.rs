//! [`WebSocketConnection`]: packets over WebSocket frames on any byte stream behind its upgrade.
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

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use msgtrans_core::codec::decode_exact;
use msgtrans_core::{
    CloseReason, Code, ConnectionInfo, DecodeError, HEADER_LEN, Header, Initiator, Limits,
    PacketBatch, PlainHeader, WireVersion, WireVersions,
};
use msgtrans_mempool::worker;
use msgtrans_transport::{
    Connection, ConnectionError, Framing, OutboundBatch, OwnInfo, Probe, Progress, Received,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::frame::{OpCode, Role, append_close, append_frame};
use crate::framing::framing;
use crate::message::{CloseFrame, MessageError, MessageKind, MessageLimits, MessageReader, Step};

/// Reads that bring no whole packet before a call lets others run: a peer that trickles must not hold
/// the thread.
const READS_MAX: usize = 16;
/// Control frames that a call answers or drops before it lets others run: a flood of pings costs the
/// peer as much as it costs us, and nobody else anything.
const CONTROL_FRAMES_MAX: usize = 256;
/// Bytes that a close reads while it waits for the peer's Close frame.
const LINGER_BYTES_MAX: u32 = 64 * 1024;
/// Whole messages that are looked at before they are told apart; more gains nothing.
const RUN_MAX: usize = 32;

/// One packet per binary message (wire format, section 8) on a stream whose upgrade is done.
///
/// Pings are answered inside [`poll_recv`](Connection::poll_recv), the most recent one where several
/// wait. Holds no buffer while idle: what a read cuts off moves into memory of its own.
#[derive(Debug)]
pub struct WebSocketConnection<S: 'static> {
    stream: S,
    role: Role,
    reader: MessageReader,
    /// Bytes read that nobody has looked at yet; empty between reads unless a budget ran out.
    chunk: BytesMut,
    info: OwnInfo,
    progress: Progress,
    accept: WireVersions,
    version: Option<WireVersion>,
    limits: Limits,
    /// Whether the stream keeps written bytes to itself until it is flushed.
    buffered: bool,
    /// Whether the session has chosen the version: until then one packet a call.
    opened: bool,
    /// Whether the beginning of the message under way has been checked.
    partial_checked: bool,
    /// Whether the stream has said its last.
    ended: bool,
    /// Why nothing more can be read. Boxed: an idle connection has none.
    failed: Option<Box<Failure>>,
    /// The peer's Close frame has come.
    peer_closed: bool,
    /// The payload of the most recent ping, still to be answered. Boxed, as an idle connection has none.
    pong: Option<Box<Bytes>>,
    /// Encoded control frames on their way out, where there are any.
    control: Option<Box<BytesMut>>,
    /// Whether the last batch stopped inside a frame, so that nothing else may be written in front of
    /// its rest.
    mid_batch: bool,
    closing: Closing,
    /// Whether the last read brought all that there was, and nobody has looked for more since.
    drained: bool,
    probe: &'static Probe<S>,
}

/// What ended reading.
#[derive(Debug)]
enum Failure {
    /// What the look for the first bytes met, until it is told.
    Lost(Option<ConnectionError>),
    Decode(DecodeError),
    Message(MessageError),
    Closed(Option<CloseReason>),
}

#[derive(Debug, Clone, Copy)]
enum Closing {
    Open,
    Flush,
    AwaitPeer { left: u32 },
    Shutdown,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> WebSocketConnection<S> {
    /// A connection on `stream` behind its upgrade, whose first frame must be of a version in `accept`
    /// within `limits`.
    ///
    /// `early` are the bytes that came behind the upgrade. `buffered` says whether written bytes reach
    /// the peer only after a flush (TLS).
    pub fn new(
        stream: S,
        role: Role,
        early: BytesMut,
        info: ConnectionInfo,
        accept: WireVersions,
        limits: Limits,
        buffered: bool,
    ) -> Self {
        let accept = match info.negotiated {
            Some(WireVersion::V1) => WireVersions::V1,
            Some(WireVersion::V2) => WireVersions::V2,
            None => accept,
        };
        Self {
            stream,
            role,
            reader: MessageReader::new(role, message_limits(&limits)),
            chunk: early,
            info: OwnInfo::new(info),
            progress: Progress::default(),
            accept,
            version: None,
            limits,
            buffered,
            opened: false,
            partial_checked: false,
            ended: false,
            failed: None,
            peer_closed: false,
            pong: None,
            control: None,
            mid_batch: false,
            closing: Closing::Open,
            drained: false,
            probe: &Probe::NONE,
        }
    }

    /// Asks `probe` where a system call can be spared, and the lease of a buffer with it.
    #[must_use]
    pub fn with_probe(mut self, probe: &'static Probe<S>) -> Self {
        self.probe = probe;
        self
    }

    /// Turns what has been read into packets until the budget is spent, a frame is cut off, or the peer
    /// breaks a rule. Returns whether it stopped for too many control frames.
    fn decode(&mut self, budget_bytes: usize, into: &mut PacketBatch) -> bool {
        let before = into.len();
        let mut control_frames = 0usize;
        while !self.chunk.is_empty() && self.failed.is_none() {
            if into.len() > before && (!self.opened || into.bytes() >= budget_bytes) {
                return false;
            }
            if self.decode_lone(into) || self.decode_run(budget_bytes, into) {
                continue;
            }
            if control_frames == CONTROL_FRAMES_MAX {
                return true;
            }
            match self.reader.step(&mut self.chunk) {
                Ok(Step::NeedMore) => {
                    // Dropped, not cleared: it pins the read buffer.
                    self.chunk = BytesMut::new();
                    self.check_partial();
                }
                Ok(Step::InPlace { kind, payload }) => {
                    control_frames =
                        control_frames.saturating_add(usize::from(kind != MessageKind::Binary));
                    let payload = self.take(payload.start, payload.end);
                    self.handle(kind, payload, into);
                }
                Ok(Step::Assembled {
                    kind,
                    payload,
                    consumed,
                }) => {
                    self.take(consumed, consumed);
                    control_frames =
                        control_frames.saturating_add(usize::from(kind != MessageKind::Binary));
                    self.handle(kind, payload, into);
                }
                Err(error) => self.fail(Failure::Message(error)),
            }
        }
        false
    }

    /// Takes the binary message that is the whole chunk, as nearly all are that a read of a quiet connection brings;
    /// whether it was one.
    #[inline]
    fn decode_lone(&mut self, into: &mut PacketBatch) -> bool {
        let len = self.chunk.len();
        let Some(place) = self.reader.find_whole(&self.chunk, |end| end == len) else {
            return false;
        };
        self.reader.unmask(&mut self.chunk, &place);
        self.chunk.advance(place.start);
        let max_payload = self.limits.max_payload();
        let header = plain_header(self.version, max_payload, &self.chunk);
        let mut message = std::mem::take(&mut self.chunk).freeze();
        match header {
            // An empty part must not pin the read buffer.
            Some((version, header)) if message.len() > HEADER_LEN => {
                message.advance(HEADER_LEN);
                into.push(header.packet(message), version);
            }
            _ => self.handle(MessageKind::Binary, message, into),
        }
        true
    }

    /// Takes the binary messages that lie whole at the beginning of the chunk, up to the budget; whether
    /// there was one. All of them share one reference to the read buffer until they are told apart: that
    /// is cheaper than to split the buffer for each.
    #[inline]
    fn decode_run(&mut self, budget_bytes: usize, into: &mut PacketBatch) -> bool {
        let most = if self.opened { RUN_MAX } else { 1 };
        let room = budget_bytes.saturating_sub(into.bytes()).max(1);
        let mut messages = [(0u32, 0u32); RUN_MAX];
        let (mut count, mut end) = (0usize, 0usize);
        for place in messages.iter_mut().take(most) {
            if end >= room {
                break;
            }
            let rest = self.chunk.get_mut(end..).unwrap_or_default();
            let Some(message) = self.reader.whole_message(rest) else {
                break;
            };
            let start = end.saturating_add(message.start);
            end = end.saturating_add(message.end);
            // A read buffer is far below 4 GiB.
            *place = (start as u32, end as u32);
            count = count.saturating_add(1);
        }
        if count == 0 {
            return false;
        }
        let mut run = self.take(0, end);
        let max_payload = self.limits.max_payload();
        for (index, &(start, end)) in messages.iter().take(count).enumerate() {
            let (start, end) = (start as usize, end as usize);
            let message = run.get(start..end).unwrap_or_default();
            let Some((version, header)) = plain_header(self.version, max_payload, message) else {
                // The rest, and what `decode_exact` finds wrong with it.
                self.handle(MessageKind::Binary, run.slice(start..end), into);
                if self.failed.is_some() {
                    break;
                }
                continue;
            };
            let payload = start.saturating_add(HEADER_LEN);
            // An empty part must not pin the read buffer, and the last one needs no reference of its own.
            let payload = if payload == end {
                Bytes::new()
            } else if index.saturating_add(1) < count {
                run.slice(payload..end)
            } else {
                run.advance(payload);
                std::mem::take(&mut run)
            };
            // Built in place: a packet that passes through a `Result` is moved once more.
            into.push(header.packet(payload), version);
        }
        true
    }

    /// The bytes of the chunk from `start` to `end`; those before are dropped. The chunk's end goes with
    /// the chunk's own reference, so that nothing pins the read buffer.
    #[inline]
    fn take(&mut self, start: usize, end: usize) -> Bytes {
        self.chunk.advance(start);
        let len = end.saturating_sub(start);
        if len == self.chunk.len() {
            std::mem::take(&mut self.chunk).freeze()
        } else if len == 0 {
            Bytes::new()
        } else {
            self.chunk.split_to(len).freeze()
        }
    }

    #[inline]
    fn handle(&mut self, kind: MessageKind, payload: Bytes, into: &mut PacketBatch) {
        match kind {
            MessageKind::Binary => {
                self.partial_checked = false;
                match decode_exact(payload, self.version, &self.limits) {
                    Ok((_, version)) if !self.opened && !self.accept.contains(version) => {
                        self.fail(Failure::Decode(DecodeError::VersionRefused { version }));
                    }
                    Ok((packet, version)) => into.push(packet, version),
                    Err(error) => self.fail(Failure::Decode(error)),
                }
            }
            // A copy: 125 bytes must not pin a read buffer until the answer is written.
            MessageKind::Ping => self.pong = Some(Box::new(Bytes::copy_from_slice(&payload))),
            MessageKind::Pong => {}
            MessageKind::Close => self.handle_close(CloseFrame::parse(payload)),
            MessageKind::Text => self.fail(Failure::Message(MessageError::TextRefused)),
        }
    }

    #[cold]
    fn handle_close(&mut self, close: Option<CloseFrame>) {
        self.peer_closed = true;
        let reason = close.and_then(|close| reason_of_close(&close));
        self.fail(Failure::Closed(reason));
    }

    /// Looks at the packet header at the beginning of a message under way: one that is refused in the end
    /// need not be read to its end.
    fn check_partial(&mut self) {
        if self.partial_checked || self.failed.is_some() {
            return;
        }
        let message = self.reader.partial_message();
        let Some(header) = message.first_chunk::<HEADER_LEN>() else {
            return;
        };
        self.partial_checked = true;
        let at_least = message.len().saturating_add(self.reader.frame_remaining());
        let checked = Header::parse(header, &self.limits).and_then(|header| {
            let frame = header.frame_len();
            match self.version {
                Some(expected) if expected != header.version => Err(DecodeError::VersionMismatch {
                    expected,
                    got: header.version,
                }),
                None if !self.accept.contains(header.version) => Err(DecodeError::VersionRefused {
                    version: header.version,
                }),
                _ if at_least > frame => Err(DecodeError::NotOneFrame {
                    len: at_least,
                    frame,
                }),
                _ => Ok(()),
            }
        });
        if let Err(error) = checked {
            self.fail(Failure::Decode(error));
        }
    }

    #[cold]
    fn fail(&mut self, failure: Failure) {
        self.chunk = BytesMut::new();
        self.failed = Some(Box::new(failure));
    }

    /// How the stream ended, or failed to end.
    #[cold]
    fn end(&mut self) -> Result<Received, ConnectionError> {
        if let Some(Failure::Lost(error)) = self.failed.as_deref_mut()
            && let Some(error) = error.take()
        {
            return Err(error);
        }
        match self.failed.as_deref() {
            Some(Failure::Decode(error)) => Err(ConnectionError::Decode(error.clone())),
            Some(Failure::Message(error)) => {
                let code = match error.close_code() {
                    1009 => Code::TOO_LARGE,
                    _ => Code::PROTOCOL_ERROR,
                };
                let words = match error {
                    MessageError::Frame(frame) => frame.to_string(),
                    other => other.to_string(),
                };
                Err(ConnectionError::Closed(CloseReason::local(code, words)))
            }
            Some(Failure::Closed(Some(reason))) => Err(ConnectionError::Closed(reason.clone())),
            _ if self.reader.is_partial() => {
                let held = self.reader.partial_message().len();
                Err(ConnectionError::Truncated { held })
            }
            _ => Ok(Received::End),
        }
    }

    /// One read; 0 at the end of the stream. A message that it completes goes into `into`.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut PacketBatch,
    ) -> Poll<Result<usize, ConnectionError>> {
        let drained = std::mem::take(&mut self.drained);
        ready!(self.probe.poll_behind(drained, &self.stream, cx));
        let stream = Pin::new(&mut self.stream);
        let direct = self.reader.direct_len();
        let (count, room) = if direct > 0 {
            let buffer = self.reader.direct_buffer();
            let count = ready!(poll_read_buf(stream, cx, &mut buffer.limit(direct)))?;
            match self.reader.take_direct(count) {
                Ok(Some((kind, payload))) => self.handle(kind, payload, into),
                Ok(None) => {}
                Err(error) => self.fail(Failure::Message(error)),
            }
            (count, direct)
        } else {
            let chunk = &mut self.chunk;
            let read = worker::with_read_buffer(|buffer| {
                let count = ready!(poll_read_buf(stream, cx, buffer))?;
                *chunk = worker::split_filled(buffer);
                Poll::Ready(Ok::<_, io::Error>(count))
            });
            (ready!(read)?, worker::READ_BUFFER_LEN)
        };
        self.drained = count < room;
        self.progress.read = self.progress.read.saturating_add(count as u64);
        Poll::Ready(Ok(count))
    }

    /// Encodes the answer to the most recent ping, once the last answer is on its way.
    #[inline]
    fn encode_pong(&mut self) {
        if self.control.is_none()
            && let Some(payload) = self.pong.take()
        {
            let control = self.control.get_or_insert_default();
            append_frame(control, self.role, OpCode::Pong, &payload);
        }
    }

    /// Writes control frames, where that does not break into a frame.
    fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.encode_pong();
        if self.mid_batch {
            return Poll::Ready(Ok(()));
        }
        let Some(control) = &mut self.control else {
            return Poll::Ready(Ok(()));
        };
        while !control.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let count = ready!(poll_write_buf(stream, cx, &mut **control))?;
            if count == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.progress.written = self.progress.written.saturating_add(count as u64);
        }
        self.control = None;
        if self.buffered {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads until the peer's Close frame or the end of its stream, within the bound.
    fn poll_peer_close(
        &mut self,
        cx: &mut Context<'_>,
        left: &mut u32,
    ) -> Poll<Result<(), ConnectionError>> {
        loop {
            while !self.chunk.is_empty() {
                match self.reader.step(&mut self.chunk) {
                    Ok(Step::InPlace { kind, payload }) => {
                        self.take(payload.end, payload.end);
                        self.peer_closed |= kind == MessageKind::Close;
                    }
                    Ok(Step::Assembled { kind, consumed, .. }) => {
                        self.take(consumed, consumed);
                        self.peer_closed |= kind == MessageKind::Close;
                    }
                    // Whatever else it says no longer matters.
                    Ok(Step::NeedMore) | Err(_) => self.chunk = BytesMut::new(),
                }
            }
            if self.peer_closed || self.ended || *left == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = worker::take_read_buffer();
            let stream = Pin::new(&mut self.stream);
            let count = match ready!(poll_read_buf(
                stream,
                cx,
                &mut buffer.bytes_mut().limit(*left as usize)
            )) {
                // Without close_notify: nothing that is still read here counts, and the peer has gone.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                count => count?,
            };
            *left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
            self.ended = count == 0;
            self.chunk = buffer.bytes_mut().split();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for WebSocketConnection<S> {
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.chunk.is_empty() {
            // No message comes by itself before the first bytes of one.
            match ready!(self.poll_read(cx, &mut PacketBatch::new())) {
                Ok(count) => self.ended = count == 0,
                // A socket tells of it once; whoever reads on hears of it.
                Err(error) => self.fail(Failure::Lost(Some(error))),
            }
        }
        Poll::Ready(())
    }

    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        budget_bytes: usize,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        let before = into.len();
        for _ in 0..READS_MAX {
            let flooded = self.decode(budget_bytes, into);
            if self.pong.is_some() || self.control.is_some() {
                // A peer that no longer takes answers may still have something to say.
                if let Poll::Ready(Err(_)) = self.poll_control(cx) {
                    self.control = None;
                }
            }
            if into.len() > before {
                let lone = into.len() == before.saturating_add(1)
                    && self.chunk.is_empty()
                    && self.failed.is_none()
                    && self.pong.is_none()
                    && self.control.is_none();
                let received = if lone {
                    self.probe.lone(&mut self.drained, &self.stream, cx)
                } else {
                    Received::Packets
                };
                return Poll::Ready(Ok(received));
            }
            if self.ended || self.failed.is_some() {
                return Poll::Ready(self.end());
            }
            if flooded {
                break;
            }
            self.ended = ready!(self.poll_read(cx, into))? == 0;
        }
        if into.len() > before {
            // The last read completed a message in its own memory.
            return Poll::Ready(Ok(Received::Packets));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        self.encode_pong();
        if self.control.is_some() && !self.mid_batch {
            ready!(self.poll_control(cx))?;
        } else if let Some(control) = self.control.take() {
            // In front of its rest would be inside a frame, and behind the next batch might be never.
            from.bytes_mut().put_slice(&control);
        }
        while !from.bytes_mut().is_empty() {
            self.mid_batch = true;
            let count = ready!(
                self.probe
                    .poll_write(&mut self.stream, cx, from.bytes_mut())
            )?;
            if count == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.progress.written = self.progress.written.saturating_add(count as u64);
            if !self.buffered {
                from.complete_taken();
            }
        }
        self.mid_batch = false;
        if self.buffered {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        }
        from.complete_taken();
        Poll::Ready(Ok(()))
    }

    fn poll_close(
        &mut self,
        cx: &mut Context<'_>,
        reason: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        loop {
            match self.closing {
                Closing::Open => {
                    let lost = reason.initiator == Initiator::Network;
                    if lost && !self.peer_closed {
                        return Poll::Ready(Ok(()));
                    }
                    // Inside a frame nothing can be said any more.
                    if !self.mid_batch {
                        self.pong = None;
                        // A v2 peer that ends without a Goodbye is a lost one, but its Close frame is answered.
                        let (code, words) = if lost {
                            (1000, "")
                        } else {
                            (close_code_of(reason.code), reason.reason.as_str())
                        };
                        append_close(self.control.get_or_insert_default(), self.role, code, words);
                    }
                    self.closing = Closing::Flush;
                }
                Closing::Flush => {
                    ready!(self.poll_control(cx))?;
                    self.closing = Closing::AwaitPeer {
                        left: LINGER_BYTES_MAX,
                    };
                }
                Closing::AwaitPeer { mut left } => {
                    let closed = self.poll_peer_close(cx, &mut left);
                    self.closing = Closing::AwaitPeer { left };
                    ready!(closed)?;
                    self.closing = Closing::Shutdown;
                }
                Closing::Shutdown => {
                    ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    fn set_wire(&mut self, version: WireVersion, limits: Limits) {
        self.version = Some(version);
        self.limits = limits;
        self.opened = true;
        self.reader.set_limits(message_limits(&limits));
        self.partial_checked = false;
        self.check_partial();
    }

    fn framing(&self) -> Framing {
        framing(self.role)
    }

    fn progress(&self) -> Progress {
        self.progress
    }

    fn peer_gone(&self) -> bool {
        self.ended || self.peer_closed || (self.probe.peer_gone)(&self.stream)
    }

    fn incomplete(&self) -> Option<usize> {
        self.reader
            .is_partial()
            .then(|| self.reader.partial_message().len())
    }

    fn info(&self) -> &ConnectionInfo {
        self.info.get()
    }

    fn take_info(&mut self) -> Box<ConnectionInfo> {
        self.info.take()
    }
}

/// The header of a message that holds exactly one plain frame of the session's version within its limit.
#[inline(always)]
fn plain_header(
    version: Option<WireVersion>,
    max_payload: u32,
    message: &[u8],
) -> Option<(WireVersion, PlainHeader)> {
    let version = version?;
    let header = PlainHeader::parse(message.first_chunk()?, version)?;
    let len = header.payload_len();
    let whole = message.len().checked_sub(HEADER_LEN) == Some(len as usize);
    (len <= max_payload && whole).then_some((version, header))
}

fn message_limits(limits: &Limits) -> MessageLimits {
    MessageLimits {
        message_bytes_max: limits.max_frame() as usize,
        text: false,
    }
}

/// The code of a Close frame that says what `code` says (wire format, section 6).
fn close_code_of(code: Code) -> u16 {
    match code {
        Code::NORMAL => 1000,
        Code::GOING_AWAY => 1001,
        Code::PROTOCOL_ERROR => 1002,
        Code::TOO_LARGE => 1009,
        _ => 1011,
    }
}

/// What a peer's Close frame says, unless it is an orderly end: v2 peers say why in their Goodbye, and
/// browsers that leave a page send 1001.
fn reason_of_close(close: &CloseFrame) -> Option<CloseReason> {
    let code = match close.code {
        1000 | 1001 => return None,
        1002 | 1003 | 1007 => Code::PROTOCOL_ERROR,
        1009 => Code::TOO_LARGE,
        1008 => Code::UNAUTHORIZED,
        1013 => Code::OVERLOADED,
        code @ 3000.. => Code(code),
        _ => Code::INTERNAL,
    };
    Some(CloseReason::peer(
        code,
        String::from_utf8_lossy(&close.reason),
    ))
}

#[cfg(test)]
mod tests;
