//! What the benches in this package share: the message that travels, the check that all of them arrived, the clock.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Bytes of a [`Message`].
pub const MESSAGE_BYTES: usize = size_of::<Message>();

/// What travels: as large as a packet with its payload by reference.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Counted up by each sender, and summed by the [`Sink`].
    pub id: u64,
    /// What a copy of a message costs.
    pub rest: [u64; 10],
}

impl Message {
    /// The message number `id`.
    #[inline]
    pub fn new(id: u64) -> Self {
        Self { id, rest: [id; 10] }
    }
}

/// Counts what arrives, so that a channel that loses or doubles a message fails the bench.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sink {
    count: u64,
    sum: u64,
}

impl Sink {
    /// Takes one message in.
    #[inline]
    pub fn take(&mut self, message: Message) {
        self.count += 1;
        self.sum = self
            .sum
            .wrapping_add(message.id ^ message.rest[9] ^ message.rest[0]);
    }

    /// Messages taken in.
    #[inline]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Panics unless `senders` senders have each delivered the messages 0 to `each - 1` once.
    pub fn check(&self, senders: u64, each: u64) {
        assert_eq!(self.count, senders * each, "messages lost or doubled");
        let sum = each * each.saturating_sub(1) / 2;
        assert_eq!(self.sum, senders * sum, "messages changed");
    }
}

/// What a figure counts: time passed, or with `MICRO_CLOCK=cpu` the CPU time of all threads of this process.
///
/// CPU time is the steadier of the two beside neighbours, and counts spinning in full.
#[derive(Clone, Copy, Debug)]
pub enum Stopwatch {
    /// Time passed since.
    Wall(Instant),
    /// CPU time that this process had then.
    Cpu(Duration),
}

impl Stopwatch {
    /// Starts counting.
    pub fn start() -> Self {
        if Self::is_cpu() {
            Self::Cpu(cpu_time())
        } else {
            Self::Wall(Instant::now())
        }
    }

    /// What has passed since the start.
    pub fn elapsed(&self) -> Duration {
        match self {
            Self::Wall(start) => start.elapsed(),
            Self::Cpu(start) => cpu_time() - *start,
        }
    }

    /// Whether CPU time is counted.
    pub fn is_cpu() -> bool {
        std::env::var_os("MICRO_CLOCK").is_some_and(|clock| clock == "cpu")
    }
}

/// CPU time of all threads of this process so far.
pub fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A cheap sequence of numbers that look random.
#[derive(Clone, Copy, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    #[inline]
    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
