//! Longer runs than loom's, in random and in adversarial orders, with nodes freed as early as may be.
//!
//! `cargo xtask shuttle`; a schedule is one order in which the threads of a model run.

use crate::{LockFreeHashMap, LockFreeQueue};
use shuttle::future::block_on;
use shuttle::sync::Arc;
use shuttle::thread;
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;

/// Preemptions that the adversarial scheduler places.
const DEPTH: usize = 3;

fn model(body: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = std::env::var("MSGTRANS_SHUTTLE_SCHEDULES");
    let schedules = schedules.map_or(2_000, |count| count.parse().expect("a count of schedules"));
    shuttle::check_random(body.clone(), schedules);
    shuttle::check_pct(body, schedules, DEPTH);
}

/// A consumer that meets a wake being delivered wakes itself; an adversarial scheduler would let it do
/// so for ever, a runtime does not.
async fn yielding<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            thread::yield_now();
        }
        polled
    })
    .await
}

const ALIVE: u64 = 0x616c_6976_6521;

/// Knows whether it was dropped; the memory of freed nodes is kept under shuttle.
struct Canary {
    alive: Cell<u64>,
    number: u64,
}

// SAFETY: `alive` is written by the destructor alone, and shuttle's threads take turns on one.
#[expect(
    unsafe_code,
    reason = "the models share a cell that tells of a use after free"
)]
unsafe impl Sync for Canary {}

impl Canary {
    fn new(number: u64) -> Self {
        Self {
            alive: Cell::new(ALIVE),
            number,
        }
    }

    fn check(&self) -> u64 {
        assert_eq!(
            self.alive.get(),
            ALIVE,
            "an entry was read after it was dropped"
        );
        self.number
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        assert_eq!(self.alive.replace(0), ALIVE, "an entry was dropped twice");
    }
}

/// Sends neighbouring keys into one bucket.
#[derive(Default, Clone)]
struct Order(u64);

impl std::hash::Hasher for Order {
    fn finish(&self) -> u64 {
        self.0 << 58
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

type Map = LockFreeHashMap<u64, Canary, std::hash::BuildHasherDefault<Order>>;

fn map_of(keys: std::ops::Range<u64>) -> Arc<Map> {
    let map = Map::default();
    for key in keys {
        map.insert_with(key, Canary::new(key), |_| ());
    }
    Arc::new(map)
}

#[test]
fn map_reader_never_meets_what_was_freed() {
    model(|| {
        let map = map_of(0..4);
        let writer = {
            let map = map.clone();
            thread::spawn(move || {
                for key in 0..4 {
                    let removed = map.remove_with(&key, Canary::check);
                    assert_eq!(removed, Some(key));
                    map.insert_with(key, Canary::new(key), |_| ());
                }
            })
        };
        let replacer = {
            let map = map.clone();
            thread::spawn(move || {
                for key in (0..4).rev() {
                    map.insert_with(key, Canary::new(key), |old| assert_eq!(old.check(), key));
                }
            })
        };
        for key in [1, 3, 0, 2] {
            if let Some(number) = map.get_with(&key, Canary::check) {
                assert_eq!(number, key);
            }
        }
        writer.join().expect("writer");
        replacer.join().expect("replacer");
        for key in 0..4 {
            assert_eq!(map.get_with(&key, Canary::check), Some(key));
        }
        assert_eq!(map.len(), 4);
    });
}

#[test]
fn map_walk_sees_stable_entries_once_while_neighbours_go_and_the_map_grows() {
    model(|| {
        let map = map_of(0..3);
        let writer = {
            let map = map.clone();
            thread::spawn(move || {
                // Far enough to double a shard's buckets.
                for key in 3..32 {
                    map.insert_with(key, Canary::new(key), |_| ());
                }
                assert_eq!(map.remove_with(&1, Canary::check), Some(1));
            })
        };
        let mut seen = [0; 64];
        map.for_each(|key, value| {
            assert_eq!(value.check(), *key);
            seen[*key as usize] += 1;
        });
        assert_eq!((seen[0], seen[2]), (1, 1));
        assert!(seen.iter().all(|count| *count < 2));
        writer.join().expect("writer");
        assert_eq!(map.len(), 31);
    });
}

#[test]
fn map_retain_beside_writers_keeps_what_it_should() {
    model(|| {
        let map = map_of(0..6);
        let writer = {
            let map = map.clone();
            thread::spawn(move || {
                map.insert_with(1, Canary::new(1), |_| ());
                map.remove_with(&2, Canary::check);
                map.insert_with(7, Canary::new(7), |_| ());
            })
        };
        map.retain(|_, value| value.check() % 2 == 0);
        writer.join().expect("writer");
        for key in [0, 4] {
            assert!(map.contains_key(&key), "{key}");
        }
        for key in [2, 3, 5] {
            assert!(!map.contains_key(&key), "{key}");
        }
    });
}

#[test]
fn queue_with_many_producers_and_a_close_loses_nothing_it_took() {
    model(|| {
        let queue = Arc::new(LockFreeQueue::bounded(2));
        let producers: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || (0..3).filter(|n| queue.try_push(*n).is_ok()).count())
            })
            .collect();
        let closer = {
            let queue = queue.clone();
            thread::spawn(move || {
                thread::yield_now();
                queue.close();
            })
        };
        let mut received = 0;
        while block_on(yielding(queue.recv())).is_some() {
            received += 1;
        }
        let pushed: usize = producers
            .into_iter()
            .map(|producer| producer.join().expect("producer"))
            .sum();
        closer.join().expect("closer");
        assert_eq!(received, pushed);
    });
}
