//! The steady loops, closed and open: threads that keep connections busy, and a clock that cuts the measured time out.

use crate::connection::{Connection, Desk};
use crate::report::{self, Measured};
use crate::shape::{Kind, Shape};
use crate::{Address, Target, Time, Trouble, quic, trouble};
use bench_kit::process::Usage;
use hdrhistogram::Histogram;
use rustix::event::epoll::Event;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// How long opening all connections, and draining them at the end, may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A thread looks at the stage at least this often.
const TURN_MAX: Duration = Duration::from_millis(20);
/// Below this distance to the next message a thread looks again instead of sleeping.
const SPIN: Duration = Duration::from_micros(100);
/// An open loop stops sending on a connection that owes so many answers; the intended times go on.
const OWED_MAX: u64 = 65_536;

/// Who decides when the next message leaves.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// An answer: each connection has `window` messages under way.
    Closed { window: u32 },
    /// The clock: `burst` messages at a time, `rate` per second in all.
    Open { rate: f64, burst: u32 },
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Stage {
    Opening,
    WarmUp,
    Measuring,
    Stopping,
}

/// What one thread has done, read by the main thread for reports only (hence Relaxed everywhere).
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) messages: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
}

#[derive(Default)]
pub(crate) struct Shared {
    /// A [`Stage`], written by the main thread.
    stage: AtomicU8,
    pub(crate) counters: Vec<Counters>,
}

pub(crate) enum Note {
    AllOpen,
    Ended(Result<Histogram<u64>, Trouble>),
}

/// Opens, warms up, measures, drains, prints.
pub(crate) fn run(
    mode: &str,
    target: &Target,
    time: &Time,
    kind: Kind,
    pace: Pace,
) -> Result<(), Trouble> {
    let (address, shape) = target.shape(kind)?;
    let (warm_up, duration) = time.durations()?;
    let shape = Arc::new(shape);
    let bytes_per_message = shape.bytes_per_message();
    let threads = target.threads.min(target.connections);
    let shared = Arc::new(Shared {
        stage: AtomicU8::new(Stage::Opening as u8),
        counters: (0..threads).map(|_| Counters::default()).collect(),
    });
    let (notes, inbox) = mpsc::channel();
    for thread in 0..threads {
        let share =
            target.connections / threads + usize::from(thread < target.connections % threads);
        let (shape, shared, notes) = (shape.clone(), shared.clone(), notes.clone());
        let (sources, pace, address) = (target.sources, pace.share(threads), address.clone());
        std::thread::spawn(move || {
            let ended = match (&address, pace) {
                (Address::Quic(address, mtu), Pace::Closed { window }) => {
                    let run = quic::Run::new(shape, shared, thread, window);
                    run.drive(*address, *mtu, share, &notes)
                }
                _ => Worker::new(shape, address, sources, pace, shared, thread)
                    .and_then(|worker| worker.drive(share, &notes)),
            };
            // The main thread has gone when it heard of another's failure first.
            let _ = notes.send(Note::Ended(ended));
        });
    }
    drop(notes);
    let wait = |duration: Duration| -> Result<(), Trouble> {
        match inbox.recv_timeout(duration) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(Note::Ended(Err(error))) => Err(error),
            _ => trouble("a thread ended early"),
        }
    };
    for _ in 0..threads {
        match inbox.recv() {
            Ok(Note::AllOpen) => {}
            Ok(Note::Ended(Err(error))) => return Err(error),
            _ => return trouble("a thread ended early"),
        }
    }
    shared.enter(Stage::WarmUp);
    wait(warm_up)?;
    shared.enter(Stage::Measuring);
    let before = Reading::take(&shared, target.watch)?;
    wait(duration)?;
    let after = Reading::take(&shared, target.watch)?;
    shared.enter(Stage::Stopping);
    let mut latency = report::histogram();
    for _ in 0..threads {
        match inbox.recv() {
            Ok(Note::Ended(ended)) => latency
                .add(ended?)
                .map_err(|error| Trouble(error.to_string()))?,
            _ => return trouble("a thread ended without a result"),
        }
    }
    let measured = after.since(&before, latency, bytes_per_message);
    if measured.messages == 0 {
        return trouble("not one message came back in the measured time");
    }
    let mut line = measured.to_json();
    line["mode"] = json!(mode);
    line["connections"] = json!(target.connections);
    line["payload_bytes"] = json!(target.payload);
    match pace {
        Pace::Closed { window } => line["window"] = json!(window),
        Pace::Open { rate, burst } => {
            line["rate"] = json!(rate);
            line["burst"] = json!(burst);
        }
    }
    println!("{line}");
    Ok(())
}

impl Pace {
    fn share(self, threads: usize) -> Self {
        match self {
            Self::Closed { .. } => self,
            Self::Open { rate, burst } => Self::Open {
                rate: rate / threads as f64,
                burst,
            },
        }
    }
}

impl Shared {
    pub(crate) fn is(&self, stage: Stage) -> bool {
        self.stage.load(Relaxed) == stage as u8
    }

    fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Relaxed);
    }

    pub(crate) fn is_at_least(&self, stage: Stage) -> bool {
        self.stage.load(Relaxed) >= stage as u8
    }
}

/// All counters at one moment.
struct Reading {
    at: Instant,
    messages: u64,
    reads: u64,
    writes: u64,
    own: Usage,
    server: Option<Usage>,
}

impl Reading {
    fn take(shared: &Shared, watch: Option<u32>) -> Result<Self, Trouble> {
        let sum = |field: fn(&Counters) -> &AtomicU64| -> u64 {
            shared
                .counters
                .iter()
                .map(|counters| field(counters).load(Relaxed))
                .sum()
        };
        Ok(Self {
            server: watch.map(Usage::of).transpose()?,
            own: Usage::of(std::process::id())?,
            at: Instant::now(),
            messages: sum(|counters| &counters.messages),
            reads: sum(|counters| &counters.reads),
            writes: sum(|counters| &counters.writes),
        })
    }

    fn since(self, before: &Self, latency: Histogram<u64>, bytes_per_message: usize) -> Measured {
        Measured {
            time: self.at - before.at,
            messages: self.messages - before.messages,
            reads: self.reads - before.reads,
            writes: self.writes - before.writes,
            bytes_per_message,
            own: report::difference(self.own, before.own),
            server: self
                .server
                .zip(before.server)
                .map(|(after, before)| report::difference(after, before)),
            latency,
        }
    }
}

/// A connection and what it owes.
struct Line {
    connection: Connection,
    ledger: Ledger,
}

/// What is owed to one connection.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Messages ever due and ever answered.
    planned: u64,
    answered: u64,
    /// When messages left (or were meant to), oldest first, and how many at that time: nanoseconds since the start.
    sent: VecDeque<(u64, u64)>,
}

impl Ledger {
    /// Messages without an answer.
    pub(crate) fn owed(&self) -> u64 {
        self.planned - self.answered
    }

    /// Messages leave at a time.
    pub(crate) fn plan(&mut self, messages: u64, at: u64) {
        self.planned += messages;
        self.sent.push_back((at, messages));
    }

    /// Takes the oldest departures off and records how long their answers took, where that is wanted.
    pub(crate) fn settle(
        &mut self,
        mut messages: u64,
        now: u64,
        mut latency: Option<&mut Histogram<u64>>,
    ) -> Result<(), Trouble> {
        self.answered += messages;
        if self.answered > self.planned {
            return trouble("more answers than messages");
        }
        while messages > 0
            && let Some((at, left)) = self.sent.front_mut()
        {
            let settled = messages.min(*left);
            if let Some(latency) = &mut latency {
                let taken = now.saturating_sub(*at).clamp(1, latency.high());
                latency
                    .record_n(taken, settled)
                    .map_err(|error| Trouble(error.to_string()))?;
            }
            messages -= settled;
            *left -= settled;
            if *left == 0 {
                self.sent.pop_front();
            }
        }
        Ok(())
    }
}

struct Worker {
    desk: Desk,
    pace: Pace,
    shared: Arc<Shared>,
    thread: usize,
    lines: Vec<Line>,
    events: Vec<Event>,
    start: Instant,
    messages: u64,
    owed: u64,
    latency: Histogram<u64>,
    stopping: bool,
}

impl Worker {
    fn new(
        shape: Arc<Shape>,
        address: Address,
        sources: u8,
        pace: Pace,
        shared: Arc<Shared>,
        thread: usize,
    ) -> Result<Self, Trouble> {
        Ok(Self {
            desk: Desk::new(shape, address, sources)?,
            pace,
            shared,
            thread,
            lines: Vec::new(),
            events: Vec::with_capacity(256),
            start: Instant::now(),
            messages: 0,
            owed: 0,
            latency: report::histogram(),
            stopping: false,
        })
    }

    fn drive(
        mut self,
        connections: usize,
        notes: &Sender<Note>,
    ) -> Result<Histogram<u64>, Trouble> {
        self.open(connections)?;
        // If nobody listens any more, another thread has failed and the process is about to end.
        let _ = notes.send(Note::AllOpen);
        while !self.shared.is_at_least(Stage::WarmUp) {
            self.turn(Duration::from_millis(1))?;
        }
        match self.pace {
            Pace::Closed { window } => self.closed_loop(window)?,
            Pace::Open { rate, burst } => self.open_loop(rate, burst)?,
        }
        self.stopping = true;
        let deadline = Instant::now() + PATIENCE;
        while self.owed > 0 {
            if Instant::now() > deadline {
                return trouble(format!("{} answers never came", self.owed));
            }
            self.turn(TURN_MAX)?;
        }
        for line in self.lines {
            line.connection.close(&mut self.desk);
        }
        Ok(self.latency)
    }

    fn open(&mut self, connections: usize) -> Result<(), Trouble> {
        for token in 0..connections {
            let connection = self.desk.dial(token as u64)?;
            self.lines.push(Line {
                connection,
                ledger: Ledger::default(),
            });
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.lines.iter().all(|line| line.connection.is_open()) {
            if Instant::now() > deadline {
                return trouble("not all connections opened in time");
            }
            self.turn(TURN_MAX)?;
        }
        Ok(())
    }

    fn closed_loop(&mut self, window: u32) -> Result<(), Trouble> {
        for token in 0..self.lines.len() {
            let now = self.now();
            self.plan(token, u64::from(window), now);
            self.lines[token].connection.flush(&mut self.desk)?;
        }
        while !self.shared.is_at_least(Stage::Stopping) {
            self.turn(TURN_MAX)?;
        }
        Ok(())
    }

    fn open_loop(&mut self, rate: f64, burst: u32) -> Result<(), Trouble> {
        let interval = 1e9 * f64::from(burst) / rate;
        let begin = self.now() as f64;
        let (mut issued, mut touched) = (0u64, Vec::new());
        while !self.shared.is_at_least(Stage::Stopping) {
            let now = self.now();
            let mut next;
            loop {
                next = (begin + issued as f64 * interval) as u64;
                let token = (issued % self.lines.len() as u64) as usize;
                let line = &self.lines[token];
                if next > now || line.ledger.owed() > OWED_MAX {
                    break;
                }
                self.plan(token, u64::from(burst), next);
                touched.push(token);
                issued += 1;
            }
            for token in touched.drain(..) {
                self.lines[token].connection.flush(&mut self.desk)?;
            }
            let left = Duration::from_nanos(next.saturating_sub(self.now()));
            self.turn(if left > SPIN {
                left.min(TURN_MAX)
            } else {
                Duration::ZERO
            })?;
        }
        Ok(())
    }

    fn plan(&mut self, token: usize, messages: u64, at: u64) {
        let line = &mut self.lines[token];
        line.connection.outbox.due += messages;
        line.ledger.plan(messages, at);
        self.owed += messages;
    }

    /// One look at the sockets.
    fn turn(&mut self, timeout: Duration) -> Result<(), Trouble> {
        let mut events = std::mem::take(&mut self.events);
        self.desk.wait(&mut events, timeout)?;
        let measuring = self.shared.is(Stage::Measuring);
        for event in &events {
            let token = event.data.u64() as usize;
            let line = &mut self.lines[token];
            let fed = line.connection.on_event(event.flags, &mut self.desk)?;
            if fed.messages > 0 {
                let now = self.start.elapsed().as_nanos() as u64;
                let latency = measuring.then_some(&mut self.latency);
                line.ledger.settle(fed.messages, now, latency)?;
                self.owed -= fed.messages;
                self.messages += fed.messages;
                if matches!(self.pace, Pace::Closed { .. }) && !self.stopping {
                    self.plan(token, fed.messages, now);
                }
            }
            let connection = &mut self.lines[token].connection;
            if !connection.outbox.is_empty() {
                connection.flush(&mut self.desk)?;
            }
        }
        self.events = events;
        let counters = &self.shared.counters[self.thread];
        counters.messages.store(self.messages, Relaxed);
        counters.reads.store(self.desk.reads, Relaxed);
        counters.writes.store(self.desk.writes, Relaxed);
        Ok(())
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests;
