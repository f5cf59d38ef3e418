//! What the session table costs: lookups with a few inserts, churn, and what is left of it while somebody who writes is
//! not running.
//!
//! A figure is what one operation costs the thread that does it: the time of all working threads over what they did.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod papaya_table;
mod tables;
mod work;

use std::thread;
use std::time::Duration;

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use micro::Stopwatch;
use papaya_table::Papaya;
use tables::{Dash, Locked, Ours, Scc, Table};
use work::{Churned, WORKERS, filled, held, together, work};

/// Operations of one iteration, by each thread.
const OPERATIONS: u64 = 2_000;

/// Far more than any small machine has cores: holders are preempted by the kernel itself.
const CROWD: u64 = 8;

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
        let churned = Churned::<T>::new(entries);
        group.bench_function(format!("churn/{entries}/{name}"), |bencher| {
            bencher.iter_custom(|iters| churned.turn(iters * OPERATIONS / 2));
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
    one::<Papaya>(&mut group, "papaya");
    one::<Locked>(&mut group, "64-locked");
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).nresamples(5_000);
    targets = map
}
criterion_main!(benches);
