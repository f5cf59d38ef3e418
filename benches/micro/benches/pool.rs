//! What it costs to get a buffer and to be rid of it, on one thread and where another thread ends it.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use crossbeam_queue::ArrayQueue;
use micro::Stopwatch;
use msgtrans_mempool::{BufferPool, MemoryPoolConfig};

/// Buffers of one iteration.
const BUFFERS: u64 = 2_000;

/// Buffers on their way to the other thread at most.
const UNDER_WAY: usize = 64;

const SIZES: [usize; 2] = [1024, 64 * 1024];

/// Gets a buffer, writes to it, and drops it.
fn alone<B>(buffers: u64, get: impl Fn() -> B) -> Duration {
    let watch = Stopwatch::start();
    (0..buffers).for_each(|_| drop(black_box(get())));
    watch.elapsed()
}

/// Hands each buffer to another thread, which drops it.
fn handed_over<B: Send>(buffers: u64, get: impl Fn() -> B) -> Duration {
    let (sender, receiver) = crossbeam_channel::bounded(UNDER_WAY);
    let watch = Stopwatch::start();
    thread::scope(|scope| {
        scope.spawn(move || {
            receiver
                .into_iter()
                .for_each(|buffer: B| drop(black_box(buffer)))
        });
        for _ in 0..buffers {
            sender.send(get()).expect("the other thread drains");
        }
        drop(sender);
    });
    watch.elapsed()
}

fn measure<B: Send>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    size: usize,
    get: impl Fn() -> B,
) {
    group.bench_function(format!("alone/{size}/{name}"), |bencher| {
        bencher.iter_custom(|iters| alone(iters * BUFFERS, &get));
    });
    group.bench_function(format!("handed-over/{size}/{name}"), |bencher| {
        bencher.iter_custom(|iters| handed_over(iters * BUFFERS, &get));
    });
}

/// A vector that goes back to a list, as one would write a pool.
struct Listed<'a> {
    list: &'a ArrayQueue<Vec<u8>>,
    buffer: Vec<u8>,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        // Full means freed.
        let _ = self.list.push(buffer);
    }
}

fn pool(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(BUFFERS));
    for size in SIZES {
        let pool = BufferPool::new(MemoryPoolConfig::new()).expect("the defaults are allowed");
        measure(&mut group, "BufferPool", size, || {
            let mut buffer = pool.lease(size);
            assert_eq!(buffer.put(&[1]), 1);
            buffer
        });
        let list = ArrayQueue::new(200);
        measure(&mut group, "ArrayQueue", size, || {
            let buffer = list.pop().unwrap_or_else(|| Vec::with_capacity(size));
            let mut listed = Listed {
                list: &list,
                buffer,
            };
            listed.buffer.push(1);
            listed
        });
        measure(&mut group, "malloc", size, || {
            let mut buffer = Vec::with_capacity(size);
            buffer.push(1_u8);
            buffer
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(15).nresamples(5_000);
    targets = pool
}
criterion_main!(benches);
