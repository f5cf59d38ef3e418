//! `LockFreeHashMap` beside `HashMap`.

use crate::scaled;
use msgtrans_lockfree::LockFreeHashMap;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Sends all keys to few hashes, so that equal hashes, bucket borders and both ends are hit.
#[derive(Default, Clone)]
struct Colliding(u64);

impl Hasher for Colliding {
    fn finish(&self) -> u64 {
        [0, 1, 1 << 63, (1 << 63) - 1, u64::MAX, 1 << 58, 3 << 57][self.0 as usize % 7]
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .iter()
            .fold(self.0, |sum, byte| sum.wrapping_add(u64::from(*byte)));
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u8, u32),
    InsertIfAbsent(u8, u32),
    Remove(u8),
    RemoveIfEven(u8),
    RetainAbove(u32),
    Get(u8),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<u8>(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
        4 => (any::<u8>(), any::<u32>()).prop_map(|(key, value)| Step::InsertIfAbsent(key, value)),
        6 => any::<u8>().prop_map(Step::Remove),
        3 => any::<u8>().prop_map(Step::RemoveIfEven),
        1 => any::<u32>().prop_map(Step::RetainAbove),
        6 => any::<u8>().prop_map(Step::Get),
        1 => Just(Step::Clear),
    ]
}

fn check_against_std<S>(steps: Vec<Step>, map: LockFreeHashMap<u8, u32, S>)
where
    S: std::hash::BuildHasher,
{
    let mut twin = HashMap::new();
    for step in steps {
        match step {
            Step::Insert(key, value) => {
                assert_eq!(map.insert(key, value), twin.insert(key, value));
            }
            Step::InsertIfAbsent(key, value) => {
                let expected = if twin.contains_key(&key) {
                    Err(value)
                } else {
                    Ok(())
                };
                assert_eq!(map.insert_if_absent(key, value), expected);
                twin.entry(key).or_insert(value);
            }
            Step::Remove(key) => assert_eq!(map.remove(&key), twin.remove(&key)),
            Step::RemoveIfEven(key) => {
                let expected = twin.get(&key).is_some_and(|value| value % 2 == 0);
                assert_eq!(map.remove_if(&key, |value| value % 2 == 0), expected);
                if expected {
                    twin.remove(&key);
                }
            }
            Step::RetainAbove(bound) => {
                map.retain(|_, value| *value > bound);
                twin.retain(|_, value| *value > bound);
            }
            Step::Get(key) => {
                assert_eq!(map.get(&key), twin.get(&key).copied());
                assert_eq!(map.contains_key(&key), twin.contains_key(&key));
            }
            Step::Clear => {
                map.clear();
                twin.clear();
            }
        }
        assert_eq!(map.len(), twin.len());
        assert_eq!(map.is_empty(), twin.is_empty());
    }
    let mut seen = HashMap::new();
    map.for_each(|key, value| assert_eq!(seen.insert(*key, *value), None, "visited twice"));
    assert_eq!(seen, twin);
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: scaled(256, 3) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_history_reads_like_std(steps in prop::collection::vec(step(), 0..scaled(600, 60))) {
        check_against_std(steps, LockFreeHashMap::new());
    }

    #[test]
    fn any_history_reads_like_std_when_hashes_collide(
        steps in prop::collection::vec(step(), 0..scaled(300, 40)),
    ) {
        check_against_std(steps, LockFreeHashMap::with_hasher(BuildHasherDefault::<Colliding>::default()));
    }
}

#[test]
fn every_key_is_found_while_and_after_the_map_grows() {
    let map = LockFreeHashMap::new();
    let count = scaled(200_000, 300) as u64;
    for key in 0..count {
        assert_eq!(map.insert(key, key * 2), None);
        assert_eq!(map.get(&(key / 2)), Some(key / 2 * 2));
    }
    assert_eq!(map.len() as u64, count);
    assert!(map.capacity() as u64 >= count / 2);
    for key in 0..count {
        assert_eq!(map.get(&key), Some(key * 2));
    }
    assert_eq!(map.get(&count), None);
}

#[test]
fn a_given_capacity_is_enough() {
    for wanted in [1, 100, 10_000] {
        let map = LockFreeHashMap::<u64, ()>::with_capacity(wanted);
        assert!(map.capacity() >= wanted, "{} for {wanted}", map.capacity());
    }
}

#[test]
fn strings_are_keys_too() {
    let map = LockFreeHashMap::new();
    for n in 0..scaled(1_000, 50) {
        map.insert(n.to_string(), n);
    }
    for n in 0..scaled(1_000, 50) {
        assert_eq!(map.remove(&n.to_string()), Some(n));
    }
    assert!(map.is_empty());
}

#[test]
fn stable_entries_are_seen_once_while_others_come_and_go() {
    let map = Arc::new(LockFreeHashMap::new());
    let stable = scaled(2_000, 40) as u64;
    for key in 0..stable {
        map.insert(key, 0u64);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2u64)
        .map(|writer| {
            let (map, stop) = (map.clone(), stop.clone());
            thread::spawn(move || {
                let mut round = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    // Come, go, grow the map, and replace what the other side counts.
                    let key = stable + writer * 1_000_000 + round % 5_000;
                    map.insert(key, round);
                    map.insert(round % stable, round);
                    if round.is_multiple_of(3) {
                        map.remove(&key);
                    }
                    round += 1;
                }
            })
        })
        .collect();
    for _ in 0..scaled(200, 4) {
        let mut seen = HashSet::new();
        map.for_each(|key, _| {
            if *key < stable {
                assert!(seen.insert(*key), "{key} was visited twice");
            }
        });
        assert_eq!(seen.len() as u64, stable);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().expect("writer");
    }
}

#[test]
fn retaining_beside_writers_removes_and_keeps_the_right_ones() {
    let map = Arc::new(LockFreeHashMap::new());
    let count = scaled(5_000, 60) as u64;
    for key in 0..count {
        map.insert(key, key);
    }
    let writers: Vec<_> = (0..2u64)
        .map(|writer| {
            let map = map.clone();
            thread::spawn(move || {
                for round in 0..2 * count {
                    let key = count + writer * count + round % count;
                    if round < count {
                        map.insert(key, key);
                    } else {
                        assert_eq!(map.remove(&key), Some(key));
                    }
                }
            })
        })
        .collect();
    map.retain(|key, _| *key >= count || key % 2 == 0);
    for writer in writers {
        writer.join().expect("writer");
    }
    for key in 0..count {
        assert_eq!(map.contains_key(&key), key % 2 == 0, "{key}");
    }
    assert_eq!(map.len() as u64, count.div_ceil(2));
}

#[test]
fn a_replaced_key_is_never_absent() {
    let map = Arc::new(LockFreeHashMap::new());
    map.insert(1u64, 0usize);
    let writer = {
        let map = map.clone();
        thread::spawn(move || {
            for round in 1..=scaled(200_000, 200) {
                assert_eq!(map.insert(1, round), Some(round - 1));
            }
        })
    };
    let mut last = 0;
    while !writer.is_finished() {
        let now = map.get(&1).expect("the key was there all the time");
        assert!(now >= last, "went back from {last} to {now}");
        last = now;
    }
    writer.join().expect("writer");
}

#[test]
fn each_insert_of_an_absent_key_has_one_winner_and_each_remove_too() {
    let map = Arc::new(LockFreeHashMap::new());
    let keys = scaled(20_000, 60) as u64;
    let (won, lost) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (map, won, lost) = (map.clone(), won.clone(), lost.clone());
            thread::spawn(move || {
                for key in 0..keys {
                    if map.insert_if_absent(key, ()).is_ok() {
                        won.fetch_add(1, Ordering::Relaxed);
                    }
                }
                for key in 0..keys {
                    if map.remove(&(keys - 1 - key)).is_some() {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("thread");
    }
    // A thread that is behind may insert a key again after another has removed it, so the wins are
    // not simply the keys; but each win is removed once or still there.
    assert_eq!(
        won.load(Ordering::Relaxed),
        lost.load(Ordering::Relaxed) + map.len()
    );
}

#[test]
fn counts_of_one_key_add_up_over_threads() {
    // Each thread owns keys of its own in the same buckets and knows what it must see.
    let map = Arc::new(LockFreeHashMap::with_hasher(
        BuildHasherDefault::<Colliding>::default(),
    ));
    let threads: Vec<_> = (0..4u64)
        .map(|owner| {
            let map = map.clone();
            thread::spawn(move || {
                for round in 0..scaled(20_000, 60) as u64 {
                    let key = owner + 4 * (round % 5);
                    assert_eq!(map.insert(key, round), None);
                    assert_eq!(map.get(&key), Some(round));
                    assert_eq!(map.insert(key, round + 1), Some(round));
                    assert_eq!(map.remove(&key), Some(round + 1));
                    assert_eq!(map.get(&key), None);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("thread");
    }
    assert!(map.is_empty());
}

/// Counts how many of its kind are alive.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        Self(alive.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn dropping_the_map_drops_what_is_in_it() {
    let alive = Arc::new(AtomicUsize::new(0));
    let map = LockFreeHashMap::new();
    for key in 0..100u64 {
        map.insert_with(key, Alive::new(&alive), |_| ());
    }
    assert_eq!(alive.load(Ordering::Relaxed), 100);
    drop(map);
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn removed_values_are_dropped_once_and_soon() {
    let alive = Arc::new(AtomicUsize::new(0));
    let map = LockFreeHashMap::new();
    let rounds = scaled(20_000, 2_000);
    let mut most = 0;
    for round in 0..rounds as u64 {
        map.insert_with(round % 10, Alive::new(&alive), |_| ());
        most = most.max(alive.load(Ordering::Relaxed));
    }
    drop(map);
    // The other tests of this process share the collector and may hold it up for a moment; what
    // must not happen is that everything is kept.
    assert!(
        most < rounds,
        "{most} of {rounds} values were alive at once"
    );
}

/// Flushes until `alive` is down to `wanted`; other tests of this process may hold the collector up meanwhile.
fn flush_down_to(map: &LockFreeHashMap<u64, Alive>, alive: &AtomicUsize, wanted: usize) {
    while alive.load(Ordering::Relaxed) > wanted {
        map.flush();
        thread::yield_now();
    }
    assert_eq!(alive.load(Ordering::Relaxed), wanted);
}

#[test]
fn what_a_thread_removed_is_dropped_once_it_has_flushed() {
    let alive = Arc::new(AtomicUsize::new(0));
    let map = LockFreeHashMap::new();
    for key in 0..100u64 {
        map.insert_with(key, Alive::new(&alive), |_| ());
    }
    for key in 0..90 {
        map.remove_with(&key, |_| ());
    }
    flush_down_to(&map, &alive, 10);
}

#[test]
fn what_a_thread_removed_before_it_ended_is_dropped_by_others() {
    let alive = Arc::new(AtomicUsize::new(0));
    let map = Arc::new(LockFreeHashMap::new());
    let remover = {
        let (map, alive) = (map.clone(), alive.clone());
        thread::spawn(move || {
            for key in 0..1_000u64 {
                map.insert_with(key, Alive::new(&alive), |_| ());
                map.remove_with(&key, |_| ());
            }
        })
    };
    remover.join().expect("remover");
    flush_down_to(&map, &alive, 0);
}

#[test]
fn while_a_reader_looks_nothing_that_is_removed_is_dropped() {
    let alive = Arc::new(AtomicUsize::new(0));
    let map = Arc::new(LockFreeHashMap::new());
    // More than a thread keeps for itself.
    let count = 2_000u64;
    for key in 0..=count {
        map.insert_with(key, Alive::new(&alive), |_| ());
    }
    map.get_with(&count, |_| {
        let remover = {
            let map = map.clone();
            thread::spawn(move || {
                for key in 0..=count {
                    map.remove_with(&key, |_| ());
                }
            })
        };
        remover.join().expect("remover");
        assert_eq!(alive.load(Ordering::Relaxed) as u64, count + 1);
    });
    flush_down_to(&map, &alive, 0);
}

#[test]
fn a_value_that_removes_others_when_it_is_dropped_may() {
    /// Takes some entries after its own along, the first more than are freed at a time.
    struct Chained {
        map: Arc<LockFreeHashMap<u64, Chained>>,
        next: std::ops::Range<u64>,
        _alive: Alive,
    }
    impl Drop for Chained {
        fn drop(&mut self) {
            for key in self.next.clone() {
                self.map.remove_with(&key, |_| ());
            }
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let map = Arc::new(LockFreeHashMap::new());
    for key in 0..600u64 {
        let chained = Chained {
            map: map.clone(),
            next: key * 200 + 1..key * 200 + 201,
            _alive: Alive::new(&alive),
        };
        map.insert_with(key, chained, |_| ());
    }
    map.remove_with(&0, |_| ());
    while !map.is_empty() || alive.load(Ordering::Relaxed) > 0 {
        map.flush();
        thread::yield_now();
    }
}

#[test]
fn a_key_that_panics_while_compared_leaves_the_map_usable() {
    #[derive(Debug)]
    struct Key(u64, bool);
    impl std::hash::Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            state.write_u64(self.0);
        }
    }
    impl PartialEq for Key {
        fn eq(&self, other: &Self) -> bool {
            assert!(!self.1 && !other.1, "this key refuses to be compared");
            self.0 == other.0
        }
    }
    impl Eq for Key {}
    let map = LockFreeHashMap::with_hasher(BuildHasherDefault::<Colliding>::default());
    map.insert(Key(0, false), 1);
    let bad = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // Bytes sum to 7 and to 0: the same hash.
        map.insert(Key(7, true), 2)
    }));
    assert!(bad.is_err());
    assert_eq!(map.insert(Key(0, false), 3), Some(1));
    assert_eq!(map.len(), 1);
}

#[test]
fn what_is_printed_of_a_map_is_its_entries() {
    let map = LockFreeHashMap::<u64, &str>::default();
    map.insert(7, "seven");
    assert_eq!(format!("{map:?}"), "{7: \"seven\"}");
    map.flush();
}
