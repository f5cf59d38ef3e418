//! What it costs to count and to note a latency, from one thread and from two at once, beside what one would write instead.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use micro::{Dice, Stopwatch};
use msgtrans_lockfree::{Counter, Histogram, Tally};

/// What each thread notes in one iteration.
const OPERATIONS: u64 = 10_000;

/// The time of `threads` threads that each call `note` for so many values, over their number.
fn noted(threads: u64, values: u64, note: impl Fn(u64) + Sync) -> Duration {
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        for thread in 0..threads {
            let note = &note;
            scope.spawn(move || {
                let mut dice = Dice::new(thread + 1);
                // Latencies of up to a second.
                (0..values).for_each(|_| note(black_box(1 + dice.roll() % 1_000_000_000)));
            });
        }
    });
    let elapsed = watch.elapsed();
    if Stopwatch::is_cpu() {
        elapsed / threads as u32
    } else {
        elapsed
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, note: impl Fn(u64) + Sync) {
    for threads in [1, 2] {
        group.bench_function(format!("{name}/{threads}"), |bencher| {
            bencher.iter_custom(|iters| noted(threads, iters * OPERATIONS, &note));
        });
    }
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(OPERATIONS));
    group
}

fn histogram(criterion: &mut Criterion) {
    let mut group = group(criterion, "histogram");
    measure(&mut group, "nothing", |value| {
        black_box(value);
    });
    let ours = Histogram::new();
    measure(&mut group, "Histogram", |value| ours.record(value));
    assert!(ours.snapshot().count() > 0);
    let hdr = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 2);
    let hdr = Mutex::new(hdr.expect("bounds in order"));
    measure(&mut group, "Mutex<hdrhistogram>", |value| {
        let mut hdr = hdr.lock().expect("nobody panics under the lock");
        hdr.record(value).expect("within the bounds");
    });
}

fn counter(criterion: &mut Criterion) {
    let mut group = group(criterion, "counter");
    let ours = Counter::new();
    measure(&mut group, "Counter", |value| ours.add(value));
    let tally = Tally::<4>::new();
    measure(&mut group, "Tally<4>", |value| {
        tally.add([1, value, 1, value]);
    });
    let one = AtomicU64::new(0);
    measure(&mut group, "AtomicU64", |value| {
        one.fetch_add(value, Ordering::Relaxed);
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).nresamples(5_000);
    targets = histogram, counter
}
criterion_main!(benches);
