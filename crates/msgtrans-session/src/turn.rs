//! [`Turn`]: whose turn it is to write to a session's socket, the task's or a broadcaster's.
//!
//! The task has the turn from the beginning of a pass until a pass has ended with nothing left to write. While nobody has
//! it, whoever broadcasts may take it, write one frame to the socket and lay it down again: nobody is woken. What the
//! socket does not take of the frame goes to the head of the mailbox, and the task, which has nothing before it, writes it
//! first. Nobody stands still for the other: a broadcaster that does not get the turn leaves its frame in the mailbox, and a
//! pass that does not get it does not begin until the broadcaster wakes the task.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::Duration;

use msgtrans_lockfree::{OwnerToken, SoleCounter, prefetch};
use msgtrans_transport::ByteWay;
use tokio::time::Instant;

/// A moment at which a broadcaster writes: looked up once for many sessions, as the look costs more than all else that is
/// done for one of them.
#[derive(Clone, Copy, Debug)]
pub struct Moment(u64);

/// What moments are counted from.
static EPOCH: OnceLock<Instant> = OnceLock::new();

impl Moment {
    /// This one.
    pub fn now() -> Self {
        let nanos = EPOCH.get_or_init(Instant::now).elapsed().as_nanos();
        // 0 stands for none.
        Self(u64::try_from(nanos).unwrap_or(u64::MAX).max(1))
    }

    fn instant(self) -> Option<Instant> {
        EPOCH.get()?.checked_add(Duration::from_nanos(self.0))
    }
}

/// Who may write, and the way for those who are not the task.
#[repr(C)]
pub(crate) struct Turn {
    way: Weak<dyn ByteWay>,
    /// Free while the session is open and all that its passes have taken from the mailbox is on the socket.
    pub(crate) token: OwnerToken,
    /// When a broadcaster last wrote; 0: not since the last pass. Touched by who has the turn.
    wrote: AtomicU64,
    /// Whole frames and bytes that broadcasters have written. Here and not among the session's other counts, so that a
    /// delivery touches fewer cache lines. Changed by who has the turn, who alone is not the task.
    packets: SoleCounter,
    bytes: SoleCounter,
}

impl Turn {
    /// The task's turn.
    pub(crate) fn new(way: Weak<dyn ByteWay>) -> Self {
        Self {
            way,
            token: OwnerToken::new(),
            wrote: AtomicU64::new(0),
            packets: SoleCounter::new(),
            bytes: SoleCounter::new(),
        }
    }

    /// When a broadcaster last wrote, if one has since the task last asked. For the task, in its turn.
    #[inline]
    pub(crate) fn wrote(&self) -> Option<Instant> {
        let wrote = self.wrote.load(Ordering::Relaxed);
        if wrote == 0 {
            return None;
        }
        self.wrote.store(0, Ordering::Relaxed);
        Moment(wrote).instant()
    }

    /// Writes what the socket takes now. For a broadcaster, in its turn.
    ///
    /// # Errors
    /// The socket's own, or it is closed.
    #[inline]
    pub(crate) fn write(&self, bytes: &[u8], now: Moment) -> io::Result<usize> {
        // The socket is its connection's and closes with it, or behind this write: a handle that somebody keeps holds no
        // descriptor.
        let way = self.way.upgrade().ok_or(io::ErrorKind::NotConnected)?;
        let count = way.try_write(bytes)?;
        self.wrote.store(now.0, Ordering::Relaxed);
        // A frame of which something is left is counted when that is taken from the mailbox.
        self.packets.add(u64::from(count == bytes.len()));
        self.bytes.add(count as u64);
        Ok(count)
    }

    /// Whole frames and bytes that broadcasters have written.
    pub(crate) fn written(&self) -> (u64, u64) {
        (self.packets.get(), self.bytes.get())
    }

    /// What a write begins with.
    #[inline]
    pub(crate) fn prefetch_way(&self) {
        prefetch(self.way.as_ptr());
    }
}
