//! [`StreamProxy`]: a bad network in front of a TCP server.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::faults::{Direction, End, StreamFaults};
use super::random::Random;
use super::{HELD_BYTES_MAX, OVERHEAD_BYTES};

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;
/// What a bandwidth limit lets through at once: so much time's worth.
const BURST: Duration = Duration::from_millis(10);
/// How long the sides of a connection that was cut may take to close theirs.
const CUT_WITHIN: Duration = Duration::from_secs(5);
/// The pause after an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts TCP connections, makes one to the server for each, and carries bytes between them as badly as it is told.
///
/// Cheap to clone; every clone is the same proxy, and with the last one all its connections are reset.
#[derive(Clone, Debug)]
pub struct StreamProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner(JoinHandle<()>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    to_server: watch::Sender<StreamFaults>,
    to_client: watch::Sender<StreamFaults>,
    refuses: watch::Sender<bool>,
    /// How all connections of now end: the number of the order, and how.
    ends: watch::Sender<(u64, End)>,
    counts: Counts,
}

/// Relaxed everywhere: read for reports alone.
#[derive(Debug, Default)]
struct Counts {
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
    ended: AtomicU64,
    bytes_to_server: AtomicU64,
    bytes_to_client: AtomicU64,
}

/// What a [`StreamProxy`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamStats {
    /// Connections that are open now.
    pub open: usize,
    /// Connections accepted, the refused ones too.
    pub accepted: u64,
    /// Connections reset at once, because the proxy was told to or the server was not there.
    pub refused: u64,
    /// Connections that the proxy ended in the middle.
    pub ended: u64,
    /// Bytes written to the server.
    pub bytes_to_server: u64,
    /// Bytes written to clients.
    pub bytes_to_client: u64,
}

impl StreamProxy {
    /// A proxy at a free port of 127.0.0.1, in front of `target`, without faults. The same `seed` draws the same.
    ///
    /// # Errors
    /// No port could be bound.
    pub async fn start(target: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            to_server: watch::Sender::default(),
            to_client: watch::Sender::default(),
            refuses: watch::Sender::default(),
            ends: watch::Sender::new((0, End::Reset)),
            counts: Counts::default(),
        });
        let accepting = accept(listener, shared.clone(), Random::new(seed));
        Ok(Self {
            address,
            shared,
            owner: Arc::new(Owner(tokio::spawn(accepting))),
        })
    }

    /// Where clients dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts the proxy in front of another server; connections of now stay with theirs.
    pub fn set_target(&self, target: SocketAddr) {
        *self.shared.lock_target() = target;
    }

    /// Replaces the faults of a direction, for open connections too.
    pub fn set(&self, direction: Direction, faults: StreamFaults) {
        self.change(direction, |now| *now = faults.clone());
    }

    /// Changes the faults of a direction, for open connections too.
    pub fn change(&self, direction: Direction, change: impl Fn(&mut StreamFaults)) {
        if direction != Direction::ToClient {
            self.shared.to_server.send_modify(&change);
        }
        if direction != Direction::ToServer {
            self.shared.to_client.send_modify(&change);
        }
    }

    /// Ends every connection that is open now.
    pub fn end_all(&self, how: End) {
        self.shared.ends.send_modify(|(number, end)| {
            *number += 1;
            *end = how;
        });
    }

    /// Whether new connections are reset at once; those that are open stay.
    pub fn refuse(&self, refuse: bool) {
        self.shared.refuses.send_replace(refuse);
    }

    /// What it has done so far.
    pub fn stats(&self) -> StreamStats {
        let counts = &self.shared.counts;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StreamStats {
            open: counts.open.load(Ordering::Relaxed),
            accepted: of(&counts.accepted),
            refused: of(&counts.refused),
            ended: of(&counts.ended),
            bytes_to_server: of(&counts.bytes_to_server),
            bytes_to_client: of(&counts.bytes_to_client),
        }
    }

    /// Stops: resets every connection, closes the port.
    ///
    /// # Cancel safety
    /// It stops all the same.
    pub async fn stop(self) {
        self.owner.0.abort();
        while !self.owner.0.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

impl Shared {
    fn lock_target(&self) -> std::sync::MutexGuard<'_, SocketAddr> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, random: Random) {
    let mut connections = JoinSet::new();
    for number in 0.. {
        let client = loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((client, _)) => break client,
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                },
                // Keeps the set as small as the connections are many.
                Some(_) = connections.join_next() => {}
            }
        };
        shared.counts.accepted.fetch_add(1, Ordering::Relaxed);
        connections.spawn(carry(client, shared.clone(), random.fork(number)));
    }
}

/// Counts a connection for as long as it lives.
struct Open<'a>(&'a Counts);

impl<'a> Open<'a> {
    fn new(counts: &'a Counts) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection, from its accept to its end.
async fn carry(mut client: TcpStream, shared: Arc<Shared>, random: Random) {
    let counts = &shared.counts;
    let mut ends = shared.ends.subscribe();
    // Until it is told otherwise, what goes away goes with a reset: also when the proxy itself is dropped.
    let _ = client.set_zero_linger();
    let _ = client.set_nodelay(true);
    let target = *shared.lock_target();
    if *shared.refuses.borrow() {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let _open = Open::new(counts);
    let _ = server.set_zero_linger();
    let _ = server.set_nodelay(true);
    let outcome = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = Pump {
            faults: shared.to_server.subscribe(),
            random: random.fork(1),
            passed: &counts.bytes_to_server,
        };
        let down = Pump {
            faults: shared.to_client.subscribe(),
            random: random.fork(2),
            passed: &counts.bytes_to_client,
        };
        tokio::select! {
            both = async {
                tokio::try_join!(up.run(from_client, to_server), down.run(from_server, to_client))
            } => both.map(|_| ()),
            _ = ends.changed() => Err(Ended::Told(ends.borrow().1)),
        }
    };
    match outcome {
        // Both have ended their streams, and heard of the other's end.
        Ok(()) => {
            let _ = (keep_what_was_sent(&client), keep_what_was_sent(&server));
        }
        // A side has reset its connection: so does the other one hear it.
        Err(Ended::Lost) => {}
        Err(Ended::Told(End::Reset)) => {
            counts.ended.fetch_add(1, Ordering::Relaxed);
        }
        Err(Ended::Told(End::Cut)) => {
            counts.ended.fetch_add(1, Ordering::Relaxed);
            let _ = timeout(CUT_WITHIN, async {
                let _ = tokio::join!(cut(&mut client), cut(&mut server));
            })
            .await;
        }
    }
}

/// The opposite of a reset, which was agreed on for the case of an early end.
fn keep_what_was_sent(stream: &TcpStream) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(None)
}

/// Ends a stream in good order, and throws away what still comes: a close with unread bytes would be a reset.
async fn cut(stream: &mut TcpStream) -> io::Result<()> {
    keep_what_was_sent(stream)?;
    stream.shutdown().await?;
    let mut bytes = vec![0; READ_BYTES];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// Why a direction has ended before its stream.
enum Ended {
    /// A side was lost.
    Lost,
    /// The faults say so.
    Told(End),
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

/// One direction of a connection.
struct Pump<'a> {
    faults: watch::Receiver<StreamFaults>,
    random: Random,
    passed: &'a AtomicU64,
}

/// Bytes on their way, by when they arrive.
#[derive(Default)]
struct OnTheWay {
    chunks: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    last_due: Option<Instant>,
}

impl OnTheWay {
    fn push(&mut self, due: Instant, chunk: Bytes) {
        // Jitter delays; it does not reorder a stream.
        let due = self.last_due.map_or(due, |last| last.max(due));
        self.last_due = Some(due);
        self.bytes += chunk.len();
        self.chunks.push_back((due, chunk));
    }

    fn next_due(&self) -> Option<Instant> {
        self.chunks.front().map(|(due, _)| *due)
    }

    fn held_bytes(&self) -> usize {
        self.bytes + self.chunks.len() * OVERHEAD_BYTES
    }

    fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |(_, chunk)| chunk)
    }

    fn advance(&mut self, count: usize) {
        if let Some((_, chunk)) = self.chunks.front_mut() {
            chunk.advance(count);
            if chunk.is_empty() {
                self.chunks.pop_front();
            }
        }
        self.bytes -= count;
    }
}

impl Pump<'_> {
    /// Carries bytes until the stream has ended and its end was passed on.
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<(), Ended> {
        let mut on_the_way = OnTheWay::default();
        let mut buffer = vec![0; READ_BYTES];
        let mut ended = false;
        let mut carried: u64 = 0;
        // When a bandwidth limit lets the next bytes pass.
        let mut free_at = Instant::now();
        // Drawn once for each write, not for each attempt at it.
        let mut slice = None;
        loop {
            let faults = self.faults.borrow_and_update().clone();
            if faults.blackhole {
                self.faults.changed().await.map_err(|_| Ended::Lost)?;
                continue;
            }
            if let Some((at, how)) = faults.end_at
                && carried >= at
            {
                return Err(Ended::Told(how));
            }
            if ended && on_the_way.bytes == 0 {
                to.shutdown().await?;
                return Ok(());
            }
            let leaves = on_the_way.next_due().map(|due| {
                let paced = faults.bytes_per_second.is_some();
                if paced { due.max(free_at) } else { due }
            });
            let may_write = leaves.is_some_and(|leaves| leaves <= Instant::now());
            let mut length = on_the_way.front().len();
            if let Some(max) = faults.slice_bytes_max {
                let drawn = slice.get_or_insert_with(|| 1 + self.random.below(max.get() as u64));
                length = length.min(usize::try_from(*drawn).unwrap_or(usize::MAX));
            }
            if let Some(rate) = faults.bytes_per_second {
                length = length.min(burst_bytes(rate));
            }
            if let Some((at, _)) = faults.end_at {
                length = length.min(usize::try_from(at - carried).unwrap_or(usize::MAX));
            }
            let has_room = on_the_way.held_bytes() + READ_BYTES <= HELD_BYTES_MAX;
            tokio::select! {
                changed = self.faults.changed() => changed.map_err(|_| Ended::Lost)?,
                read = from.read(&mut buffer), if !ended && has_room => {
                    let count = read?;
                    ended = count == 0;
                    if !ended {
                        let jitter = up_to(&mut self.random, faults.jitter);
                        let due = Instant::now() + faults.latency + jitter;
                        on_the_way.push(due, Bytes::copy_from_slice(&buffer[..count]));
                    }
                }
                written = to.write(&on_the_way.front()[..length]), if may_write => {
                    let count = written?;
                    on_the_way.advance(count);
                    carried += count as u64;
                    self.passed.fetch_add(count as u64, Ordering::Relaxed);
                    slice = None;
                    if let Some(rate) = faults.bytes_per_second {
                        free_at = free_at.max(Instant::now()) + time_for(count, rate);
                    }
                    if faults.slice_bytes_max.is_some() {
                        // The reader's turn: slices that lie together in its socket are one again.
                        tokio::task::yield_now().await;
                    }
                }
                () = at(leaves), if !may_write => {}
            }
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

/// From nothing to all of `most`.
pub(super) fn up_to(random: &mut Random, most: Duration) -> Duration {
    let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random.below(nanos.saturating_add(1)))
}

/// How long so many bytes take.
pub(super) fn time_for(bytes: usize, rate: NonZeroU64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate.get() as f64)
}

fn burst_bytes(rate: NonZeroU64) -> usize {
    let bytes = rate.get() as f64 * BURST.as_secs_f64();
    (bytes as usize).max(1)
}
