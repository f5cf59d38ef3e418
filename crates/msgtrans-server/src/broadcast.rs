//! Fan-out: a packet is encoded once for all sessions that frame alike, and its bytes are shared.
//!
//! A broadcast that comes alone is written to each idle session's socket at once, by whoever broadcasts: no task is woken.
//! Where one follows upon another, waking is what pays: it leaves them in the sessions' mailboxes, and each session writes
//! all that has gathered in one go.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use msgtrans_core::{EncodeError, OutBuffer, Packet, SendError, SendErrorKind, WireVersion};
use msgtrans_lockfree::LockFreeHashMap;
use msgtrans_session::{Moment, RuntimeStats, Session, SessionId};
use msgtrans_transport::Encoder;

/// A broadcast that begins so soon behind the last one, or beside another, is one of a run. It decides about the cost
/// alone: none waits for it. From the end of one call to the beginning of the next are 0.1 µs in a loop and 5 µs from one
/// session's message to the next session's; a peer that answers what it was sent takes 20 µs.
const RUN: Duration = Duration::from_micros(10);
/// Larger frames are left to the sessions: what waking one costs is little beside them, and a socket may take them in
/// parts.
const WRITTEN_MAX: usize = 4096;
/// Sessions that are written to before other tasks have a turn: some 0.3 ms.
const CHUNK: usize = 64;

/// What became of a broadcast. A slow session neither delays the others nor grows without bound: where a session's queue
/// is full, its copy is dropped, counted here and in the statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BroadcastReport {
    /// Sessions whose socket or queue took the packet.
    pub queued: usize,
    /// Sessions whose queue was full.
    pub full: usize,
    /// Sessions that closed meanwhile, or cannot take a packet of this size.
    pub failed: usize,
}

/// When a server broadcasts.
pub(crate) struct Broadcasts {
    under_way: AtomicUsize,
    since: Instant,
    /// When the last one ended, in nanoseconds behind `since`; 0: there was none. Relaxed, as are the others: nothing but
    /// speed hangs on them.
    ended: AtomicU64,
    /// Whether the last one that came alone was followed at once: then the next is taken for the first of a run, too.
    followed: AtomicBool,
}

impl Broadcasts {
    pub(crate) fn new() -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            since: Instant::now(),
            ended: AtomicU64::new(0),
            followed: AtomicBool::new(false),
        }
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// One begins.
    fn begin(&self) -> UnderWay<'_> {
        let beside = self.under_way.fetch_add(1, Ordering::Relaxed) > 0;
        let ended = self.ended.load(Ordering::Relaxed);
        let pause = Duration::from_nanos(self.nanos().saturating_sub(ended));
        let follows = beside || (ended != 0 && pause < RUN);
        let followed = self.followed.swap(follows, Ordering::Relaxed);
        UnderWay {
            all: self,
            alone: !follows && !followed,
        }
    }
}

/// A broadcast, until it ends or is given up.
struct UnderWay<'a> {
    all: &'a Broadcasts,
    /// Whether it is taken for none of a run.
    alone: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.all.ended.store(self.all.nanos(), Ordering::Relaxed);
        self.all.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends `packet` to each of `sessions`.
///
/// # Errors
/// The packet cannot be encoded.
pub(crate) async fn broadcast(
    broadcasts: &Broadcasts,
    sessions: &LockFreeHashMap<SessionId, Session>,
    stats: &RuntimeStats,
    packet: Packet,
) -> Result<BroadcastReport, EncodeError> {
    let under_way = broadcasts.begin();
    let mut broadcast = Broadcast::new(packet);
    if !under_way.alone {
        let mut failed = None;
        sessions.for_each(|_, session| {
            if failed.is_none() {
                failed = broadcast.queue(session).err();
            }
        });
        return failed.map_or(Ok(broadcast.report), Err);
    }
    // Handles first: what visits the map holds up what others free.
    let mut all = Vec::with_capacity(sessions.len());
    sessions.for_each(|id, session| all.push((*id, session.clone())));
    // In the order in which they came, in which what they and the system hold of them lies in memory: in the map's order,
    // which is none, each of 10 000 deliveries takes 1.2 µs longer.
    all.sort_unstable_by_key(|(id, _)| *id);
    let mut all = VecDeque::from(all);
    loop {
        let sent = broadcast.write(&mut all);
        broadcast.count_written(stats);
        sent?;
        if all.is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(broadcast.report)
}

/// A packet on its way to many sessions.
struct Broadcast {
    packet: Packet,
    encoded: Vec<(usize, WireVersion, Bytes)>,
    report: BroadcastReport,
    /// What was written past the sessions' tasks and is not yet counted: whole frames, and bytes.
    written: (u64, u64),
}

impl Broadcast {
    fn new(packet: Packet) -> Self {
        Self {
            packet,
            encoded: Vec::new(),
            report: BroadcastReport::default(),
            written: (0, 0),
        }
    }

    /// Queues the packet for one session.
    fn queue(&mut self, session: &Session) -> Result<(), EncodeError> {
        let outcome = match self.frame(session)? {
            Some(frame) => session.try_send_encoded(frame.clone()),
            None => session.try_send(self.packet.clone()),
        };
        self.count(outcome);
        Ok(())
    }

    /// Writes the packet to the first [`CHUNK`] of `sessions` where they are idle, and queues it for the others.
    fn write(&mut self, sessions: &mut VecDeque<(SessionId, Session)>) -> Result<(), EncodeError> {
        let now = Moment::now();
        for _ in 0..CHUNK {
            // Let go before it has gone cold again.
            let Some((_, session)) = sessions.pop_front() else {
                break;
            };
            // A write takes long enough for all of this to come.
            if let Some((_, later)) = sessions.get(1) {
                later.prefetch();
            }
            if let Some((_, next)) = sessions.front() {
                next.prefetch_way();
            }
            let (whole, bytes) = match self.frame(&session)? {
                Some(frame) if frame.len() <= WRITTEN_MAX => {
                    let bytes = session.try_write_encoded(frame, now);
                    (bytes == frame.len(), bytes)
                }
                _ => (false, 0),
            };
            if bytes == 0 {
                self.queue(&session)?;
            } else {
                self.report.queued += 1;
                self.written.0 += u64::from(whole);
                self.written.1 += bytes as u64;
            }
        }
        Ok(())
    }

    fn count_written(&mut self, stats: &RuntimeStats) {
        let (packets, bytes) = std::mem::take(&mut self.written);
        stats.wrote_past(packets, bytes);
    }

    /// The packet as bytes for this session; `None`: it is to be sent like any other.
    #[inline]
    fn frame(&mut self, session: &Session) -> Result<Option<&Bytes>, EncodeError> {
        let Some((framing, version)) = session.shared_framing() else {
            return Ok(None);
        };
        match framing.encoder() {
            Some(encode) => self.encoded(encode, version).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn encoded(&mut self, encode: Encoder, version: WireVersion) -> Result<&Bytes, EncodeError> {
        // Functions of equal address are the same framing; one framing under two addresses is only encoded twice.
        let key = encode as usize;
        let known = self
            .encoded
            .iter()
            .position(|(known, wire, _)| *known == key && *wire == version);
        let index = match known {
            Some(index) => index,
            None => self.encode(encode, version)?,
        };
        Ok(&self.encoded[index].2)
    }

    #[cold]
    fn encode(&mut self, encode: Encoder, version: WireVersion) -> Result<usize, EncodeError> {
        let mut out = OutBuffer::new();
        encode(&self.packet, version, &mut out)?;
        let mut frame = BytesMut::with_capacity(out.remaining());
        frame.put(&mut out);
        self.encoded
            .push((encode as usize, version, frame.freeze()));
        Ok(self.encoded.len() - 1)
    }

    fn count(&mut self, outcome: Result<(), SendError>) {
        match outcome.map_err(|error| error.into_parts().0) {
            Ok(()) => self.report.queued += 1,
            Err(SendErrorKind::Full { .. }) => self.report.full += 1,
            Err(_) => self.report.failed += 1,
        }
    }
}
