//! What the session table costs: lookups with a few inserts, churn, and what is left of it while somebody who writes is
//! not running.
//!
//! A figure is what one operation costs the thread that does it: the time of all working threads over what they did.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod tables;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use micro::{Dice, Stopwatch};
use tables::{Dash, Locked, Ours, Scc, Table, Value};

/// Operations of one iteration, by each thread.
const OPERATIONS: u64 = 2_000;

/// As many as the smallest machine has cores.
const WORKERS: u64 = 2;

/// Far more than any small machine has cores: holders are preempted by the kernel itself.
const CROWD: u64 = 8;

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

fn filled<T: Table>(entries: u64) -> T {
    let table = T::new();
    for n in 0..entries {
        table.set(id(n), Value::new(n));
    }
    table
}

/// Lets `threads` threads each do what `work` says, and gives the mean time that each took.
fn together(threads: u64, work: impl Fn(u64) + Sync) -> Duration {
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
fn work<T: Table>(table: &T, seed: u64, operations: u64, entries: u64, writes_in_100: u64) {
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

fn one<T: Table>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
    for entries in [1_000, 100_000] {
        let table: T = filled(entries);
        group.bench_function(format!("95-5/{entries}/{name}"), |bencher| {
            bencher.iter_custom(|iters| {
                together(WORKERS, |thread| {
                    work(&table, thread, iters * OPERATIONS, entries, 5)
                })
            });
        });
    }
    for entries in [1_000, 100_000] {
        let table = T::new();
        let each = entries / WORKERS;
        for thread in 0..WORKERS {
            for n in 0..each {
                table.set(id((thread << 40) + n), Value::new(n));
            }
        }
        let rounds = [const { std::sync::Mutex::new(0) }; WORKERS as usize];
        group.bench_function(format!("churn/{entries}/{name}"), |bencher| {
            bencher.iter_custom(|iters| {
                together(WORKERS, |thread| {
                    let mut round = rounds[thread as usize].lock().expect("no worker panics");
                    churn(&table, thread, iters * OPERATIONS / 2, each, &mut round);
                })
            });
        });
    }
    let table: T = filled(1_000);
    group.bench_function(format!("crowd/1000/{name}"), |bencher| {
        bencher.iter_custom(|iters| {
            let each = (iters * OPERATIONS).div_ceil(CROWD);
            crowded(CROWD, |thread| work(&table, thread, each, 1_000, 5))
        });
    });
    for (kind, writes) in [("reads", 0), ("95-5", 5)] {
        group.bench_function(format!("held-{kind}/1000/{name}"), |bencher| {
            bencher.iter_custom(|iters| held(&table, iters * OPERATIONS, writes));
        });
    }
}

/// What one thread gets done while others are away in the middle of a write, always at least one of them.
fn held<T: Table>(table: &T, operations: u64, writes_in_100: u64) -> Duration {
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

/// Lets more threads than there are cores each do what `work` says, and gives the time of all cores.
fn crowded(threads: u64, work: impl Fn(u64) + Sync) -> Duration {
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || work(thread));
        }
    });
    if Stopwatch::is_cpu() {
        watch.elapsed()
    } else {
        watch.elapsed() * WORKERS as u32
    }
}

fn map(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("map");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(OPERATIONS));
    one::<Ours>(&mut group, "LockFreeHashMap");
    one::<Dash>(&mut group, "dashmap");
    one::<Scc>(&mut group, "scc");
    one::<Locked>(&mut group, "64-locked");
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).nresamples(5_000);
    targets = map
}
criterion_main!(benches);
