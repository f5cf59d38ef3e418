//! [`DelayLine`]: when each datagram leaves that has come in. Pure: the caller has the clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::faults::DatagramFaults;
use super::random::Random;
use super::{HELD_BYTES_MAX, OVERHEAD_BYTES, stream};

/// How late a datagram is that others are to overtake.
const LATE_MICROS: std::ops::Range<u64> = 1_000..10_000;

/// One direction of a UDP path.
#[derive(Debug)]
pub(super) struct DelayLine {
    random: Random,
    waiting: BinaryHeap<Reverse<Waiting>>,
    held_bytes: usize,
    /// When the last datagram will have passed a bandwidth limit.
    free_at: Option<Instant>,
    pushed: u64,
}

/// Ordered by the time of leaving, and then by the time of coming.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    due: Instant,
    number: u64,
    datagram: Bytes,
}

/// What became of a datagram that came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) lost: bool,
    pub(super) duplicated: bool,
    pub(super) late: bool,
}

impl DelayLine {
    pub(super) fn new(random: Random) -> Self {
        Self {
            random,
            waiting: BinaryHeap::new(),
            held_bytes: 0,
            free_at: None,
            pushed: 0,
        }
    }

    /// Takes a datagram in.
    pub(super) fn push(&mut self, datagram: Bytes, faults: &DatagramFaults, now: Instant) -> Fate {
        // Drawn in any case: how one datagram fares does not depend on which faults the ones before it had.
        let lost = self.random.chance(faults.loss);
        let duplicated = self.random.chance(faults.duplication);
        let late = self.random.chance(faults.reordering);
        let jitter = stream::up_to(&mut self.random, faults.jitter);
        let (late_by, again_by) = (self.lateness(), self.lateness());
        if lost || faults.blackhole || !self.has_room(&datagram) {
            return Fate {
                lost: true,
                ..Fate::default()
            };
        }
        let mut due = now + faults.latency + jitter;
        if let Some(rate) = faults.bytes_per_second {
            let begins = self.free_at.map_or(now, |free_at| free_at.max(now));
            let passed = begins + stream::time_for(datagram.len(), rate);
            self.free_at = Some(passed);
            due += passed - now;
        }
        if late {
            due += late_by;
        }
        let duplicated = duplicated && {
            let room = self.held_bytes + 2 * cost(&datagram) <= HELD_BYTES_MAX;
            if room {
                self.keep(due + again_by, datagram.clone());
            }
            room
        };
        self.keep(due, datagram);
        Fate {
            lost: false,
            duplicated,
            late,
        }
    }

    fn lateness(&mut self) -> Duration {
        let range = LATE_MICROS.end - LATE_MICROS.start;
        Duration::from_micros(LATE_MICROS.start + self.random.below(range))
    }

    fn has_room(&self, datagram: &Bytes) -> bool {
        self.held_bytes + cost(datagram) <= HELD_BYTES_MAX
    }

    fn keep(&mut self, due: Instant, datagram: Bytes) {
        self.held_bytes += cost(&datagram);
        self.pushed += 1;
        self.waiting.push(Reverse(Waiting {
            due,
            number: self.pushed,
            datagram,
        }));
    }

    /// When the next datagram leaves.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse(next)| next.due)
    }

    /// The next datagram that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Bytes> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(next) = self.waiting.pop()?;
        self.held_bytes -= cost(&next.datagram);
        Some(next.datagram)
    }

    /// Loses all that is on its way.
    pub(super) fn clear(&mut self) -> usize {
        self.held_bytes = 0;
        let lost = self.waiting.len();
        self.waiting.clear();
        lost
    }
}

fn cost(datagram: &Bytes) -> usize {
    datagram.len() + OVERHEAD_BYTES
}

#[cfg(test)]
mod tests;
