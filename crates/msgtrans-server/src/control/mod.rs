//! The control loop: one thread a server that gives memory back and samples the process.
//!
//! It is a thread and not a task, because it has to keep working while every thread of the runtime is taken: that is
//! when an operator looks at the figures. It waits on crossbeam channels, for a command or the next tick, and ends
//! when its commands have no sender any more. Nobody joins it: whoever drops the server may be on a thread of the
//! runtime, and the loop is at most one sample away from its end.
//!
//! When a crowd of sessions has gone ([`Ebb`]) it gives back what they had without waiting for a tick.
//!
//! On each tick, in this order: what the session map has removed is dropped, read buffers that were not used since
//! the last tick are freed, the process is sampled and the figures are published.

mod ebb;
mod meters;
mod process;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, never, select, tick};
use msgtrans_lockfree::LockFreeHashMap;
use msgtrans_mempool::heap;
use msgtrans_mempool::worker::{self, WorkerStats};
use tokio::sync::oneshot;

pub(crate) use ebb::Ebb;
use meters::Meters;

use crate::memory::MemoryBudget;

/// Between two ticks, unless the builder says otherwise. A sample takes some 20 µs, so this is nothing; memory that
/// a burst needed is held for 10 to 20 s after it.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);
/// Below, the thread would be busy for no better figures.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Above, the figures are no figures any more.
pub(crate) const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// From the word that sessions are going until memory is given back: the last of them and their tasks go meanwhile.
const EBB_SETTLES: Duration = Duration::from_millis(200);

/// From the moment that sessions were cut for what they hold until it is seen whether that was enough.
const SHED_SETTLES: Duration = Duration::from_millis(100);

/// Memory is not given back more often than this because much is held: it would be taken anew at once.
const TRIM_AGAIN: Duration = Duration::from_secs(1);

// Commands come from callers who wait, or who want the same thing twice; a full channel refuses.
const COMMANDS_MAX: usize = 64;

/// What the process was doing when the control loop last looked.
///
/// Everything but [`sessions`](Self::sessions) is of the whole process, whatever else runs in it. The fields that
/// are `None` are not known: before the first sample, and on systems other than Linux.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct ProcessStats {
    /// When the server was made.
    pub since: Instant,
    /// When the sample was taken; equal to `since` before the first one. The processor's share between two samples
    /// is the difference of `cpu_time` by that of `at`.
    pub at: Instant,
    /// Samples taken so far.
    pub samples: u64,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// Processor time of all threads, user and system, since the process began; in steps of 10 ms.
    pub cpu_time: Option<Duration>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// The share of read buffers taken without allocating since the process began, 0 to 1; 1 when none was taken.
    pub read_buffer_hit_rate: f64,
    /// The share of times that a large frame in progress got memory without allocating, 0 to 1; 1 when none did.
    pub frame_buffer_hit_rate: f64,
    /// Bytes of all pooled buffers, lent or free.
    pub buffer_pool_bytes: usize,
    /// Bytes of the pooled buffers that are free.
    pub read_buffer_shared_bytes: usize,
    /// Bytes that the sessions of the process hold; see
    /// [`memory_budget`](crate::TransportServerBuilder::memory_budget).
    pub held_bytes: usize,
    /// This server's budget of them.
    pub memory_budget: usize,
    /// Times that this server's loop has given memory back: on a tick, when asked, after a crowd has gone.
    pub trims: u64,
    /// Sessions of this server.
    pub sessions: usize,
}

impl ProcessStats {
    fn unknown() -> Self {
        let now = Instant::now();
        Self {
            since: now,
            at: now,
            samples: 0,
            resident_bytes: None,
            cpu_time: None,
            open_fds: None,
            threads: None,
            read_buffer_hit_rate: 1.0,
            frame_buffer_hit_rate: 1.0,
            buffer_pool_bytes: 0,
            read_buffer_shared_bytes: 0,
            held_bytes: 0,
            memory_budget: 0,
            trims: 0,
            sessions: 0,
        }
    }
}

enum Command {
    /// Sample now, and say what came out.
    Sample(oneshot::Sender<ProcessStats>),
    /// Free the buffers now.
    Trim,
    /// Many bytes are held: give back what is idle, and see whether sessions must go.
    Press,
    /// Many sessions are going: give back what they had, once they have gone.
    Ebb,
}

/// The server's end of the loop.
pub(crate) struct Control {
    /// `None` once stopped: the loop ends when this is gone, so that no full channel can keep it from ending.
    commands: Mutex<Option<Sender<Command>>>,
    /// The loop's end until it starts. Made early, so that a stop before the start is not lost.
    waiting: Mutex<Option<Receiver<Command>>>,
    /// Whether the loop has been told that many bytes are held and has not looked since.
    pressed: Arc<AtomicBool>,
    latest: Arc<Mutex<ProcessStats>>,
}

impl Control {
    /// No thread yet.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(COMMANDS_MAX);
        Self {
            commands: Mutex::new(Some(sender)),
            waiting: Mutex::new(Some(receiver)),
            pressed: Arc::new(AtomicBool::new(false)),
            latest: Arc::new(Mutex::new(ProcessStats::unknown())),
        }
    }

    /// Starts the thread, once. `upkeep` tidies the server on each tick; `sessions` counts its sessions.
    ///
    /// A server without this thread serves all the same, so where none can be had that is logged and no error.
    pub(crate) fn start(
        &self,
        interval: Duration,
        memory: MemoryBudget,
        shed: impl FnMut() -> bool + Send + 'static,
        upkeep: impl FnMut() + Send + 'static,
        sessions: impl Fn() -> usize + Send + 'static,
    ) {
        let Some(commands) = lock(&self.waiting).take() else {
            return;
        };
        let mut rounds = Rounds {
            memory,
            shed: Box::new(shed),
            pressed: self.pressed.clone(),
            trimmed: None,
            upkeep,
            sessions,
            // Here and not on the thread, so that they belong to the recorder of the caller.
            meters: Meters::new(),
            use_watch: UseWatch::new(&worker::stats()),
            latest: self.latest.clone(),
        };
        let thread = thread::Builder::new()
            .name("msgtrans-control".into())
            .spawn(move || rounds.run(&commands, interval));
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread for the control loop: nothing is sampled or trimmed");
        }
    }

    /// Lets the thread end. What is known stays known.
    pub(crate) fn stop(&self) {
        *lock(&self.commands) = None;
        *lock(&self.waiting) = None;
    }

    pub(crate) fn stats(&self) -> ProcessStats {
        *lock(&self.latest)
    }

    /// A fresh sample, or the last one where the loop does not run.
    pub(crate) async fn sample(&self) -> ProcessStats {
        let (reply, sampled) = oneshot::channel();
        let running = lock(&self.waiting).is_none();
        if running && self.send(Command::Sample(reply)) {
            sampled.await.unwrap_or_else(|_| self.stats())
        } else {
            self.stats()
        }
    }

    pub(crate) fn trim(&self) {
        self.send(Command::Trim);
    }

    /// Many bytes are held. Rung for each lot that is taken, passed on once until the loop has looked.
    pub(crate) fn press(&self) {
        if !self.pressed.swap(true, Ordering::AcqRel) && !self.send(Command::Press) {
            self.pressed.store(false, Ordering::Release);
        }
    }

    /// Many sessions are going. Where the channel is full the next tick does it.
    pub(crate) fn ebb(&self) {
        self.send(Command::Ebb);
    }

    fn send(&self, command: Command) -> bool {
        lock(&self.commands)
            .as_ref()
            .is_some_and(|commands| commands.try_send(command).is_ok())
    }
}

/// Drops what `map` has removed. Entries of a thread that still gathers them, some hundred at most, stay with it.
pub(crate) fn drop_removed<K, V>(map: &LockFreeHashMap<K, V>) {
    // What was removed is dropped two epochs later, and a flush moves on by one at most.
    for _ in 0..3 {
        map.flush();
    }
}

/// What the thread does, and knows.
struct Rounds<U, S> {
    memory: MemoryBudget,
    /// Cuts who holds the most, where too much is held; whether to look again.
    shed: Box<dyn FnMut() -> bool + Send>,
    pressed: Arc<AtomicBool>,
    /// When memory was last given back because much was held.
    trimmed: Option<Instant>,
    upkeep: U,
    sessions: S,
    meters: Meters,
    use_watch: UseWatch,
    latest: Arc<Mutex<ProcessStats>>,
}

impl<U: FnMut(), S: Fn() -> usize> Rounds<U, S> {
    fn run(&mut self, commands: &Receiver<Command>, interval: Duration) {
        let ticks = tick(interval);
        let (mut settled, mut pressure) = (never(), never());
        self.sample();
        loop {
            select! {
                recv(commands) -> command => match command {
                    Ok(Command::Sample(reply)) => {
                        // Nobody waits any more: the sample is published all the same.
                        let _ = reply.send(self.sample());
                    }
                    Ok(Command::Trim) => {
                        (self.upkeep)();
                        self.trim();
                    }
                    Ok(Command::Press) => pressure = self.relieve(),
                    // Said again while it waits, it waits anew: each half of a crowd says it, so not for ever.
                    Ok(Command::Ebb) => settled = after(EBB_SETTLES),
                    Err(_) => return,
                },
                recv(settled) -> _ => {
                    settled = never();
                    (self.upkeep)();
                    self.trim();
                }
                recv(pressure) -> _ => pressure = self.relieve(),
                recv(ticks) -> _ => {
                    (self.upkeep)();
                    if self.use_watch.idle(&worker::stats()) {
                        self.trim();
                    }
                    self.sample();
                }
            }
        }
    }

    /// Much is held: idle memory goes, and sessions where it is too much; then when to look again.
    fn relieve(&mut self) -> Receiver<Instant> {
        // Before the look: what is taken during it is said again.
        self.pressed.store(false, Ordering::Release);
        let now = Instant::now();
        let due = self
            .trimmed
            .is_none_or(|at| now.saturating_duration_since(at) >= TRIM_AGAIN);
        if due {
            self.trimmed = Some(now);
            self.trim();
        }
        if (self.shed)() {
            after(SHED_SETTLES)
        } else {
            never()
        }
    }

    fn trim(&mut self) {
        worker::trim();
        heap::give_back();
        lock(&self.latest).trims += 1;
        tracing::debug!("memory given back");
    }

    fn sample(&self) -> ProcessStats {
        let process = process::read();
        let buffers = worker::stats();
        let sessions = (self.sessions)();
        let stats = {
            let mut latest = lock(&self.latest);
            *latest = ProcessStats {
                since: latest.since,
                at: Instant::now(),
                samples: latest.samples + 1,
                resident_bytes: process.resident_bytes,
                cpu_time: process.cpu_time,
                open_fds: process.open_fds,
                threads: process.threads,
                read_buffer_hit_rate: buffers.read_hit_rate(),
                frame_buffer_hit_rate: buffers.frame_hit_rate(),
                buffer_pool_bytes: buffers.pool.footprint(),
                read_buffer_shared_bytes: buffers.shared_bytes,
                held_bytes: msgtrans_session::held_bytes(),
                memory_budget: self.memory.0,
                trims: latest.trims,
                sessions,
            };
            *latest
        };
        // The recorder is code of others: it runs without the lock.
        self.meters.publish(&stats);
        stats
    }
}

/// Tells when the threads' buffers lie idle.
///
/// Threads count in lots of 64, so a few takes between two ticks pass for none. That is meant: such traffic needs one
/// buffer, and the others are given back.
struct UseWatch {
    takes: u64,
    trimmed: bool,
}

impl UseWatch {
    fn new(stats: &WorkerStats) -> Self {
        Self {
            takes: takes(stats),
            trimmed: false,
        }
    }

    /// Whether to trim now: nothing was taken since the last call, and it has not been said already, unless buffers
    /// have come to lie on the shared stack meanwhile. Without that, a trickle of traffic would allocate anew after
    /// each tick.
    fn idle(&mut self, stats: &WorkerStats) -> bool {
        let takes = takes(stats);
        let idle = takes == self.takes;
        let due = idle && (!self.trimmed || stats.shared_bytes > 0);
        self.takes = takes;
        self.trimmed = idle;
        due
    }
}

fn takes(stats: &WorkerStats) -> u64 {
    let WorkerStats {
        read_hits,
        read_misses,
        out_hits,
        out_misses,
        ..
    } = *stats;
    read_hits + read_misses + out_hits + out_misses
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
