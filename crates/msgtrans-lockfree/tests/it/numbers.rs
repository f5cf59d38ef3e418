//! Counters, gauge, histogram and the bundle of them under contention.

use crate::scaled;
use msgtrans_lockfree::{Counter, Gauge, Histogram, LockFreeStats, SoleCounter, Tally};
use std::sync::Arc;
use std::thread;

fn on_four_threads(work: impl Fn(usize) + Send + Sync + 'static) {
    let work = Arc::new(work);
    let threads: Vec<_> = (0..4)
        .map(|index| {
            let work = work.clone();
            thread::spawn(move || work(index))
        })
        .collect();
    for thread in threads {
        thread.join().expect("thread");
    }
}

#[test]
fn nothing_that_was_added_is_missing() {
    let counter = Arc::new(Counter::new());
    let each = scaled(100_000, 200);
    let shared = counter.clone();
    on_four_threads(move |index| {
        for _ in 0..each {
            shared.add(index as u64);
        }
    });
    assert_eq!(counter.get(), (6 * each) as u64);
}

#[test]
fn each_count_of_a_tally_is_whole_however_many_threads_add() {
    let tally = Arc::new(Tally::<3>::new());
    let each = scaled(10_000, 100) as u64;
    // More threads one after the other than there are stripes of their own.
    for _ in 0..scaled(10, 2) {
        let shared = tally.clone();
        on_four_threads(move |index| {
            for _ in 0..each {
                shared.add([1, index as u64, 0]);
            }
        });
    }
    let rounds = scaled(10, 2) as u64;
    assert_eq!(tally.get(), [4 * each * rounds, 6 * each * rounds, 0]);
}

#[test]
fn a_sole_counter_tells_all_what_its_writer_adds() {
    let counter = Arc::new(SoleCounter::new());
    let writer = {
        let counter = counter.clone();
        thread::spawn(move || (0..scaled(10_000, 100)).for_each(|_| counter.add(2)))
    };
    let mut last = 0;
    while last < 2 * scaled(10_000, 100) as u64 {
        let now = counter.get();
        assert!(now >= last && now.is_multiple_of(2), "{last}, then {now}");
        last = now;
        thread::yield_now();
    }
    writer.join().unwrap();
    assert_eq!(counter.get(), last);
}

#[test]
fn gauge_ends_where_the_sum_says() {
    let gauge = Arc::new(Gauge::new());
    let shared = gauge.clone();
    on_four_threads(move |index| {
        for _ in 0..scaled(10_000, 100) {
            shared.add(3);
            shared.sub(if index == 0 { 4 } else { 3 });
        }
    });
    assert_eq!(gauge.get(), -(scaled(10_000, 100) as i64));
    gauge.set(7);
    assert_eq!(gauge.add(-10), -3);
}

#[test]
fn histogram_holds_every_record_of_every_thread() {
    let histogram = Arc::new(Histogram::new());
    let each = scaled(50_000, 100) as u64;
    let shared = histogram.clone();
    on_four_threads(move |index| {
        for value in 0..each {
            shared.record(1 + value * 4 + index as u64);
        }
    });
    let snapshot = histogram.snapshot();
    assert_eq!(
        (snapshot.count(), snapshot.min(), snapshot.max()),
        (4 * each, 1, 4 * each)
    );
    let middle = (2 * each) as f64;
    assert!((snapshot.quantile(0.5) as f64 - middle).abs() <= middle / 60.0 + 1.0);
    assert!((snapshot.mean() - middle).abs() <= middle / 60.0 + 1.0);
}

#[test]
fn bundle_shows_what_was_recorded() {
    let stats = LockFreeStats::new();
    stats.record_in(3, 300);
    stats.record_out(2, 50);
    stats.errors.add(1);
    stats.open.add(4);
    stats.latency.record_n(1_000, 3);
    let snapshot = stats.snapshot();
    assert_eq!((snapshot.messages_in, snapshot.bytes_in), (3, 300));
    assert_eq!((snapshot.messages_out, snapshot.bytes_out), (2, 50));
    assert_eq!((snapshot.errors, snapshot.open), (1, 4));
    assert_eq!(snapshot.latency.quantile(1.0), 1_000);
}
