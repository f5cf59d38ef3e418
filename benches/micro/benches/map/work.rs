//! What is done to the maps: lookups with inserts, churn, and work beside somebody who is away.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use micro::{Dice, Stopwatch};

use crate::tables::{Table, Value};

/// As many as the smallest machine has cores.
pub(crate) const WORKERS: u64 = 2;

/// One alone lets the others run whenever it waits for a core between two writes, and the figure would be that of the
/// scheduler.
const HOLDERS: u64 = 2;

/// How long a holder is away: the shortest time slice that a kernel gives somebody else.
const AWAY: Duration = Duration::from_millis(1);

/// The id of the session number `n`: no two are the same, and none tells of its neighbours.
fn id(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (n ^ n >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

pub(crate) fn filled<T: Table>(entries: u64) -> T {
    let table = T::new();
    for n in 0..entries {
        table.set(id(n), Value::new(n));
    }
    table
}

/// Lets `threads` threads each do what `work` says, and gives the mean time that each took.
pub(crate) fn together(threads: u64, work: impl Fn(u64) + Sync) -> Duration {
    let start = Barrier::new(threads as usize + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    start.wait();
                    let watch = Stopwatch::start();
                    work(thread);
                    watch.elapsed()
                })
            })
            .collect();
        let watch = Stopwatch::start();
        start.wait();
        let times: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().expect("no worker panics"))
            .collect();
        if Stopwatch::is_cpu() {
            // The clock is that of all threads together.
            watch.elapsed() / threads as u32
        } else {
            times.iter().sum::<Duration>() / threads as u32
        }
    })
}

/// 95 lookups and 5 inserts in 100, over keys that are there.
pub(crate) fn work<T: Table>(
    table: &T,
    seed: u64,
    operations: u64,
    entries: u64,
    writes_in_100: u64,
) {
    let mut dice = Dice::new(seed + 1);
    for _ in 0..operations {
        let roll = dice.roll();
        let key = id((roll >> 8) % entries);
        if roll % 100 < writes_in_100 {
            table.set(key, Value::new(roll));
        } else {
            black_box(table.get(key)).expect("every key is there throughout");
        }
    }
}

/// Sessions come and go: each thread removes its oldest and inserts another.
fn churn<T: Table>(table: &T, thread: u64, pairs: u64, entries: u64, round: &mut u64) {
    let first = thread << 40;
    for _ in 0..pairs {
        let n = *round;
        assert!(table.remove(id(first + n)), "each key is removed once");
        table.set(id(first + n + entries), Value::new(n));
        *round += 1;
    }
}

/// What one thread gets done while others are away in the middle of a write, always at least one of them.
pub(crate) fn held<T: Table>(table: &T, operations: u64, writes_in_100: u64) -> Duration {
    let ended = AtomicBool::new(false);
    let began = Barrier::new(HOLDERS as usize + 1);
    thread::scope(|scope| {
        for holder in 0..HOLDERS {
            let (began, ended) = (&began, &ended);
            scope.spawn(move || {
                let mut dice = Dice::new(99 + holder);
                began.wait();
                while !ended.load(Ordering::Relaxed) {
                    table.write_and_sleep(id(dice.roll() % 1_000), || thread::sleep(AWAY));
                }
            });
        }
        began.wait();
        thread::sleep(AWAY / 2);
        // Time passed, whatever the clock: who waits for a lock uses no CPU.
        let start = Instant::now();
        work(table, 7, operations, 1_000, writes_in_100);
        let elapsed = start.elapsed();
        ended.store(true, Ordering::Relaxed);
        elapsed
    })
}

/// A map whose entries come and go, by one thread each.
pub(crate) struct Churned<T> {
    table: T,
    each: u64,
    rounds: [Mutex<u64>; WORKERS as usize],
}

impl<T: Table> Churned<T> {
    pub(crate) fn new(entries: u64) -> Self {
        let table = T::new();
        let each = entries / WORKERS;
        for thread in 0..WORKERS {
            for n in 0..each {
                table.set(id((thread << 40) + n), Value::new(n));
            }
        }
        Self {
            table,
            each,
            rounds: [const { Mutex::new(0) }; WORKERS as usize],
        }
    }

    /// Lets each thread remove and insert `pairs` times; gives the mean time that each took.
    pub(crate) fn turn(&self, pairs: u64) -> Duration {
        together(WORKERS, |thread| {
            let mut round = self.rounds[thread as usize]
                .lock()
                .expect("no worker panics");
            churn(&self.table, thread, pairs, self.each, &mut round);
        })
    }
}
