//! What one message of 88 bytes costs through each channel: between threads, between tasks, and from a thread to a task.
//!
//! All messages are in order, all arrive, and every channel that can be bounded is, at [`CAPACITY`]; what is measured
//! is the time until the receiver has the last one, over their number.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod tasks;
mod threads;

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use std::time::Duration;

/// Messages that a bounded channel holds.
const CAPACITY: usize = 1024;

/// Messages of one iteration, over all senders.
const MESSAGES: u64 = 6_400;

/// What the receiver takes at most each time it looks; a task that sends also lets others run so often.
const BATCHES: [usize; 2] = [1, 32];

/// How many senders share one receiver.
const SENDERS: [u64; 2] = [1, 4];

/// Measures `run`, which moves so many messages for each sender and says how long it took.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    channel: &str,
    senders: u64,
    batch: usize,
    mut run: impl FnMut(u64) -> Duration,
) {
    group.bench_function(format!("{channel}/{senders}to1/batch{batch}"), |bencher| {
        bencher.iter_custom(|iters| run(iters * MESSAGES / senders));
    });
}

fn group<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(MESSAGES));
    group
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).nresamples(5_000);
    targets = threads::benches, tasks::within_one_thread, tasks::over_two_threads, tasks::from_a_thread
}
criterion_main!(benches);
