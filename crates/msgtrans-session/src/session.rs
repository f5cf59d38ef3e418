//! [`Session`]: the cheap handle of one session, and what it shares with the session's task.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use msgtrans_actor::{BellGuard, ByteAccount, Mailbox, PushError};
use msgtrans_core::{
    CloseReason, Code, Compression, ConnectionInfo, EncodeError, Features, Goodbye, HEADER_LEN,
    Packet, PacketType, RequestError, SendError, SendErrorKind, SessionId, WireVersion,
    encoded_len,
};
use msgtrans_lockfree::prefetch;
use msgtrans_transport::{Confirmation, Framing};
use tokio::sync::Notify;

use crate::compress;
use crate::direct::{Direct, Past};
use crate::pass::{self, Offered};
use crate::request::{RequestFuture, RequestTable};
use crate::runtime::SessionRuntime;
use crate::stats::{SessionCounters, SessionStats};
use crate::turn::{Moment, Turn};

/// What other tasks leave for a session.
pub(crate) enum Outgoing {
    Packet(Packet, Option<Confirmation>),
    /// One frame that was encoded for many sessions.
    Encoded(Bytes),
}

impl Outgoing {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Packet(packet, _) => packet.queued_bytes(),
            Self::Encoded(bytes) => 64 + bytes.len(),
        }
    }
}

/// What other tasks ask of a session.
#[derive(Debug)]
pub(crate) enum Command {
    /// End it: write what is queued, say Goodbye.
    Close(CloseReason),
    /// Tell the peer to start nothing new, end when the work is done.
    Drain(Goodbye),
    /// End it at once: it holds too much.
    Shed,
    /// A request of this side is no longer awaited.
    Cancel(u32),
    /// Deadlines have changed while nothing else would wake the task.
    Look,
}

/// What the handle and the task share.
///
/// In this order in memory, because a delivery to one of ten thousand sessions costs as much as the cache lines that it
/// touches: what a broadcaster looks at lies together and in front, up to the first byte of the mailbox, and what it looks
/// at to queue a frame lies next.
#[repr(C)]
pub(crate) struct Shared {
    /// Who may write to the socket, where others than the task may.
    pub(crate) turn: Option<Turn>,
    /// The largest frame that the peer takes.
    peer_max_frame: AtomicU32,
    /// 0 until the handshake is done. Written by the task before anybody can send.
    version: AtomicU8,
    /// [`NOT_PLAIN`], or what becomes of packets that need nothing but a number before they are queued, because the session
    /// is open and there is neither middleware nor compression. Relaxed: a send that sees the old value is a send before
    /// the change.
    plain: AtomicU8,
    /// Whether the task waits for the peer to read: then what is queued wakes nobody. Written by the task alone; a send
    /// that sees the old value is one whose packet the task has yet to find, and the deadlines with it.
    pub(crate) blocked: AtomicBool,
    /// Set by who inserts a request, cleared by the task when it looks at the deadlines; the mailbox or the pass brings
    /// the task there.
    pub(crate) deadlines_changed: AtomicBool,
    framing: OnceLock<Framing>,
    pub(crate) mailbox: Mailbox<Command, Outgoing>,
    reason: OnceLock<Box<CloseReason>>,
    pub(crate) runtime: Arc<SessionRuntime>,
    /// The ways past the task, where the peer is in this process.
    pub(crate) direct: Option<Box<Direct>>,
    /// Unique in the process: recognises the session's own pass.
    pub(crate) key: u64,
    /// Bytes that the task has written down in [`HELD`], beside those of the mailbox. Written by the task alone.
    pub(crate) held: AtomicUsize,
    pub(crate) counters: SessionCounters,
    /// None before the first request: most sessions of a server never make one.
    requests: Mutex<Option<Box<RequestTable>>>,
    next_id: AtomicU32,
    features: AtomicU32,
    /// A client learns its id from the Welcome.
    id: AtomicU64,
    pub(crate) info: Box<ConnectionInfo>,
    /// The first GoAway or Goodbye of the peer.
    goodbye: OnceLock<Box<Goodbye>>,
    end: Notify,
    ended: AtomicBool,
    /// Whether the session was cut for what it holds.
    shed: AtomicBool,
}

/// Packets may need more than a number.
const NOT_PLAIN: u8 = 0;
/// They become bytes.
const PLAIN_BYTES: u8 = 1;
/// They change hands as they are.
const PLAIN_PACKETS: u8 = 2;

/// What all sessions of the process hold: packets queued to be written or handled, bytes encoded and not written, packets
/// of which not all has come.
pub(crate) static HELD: ByteAccount = ByteAccount::new();

/// Bytes that all sessions of the process hold, written down in lots of 32 KiB: packets queued to be written or handled,
/// bytes encoded and not yet written, packets of which not all has come. What a session holds below one lot is not
/// counted, and neither is what handlers keep.
pub fn held_bytes() -> usize {
    HELD.held()
}

/// `bell` rings whenever a session takes more while all hold `from` bytes or more, until the guard is dropped. It is
/// called within a session's pass or queue: it may leave word, and must not wait.
pub fn ring_when_held(from: usize, bell: impl Fn() + Send + Sync + 'static) -> BellGuard {
    HELD.ring_from(from, bell)
}

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

impl Shared {
    pub(crate) fn new(
        id: SessionId,
        info: Box<ConnectionInfo>,
        runtime: Arc<SessionRuntime>,
        direct: Option<Box<Direct>>,
        turn: Option<Turn>,
    ) -> Self {
        Self {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            id: AtomicU64::new(id.as_u64()),
            info,
            mailbox: Mailbox::new(runtime.config.outbound).counted_in(&HELD),
            runtime,
            held: AtomicUsize::new(0),
            shed: AtomicBool::new(false),
            requests: Mutex::default(),
            deadlines_changed: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            version: AtomicU8::new(0),
            features: AtomicU32::new(0),
            plain: AtomicU8::new(NOT_PLAIN),
            peer_max_frame: AtomicU32::new(u32::MAX),
            framing: OnceLock::new(),
            next_id: AtomicU32::new(0),
            reason: OnceLock::new(),
            goodbye: OnceLock::new(),
            ended: AtomicBool::new(false),
            end: Notify::new(),
            counters: SessionCounters::default(),
            direct,
            turn,
        }
    }

    pub(crate) fn set_id(&self, id: SessionId) {
        self.id.store(id.as_u64(), Ordering::Relaxed);
    }

    pub(crate) fn id(&self) -> SessionId {
        SessionId::new(self.id.load(Ordering::Relaxed))
    }

    /// The handshake is done: what may be sent from here on. Release pairs with the Acquire in `version`.
    pub(crate) fn set_wire(
        &self,
        version: WireVersion,
        features: Features,
        peer_max_frame: u32,
        framing: Framing,
    ) {
        self.features.store(features.bits(), Ordering::Relaxed);
        self.peer_max_frame.store(peer_max_frame, Ordering::Relaxed);
        // A version 1 peer that turns out to speak version 2 keeps its framing: that is the protocol's own.
        let _ = self.framing.set(framing);
        self.version.store(version as u8, Ordering::Release);
        let plain = self.runtime.middleware.is_empty() && self.runtime.config.compression.is_none();
        let plain = match framing {
            _ if !plain => NOT_PLAIN,
            Framing::Packets => PLAIN_PACKETS,
            Framing::Frames | Framing::Encode(_) => PLAIN_BYTES,
        };
        self.plain.store(plain, Ordering::Relaxed);
    }

    fn is_plain(&self) -> bool {
        self.plain.load(Ordering::Relaxed) != NOT_PLAIN
    }

    pub(crate) fn version(&self) -> Option<WireVersion> {
        match self.version.load(Ordering::Acquire) {
            1 => Some(WireVersion::V1),
            2 => Some(WireVersion::V2),
            _ => None,
        }
    }

    pub(crate) fn features(&self) -> Features {
        Features::from_bits(self.features.load(Ordering::Relaxed))
    }

    pub(crate) fn requests(&self) -> MutexGuard<'_, Option<Box<RequestTable>>> {
        // Nothing panics while the table is locked; if it ever did, the table would still be whole.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table for the first request, under its lock. Whoever ends the session knows the reason before it closes the
    /// table under the same lock: it finds this table, or the reason is found here.
    #[cold]
    pub(crate) fn first_requests<'a>(
        &self,
        table: &'a mut Option<Box<RequestTable>>,
    ) -> Result<&'a mut RequestTable, RequestError> {
        match self.reason() {
            Some(reason) => Err(RequestError::Closed(reason.clone())),
            None => Ok(table.get_or_insert_default()),
        }
    }

    /// Gives a request up; whether it was still without an answer.
    pub(crate) fn abandon_request(&self, id: u32) -> bool {
        let mut table = self.requests();
        table.as_mut().is_some_and(|table| table.abandon(id))
    }

    /// Requests without an outcome that somebody has taken.
    pub(crate) fn requests_pending(&self) -> usize {
        self.requests().as_ref().map_or(0, |table| table.pending())
    }

    /// The reason why the session ends, from the moment it is known; the first one wins.
    pub(crate) fn reason(&self) -> Option<&CloseReason> {
        self.reason.get().map(|reason| &**reason)
    }

    pub(crate) fn set_reason(&self, reason: CloseReason) -> CloseReason {
        self.plain.store(NOT_PLAIN, Ordering::Relaxed);
        CloseReason::clone(self.reason.get_or_init(|| Box::new(reason)))
    }

    /// What went past the task.
    pub(crate) fn past(&self) -> Past {
        let direct = self.direct.as_ref();
        let mut past = direct.map_or_else(Past::default, |direct| direct.past());
        if let Some(turn) = &self.turn {
            let (packets, bytes) = turn.written();
            past.packets_out = past.packets_out.wrapping_add(packets);
            past.bytes_out = past.bytes_out.wrapping_add(bytes);
        }
        past
    }

    fn closed_kind(&self) -> SendErrorKind {
        SendErrorKind::Closed(self.reason().cloned().unwrap_or_else(CloseReason::normal))
    }

    /// The peer wants to leave; the first word of it counts, because it says when to come back.
    pub(crate) fn set_goodbye(&self, goodbye: &Goodbye) {
        self.goodbye.get_or_init(|| Box::new(goodbye.clone()));
    }

    /// Nothing more will happen; wakes who waits for it.
    pub(crate) fn set_ended(&self) {
        self.ended.store(true, Ordering::Release);
        self.end.notify_waiters();
    }

    /// Numbers and encodes a message to which nothing else is to be done, if this thread is in the session's pass; whether
    /// it did.
    #[inline(always)]
    fn offer_plain(&self, packet: &mut Packet) -> bool {
        let bytes = self.plain.load(Ordering::Relaxed) == PLAIN_BYTES;
        if !bytes || packet.packet_type != PacketType::OneWay {
            return false;
        }
        self.assign_id(packet);
        // What is encoded here is far below any limit of a peer.
        pass::offer_plain(self, packet)
    }

    #[inline]
    pub(crate) fn assign_id(&self, packet: &mut Packet) {
        packet.assign_id(|| self.next_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
    }

    /// Everything that can be wrong with a packet is found here, before it is queued.
    #[inline]
    pub(crate) fn prepare(self: &Arc<Self>, packet: &mut Packet) -> Result<(), SendErrorKind> {
        if self.needs_number_alone(packet) {
            self.assign_id(packet);
            return Ok(());
        }
        self.prepare_any(packet)
    }

    /// The common case, told apart by one look at the session and the packet's lengths.
    #[inline]
    pub(crate) fn needs_number_alone(&self, packet: &Packet) -> bool {
        self.is_plain()
            && packet.payload.len() + packet.ext_header.len() + HEADER_LEN <= 65_536
            && packet.meta.is_none()
            && packet.compression == Compression::None
    }

    fn prepare_any(self: &Arc<Self>, packet: &mut Packet) -> Result<(), SendErrorKind> {
        let Some(version) = self.version().filter(|_| self.reason().is_none()) else {
            return Err(self.closed_kind());
        };
        if !self.runtime.middleware.is_empty() {
            self.pass_middleware(packet)?;
        }
        self.assign_id(packet);
        self.check_size(packet, version)?;
        if packet.compression != Compression::None || self.runtime.config.compression.is_some() {
            self.compress(packet, version)?;
        }
        Ok(())
    }

    fn pass_middleware(self: &Arc<Self>, packet: &mut Packet) -> Result<(), SendErrorKind> {
        let session = Session {
            shared: self.clone(),
        };
        for middleware in &self.runtime.middleware {
            middleware
                .on_outbound(&session, packet)
                .map_err(|error| SendErrorKind::Refused(error.to_string()))?;
        }
        Ok(())
    }

    fn check_size(&self, packet: &Packet, version: WireVersion) -> Result<(), EncodeError> {
        let len = encoded_len(packet, version)?;
        let max = self.peer_max_frame.load(Ordering::Relaxed);
        if len > max as usize {
            return Err(EncodeError::FrameTooLarge { len, max });
        }
        Ok(())
    }

    fn compress(&self, packet: &mut Packet, version: WireVersion) -> Result<(), EncodeError> {
        let features = self.features();
        let asked = packet.compression != Compression::None;
        let algorithm = match (&self.runtime.config.compression, asked, version) {
            // A v1 peer may have no codecs: it is sent compressed payloads only where the application asks for it.
            (_, true, WireVersion::V1) => packet.compression,
            (_, true, WireVersion::V2) => {
                let compression = packet.compression;
                if !compress::feature_of(compression)
                    .is_some_and(|feature| features.contains(feature))
                {
                    return Err(EncodeError::CompressionUnavailable { compression });
                }
                compression
            }
            (Some(config), false, WireVersion::V2) => config.choose(packet.payload.len(), features),
            _ => Compression::None,
        };
        match compress::compress(algorithm, &packet.payload)? {
            Some(payload) => {
                packet.payload = payload;
                packet.compression = algorithm;
            }
            None => packet.compression = Compression::None,
        }
        Ok(())
    }

    /// Into the queue; waits for room at most `wait`.
    async fn enqueue(&self, item: Outgoing, wait: Duration) -> Result<(), SendError> {
        let bytes = item.bytes();
        let mut push = self.mailbox.push(item, bytes);
        let queued = poll_fn(|cx| Pin::new(&mut push).poll(cx));
        match self.runtime.timers.timeout(wait, queued).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(PushError::Closed(item) | PushError::Full(item))) => {
                Err(self.refuse(item, self.closed_kind()))
            }
            Err(_) => match push.into_item() {
                Some(item) => Err(self.refuse(item, SendErrorKind::Timeout(wait))),
                // Queued in the very moment the time was over.
                None => Ok(()),
            },
        }
    }

    /// Into the queue if there is room now.
    pub(crate) fn try_enqueue(&self, item: Outgoing) -> Result<(), PushError<Outgoing>> {
        let bytes = item.bytes();
        self.mailbox.try_push(item, bytes)
    }

    pub(crate) fn refuse_full(&self, error: PushError<Outgoing>) -> SendError {
        match error {
            PushError::Closed(item) => self.refuse(item, self.closed_kind()),
            PushError::Full(item) => {
                let (_, queued) = self.mailbox.len();
                self.refuse(
                    item,
                    SendErrorKind::Full {
                        queued,
                        max: self.mailbox.bounds().bytes,
                    },
                )
            }
        }
    }

    fn refuse(&self, item: Outgoing, kind: SendErrorKind) -> SendError {
        match item {
            Outgoing::Packet(packet, _) => SendError::new(kind, packet),
            Outgoing::Encoded(_) => SendError::taken(kind),
        }
    }
}

/// A handle of one session: cheap to clone, usable from any task, also after the session has ended.
#[derive(Clone)]
pub struct Session {
    pub(crate) shared: Arc<Shared>,
}

impl Session {
    /// The session's name.
    pub fn id(&self) -> SessionId {
        self.shared.id()
    }

    /// Who is at the other end, over which protocol, since when.
    pub fn info(&self) -> &ConnectionInfo {
        &self.shared.info
    }

    /// The wire version; `None` before the handshake has told.
    pub fn version(&self) -> Option<WireVersion> {
        self.shared.version()
    }

    /// Whether packets can be sent.
    pub fn is_connected(&self) -> bool {
        self.shared.version().is_some() && self.shared.reason().is_none()
    }

    /// Why the session ends or has ended; `None` while it lives.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.shared.reason().cloned()
    }

    /// What the peer said when it wanted to leave: why, and when and where to come back.
    pub fn peer_goodbye(&self) -> Option<&Goodbye> {
        self.shared.goodbye.get().map(|goodbye| &**goodbye)
    }

    /// Sends a one-way message; resolves when it is queued. Waits for room up to the session's `send_timeout`.
    ///
    /// # Errors
    /// The packet comes back with the reason: closed, no room in time, too large for the peer, refused by middleware,
    /// not a message (Requests go through [`request`](Self::request)).
    ///
    /// # Cancel safety
    /// Dropping the future while it waits for room takes the packet back.
    ///
    /// # Cost
    /// Inside the session's own handler: an encode into the batch that ends the pass. Elsewhere: a short lock, and one
    /// wake for all that is sent until the session has looked. In process: the same lock and wake, but of the peer.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async function moves the packet once more before it looks at it"
    )]
    pub fn send(
        &self,
        mut packet: Packet,
    ) -> impl Future<Output = Result<(), SendError>> + Send + '_ {
        async move {
            if self.shared.offer_plain(&mut packet) {
                packet.done_with();
                return Ok(());
            }
            if self.shared.plain.load(Ordering::Relaxed) == PLAIN_PACKETS
                && check_type(&packet).is_ok()
            {
                match self.shared.send_past(packet) {
                    Ok(()) => return Ok(()),
                    Err(back) => packet = back,
                }
            }
            // Apart, so that the way above, which nearly all take, is not polled through all that this needs.
            let mut otherwise = pin!(self.send_otherwise(packet));
            poll_fn(|cx| poll_apart(otherwise.as_mut(), cx)).await
        }
    }

    async fn send_otherwise(&self, mut packet: Packet) -> Result<(), SendError> {
        if let Err(kind) = check_type(&packet).and_then(|()| self.shared.prepare(&mut packet)) {
            return Err(SendError::new(kind, packet));
        }
        // The way is looked for first: a packet that is moved into a call and out again costs as much as its encoding.
        if let Some(direct) = self.shared.direct() {
            match self.shared.send_direct(direct, packet) {
                Ok(()) => return Ok(()),
                Err(back) => packet = back,
            }
        }
        match pass::offer(&self.shared, &packet) {
            Offered::Taken => Ok(()),
            Offered::Invalid(error) => Err(SendError::new(*error, packet)),
            Offered::NotHere => self.queue(Outgoing::Packet(packet, None)).await,
        }
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// As [`send`](Self::send); a full queue hands the packet back at once.
    pub fn try_send(&self, mut packet: Packet) -> Result<(), SendError> {
        if let Err(kind) = check_type(&packet).and_then(|()| self.shared.prepare(&mut packet)) {
            return Err(SendError::new(kind, packet));
        }
        if let Some(direct) = self.shared.direct() {
            match self.shared.send_direct(direct, packet) {
                Ok(()) => return Ok(()),
                Err(back) => packet = back,
            }
        }
        match pass::offer(&self.shared, &packet) {
            Offered::Taken => Ok(()),
            Offered::Invalid(error) => Err(SendError::new(*error, packet)),
            Offered::NotHere => {
                let item = Outgoing::Packet(packet, None);
                self.shared
                    .try_enqueue(item)
                    .map_err(|error| self.shared.refuse_full(error))
            }
        }
    }

    /// Another name of [`try_send`](Self::try_send).
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn send_nowait(&self, packet: Packet) -> Result<(), SendError> {
        self.try_send(packet)
    }

    /// Sends and waits until the protocol has taken the bytes: written to the socket (through TLS), acknowledged by the
    /// peer's QUIC, or in the peer's queue in process.
    ///
    /// # Errors
    /// As [`send`](Self::send); and [`SendErrorKind::Unconfirmed`] when the connection was lost first.
    ///
    /// # Cancel safety
    /// Once queued the packet is sent all the same.
    pub async fn send_confirmed(&self, mut packet: Packet) -> Result<(), SendError> {
        if let Err(kind) = check_type(&packet).and_then(|()| self.shared.prepare(&mut packet)) {
            return Err(SendError::new(kind, packet));
        }
        let (confirmation, confirmed) = Confirmation::new();
        self.queue(Outgoing::Packet(packet, Some(confirmation)))
            .await?;
        if confirmed.await {
            Ok(())
        } else {
            Err(SendError::taken(SendErrorKind::Unconfirmed))
        }
    }

    /// Makes a request and waits for the response up to the session's `request_timeout`.
    ///
    /// # Errors
    /// See [`RequestError`](msgtrans_core::RequestError).
    ///
    /// # Cancel safety
    /// Dropping the future cancels the request at the peer (version 2).
    pub fn request(&self, packet: impl Into<Packet>) -> RequestFuture {
        RequestFuture::over(self.clone(), packet.into(), None)
    }

    /// Makes a request and waits for the response up to `deadline`; [`Duration::MAX`] waits as long as the session
    /// lives.
    ///
    /// # Errors
    /// See [`RequestError`](msgtrans_core::RequestError). When the deadline passes the peer is told to stop (version 2).
    ///
    /// # Cancel safety
    /// As [`request`](Self::request).
    pub fn request_with(&self, packet: Packet, deadline: Duration) -> RequestFuture {
        RequestFuture::over(self.clone(), packet, Some(deadline))
    }

    /// Ends the session: what is queued is written, then a Goodbye with `code` and `reason`.
    ///
    /// Returns at once; [`closed`](Self::closed) resolves when it is over. The first close wins.
    pub fn close(&self, code: Code, reason: impl Into<String>) {
        self.shared
            .mailbox
            .command(Command::Close(CloseReason::local(code, reason)));
    }

    /// Bytes that the session holds, as [`held_bytes`] counts.
    pub fn held_bytes(&self) -> usize {
        let held = self.shared.held.load(Ordering::Relaxed);
        held.saturating_add(self.shared.mailbox.noted())
    }

    /// Cuts the session at once, without another word, for what it holds: counted as the rejection "memory".
    pub fn shed(&self) {
        if !self.shared.shed.swap(true, Ordering::Relaxed) {
            self.shared.mailbox.command(Command::Shed);
        }
    }

    /// Whether [`shed`](Self::shed) was called; the session may not have ended yet.
    pub fn is_shed(&self) -> bool {
        self.shared.shed.load(Ordering::Relaxed)
    }

    /// Tells the peer to start nothing new, and ends the session when what runs is done.
    pub fn drain(&self, goodbye: Goodbye) {
        self.shared.mailbox.command(Command::Drain(goodbye));
    }

    /// Resolves when the session is over and its connection closed.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn closed(&self) -> CloseReason {
        loop {
            let end = self.shared.end.notified();
            tokio::pin!(end);
            // Registered before the look, so that an end in between is not missed.
            end.as_mut().enable();
            if self.shared.ended.load(Ordering::Acquire) {
                return self.close_reason().unwrap_or_else(CloseReason::normal);
            }
            end.await;
        }
    }

    /// What the session has done so far.
    pub fn stats(&self) -> SessionStats {
        let (queued, queued_bytes) = self.shared.mailbox.len();
        let requests_pending = self.shared.requests_pending();
        let counted = self.shared.counters.snapshot();
        let past = self.shared.past();
        SessionStats {
            packets_in: counted.packets_in.wrapping_add(past.packets_in),
            packets_out: counted.packets_out.wrapping_add(past.packets_out),
            bytes_in: counted.bytes_in.wrapping_add(past.bytes_in),
            bytes_out: counted.bytes_out.wrapping_add(past.bytes_out),
            requests_pending,
            queued,
            queued_bytes,
            ..counted
        }
    }

    /// How broadcasts find sessions that can share encoded bytes: `None` where packets must be sent one by one.
    pub fn shared_framing(&self) -> Option<(Framing, WireVersion)> {
        let version = self.shared.version()?;
        let framing = *self.shared.framing.get()?;
        // The first question answers for nearly all, where it costs nothing.
        (self.shared.is_plain()
            || self.shared.runtime.middleware.is_empty()
                && self.shared.runtime.config.compression.is_none())
        .then_some((framing, version))
    }

    /// Has the processor fetch what [`try_write_encoded`](Self::try_write_encoded) looks at first, while the caller does
    /// something else: of ten thousand sessions nothing is in its caches.
    #[inline]
    pub fn prefetch(&self) {
        let shared = &*self.shared;
        prefetch(&shared.turn);
        prefetch(&shared.framing);
        prefetch(&shared.mailbox);
    }

    /// The same of what it looks at next; where [`prefetch`](Self::prefetch) was called a while before.
    #[inline]
    pub fn prefetch_way(&self) {
        if let Some(turn) = &self.shared.turn {
            turn.prefetch_way();
        }
    }

    /// Writes one frame that was encoded with this session's [`shared_framing`](Self::shared_framing) to the socket on
    /// this thread, where the session is idle and its protocol a plain stream of bytes. Nobody is woken; what a full socket
    /// leaves of the frame is written by the session's task before anything else. Returns how many bytes have gone; 0:
    /// nothing was done, and [`try_send_encoded`](Self::try_send_encoded) is the way.
    ///
    /// Counted in [`stats`](Self::stats) here, and where all of `frame` has gone, in those of all sessions by the caller:
    /// see [`RuntimeStats::wrote_past`](crate::RuntimeStats::wrote_past).
    ///
    /// # Cost
    /// One system call.
    pub fn try_write_encoded(&self, frame: &Bytes, now: Moment) -> usize {
        let shared = &*self.shared;
        let Some(turn) = &shared.turn else {
            return 0;
        };
        let fits = frame.len() <= shared.peer_max_frame.load(Ordering::Relaxed) as usize;
        if !fits || shared.mailbox.is_signalled() || !turn.token.take() {
            return 0;
        }
        // Looked at again in the turn: what was left in the mailbox before, the rest of another broadcaster's frame too,
        // is there still, or was taken by a pass, which laid the turn down only when it was written.
        let count = if shared.mailbox.is_signalled() {
            0
        } else {
            // An error is the task's to find and to report, like all that ends a session.
            turn.write(frame, now).unwrap_or(0)
        };
        let rest = count > 0 && count < frame.len();
        if rest {
            let item = Outgoing::Encoded(frame.slice(count..));
            let bytes = item.bytes();
            shared.mailbox.push_first(item, bytes);
        }
        if turn.token.give_back() || rest {
            shared.mailbox.wake();
        }
        count
    }

    /// Queues one frame that was encoded with this session's [`shared_framing`](Self::shared_framing).
    ///
    /// # Errors
    /// Closed, full, or larger than the peer takes. There is no packet to give back.
    pub fn try_send_encoded(&self, frame: Bytes) -> Result<(), SendError> {
        if self.shared.reason().is_some() {
            return Err(SendError::taken(self.shared.closed_kind()));
        }
        let max = self.shared.peer_max_frame.load(Ordering::Relaxed);
        if frame.len() > max as usize {
            return Err(SendError::taken(EncodeError::FrameTooLarge {
                len: frame.len(),
                max,
            }));
        }
        let item = Outgoing::Encoded(frame);
        let bytes = item.bytes();
        self.shared
            .mailbox
            .try_push_lone(item, bytes)
            .map_err(|error| self.shared.refuse_full(error))
    }

    /// Answers a request of the peer, as nearly all are, without waiting.
    ///
    /// # Errors
    /// The packet comes back, for [`reply`](Self::reply).
    #[inline]
    pub(crate) fn reply_at_once(&self, mut packet: Packet) -> Result<(), Packet> {
        let shared = &*self.shared;
        if shared.plain.load(Ordering::Relaxed) == PLAIN_PACKETS {
            return shared.send_past(packet);
        }
        if !shared.needs_number_alone(&packet) {
            return Err(packet);
        }
        shared.assign_id(&mut packet);
        match pass::offer(shared, &packet) {
            Offered::Taken => {
                packet.done_with();
                Ok(())
            }
            Offered::NotHere | Offered::Invalid(_) => Err(packet),
        }
    }

    /// Answers a request of the peer; waits for room like [`send`](Self::send).
    pub(crate) async fn reply(&self, mut packet: Packet) -> Result<(), SendError> {
        if let Err(kind) = self.shared.prepare(&mut packet) {
            return Err(SendError::new(kind, packet));
        }
        match pass::offer(&self.shared, &packet) {
            Offered::Taken => Ok(()),
            Offered::Invalid(error) => Err(SendError::new(*error, packet)),
            Offered::NotHere => self.queue(Outgoing::Packet(packet, None)).await,
        }
    }

    async fn queue(&self, item: Outgoing) -> Result<(), SendError> {
        self.queue_for(item, Duration::MAX).await
    }

    /// Into the queue, waiting for room at most `wait` and the session's `send_timeout`.
    pub(crate) async fn queue_for(&self, item: Outgoing, wait: Duration) -> Result<(), SendError> {
        match self.shared.try_enqueue(item) {
            Ok(()) => Ok(()),
            Err(PushError::Closed(item)) => {
                Err(self.shared.refuse(item, self.shared.closed_kind()))
            }
            // Boxed, because few sends wait and every send would be larger for it.
            Err(PushError::Full(item)) => {
                Box::pin(
                    self.shared
                        .enqueue(item, wait.min(self.shared.runtime.config.send_timeout)),
                )
                .await
            }
        }
    }
}

/// A poll that is not inlined.
#[inline(never)]
fn poll_apart<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}

fn check_type(packet: &Packet) -> Result<(), SendErrorKind> {
    match packet.packet_type {
        PacketType::OneWay | PacketType::Response => Ok(()),
        packet_type => Err(EncodeError::NotForApplications { packet_type }.into()),
    }
}

impl From<&Session> for SessionId {
    fn from(session: &Session) -> Self {
        session.id()
    }
}

impl From<Session> for SessionId {
    fn from(session: Session) -> Self {
        session.id()
    }
}

impl PartialEq for Session {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Session {}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id())
            .field("protocol", &self.info().protocol)
            .field("peer", &self.info().peer)
            .field("version", &self.version())
            .field("close_reason", &self.shared.reason())
            .finish()
    }
}

/// Commands in the order they came, for the task.
pub(crate) type Commands = Vec<Command>;
