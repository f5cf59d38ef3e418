//! The maps under comparison, all with the same hasher and an [`Arc`] as value, as the session table has.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard};

use dashmap::DashMap;
use msgtrans_lockfree::{BuildKeyHasher, LockFreeHashMap};
use scc::HashIndex;
use scc::hash_index::Entry;

/// A session stands behind one pointer.
pub(crate) type Value = Arc<u64>;

const SHARDS: usize = 64;

pub(crate) trait Table: Sync {
    fn new() -> Self;
    fn get(&self, key: u64) -> Option<Value>;
    fn set(&self, key: u64, value: Value);
    /// Says whether the key was there.
    fn remove(&self, key: u64) -> bool;
    /// Begins to write at `key`, and calls `sleep` where a preemption would hurt the others most.
    fn write_and_sleep(&self, key: u64, sleep: impl FnMut());
}

pub(crate) struct Ours(LockFreeHashMap<u64, Value>);

impl Table for Ours {
    fn new() -> Self {
        Self(LockFreeHashMap::new())
    }

    #[inline]
    fn get(&self, key: u64) -> Option<Value> {
        self.0.get(&key)
    }

    fn set(&self, key: u64, value: Value) {
        self.0.insert_with(key, value, |_| ());
    }

    fn remove(&self, key: u64) -> bool {
        self.0.remove_with(&key, |_| ()).is_some()
    }

    fn write_and_sleep(&self, key: u64, mut sleep: impl FnMut()) {
        // The old entry is out, the guard still stands: nothing that anybody removes meanwhile can be freed.
        self.0.insert_with(key, Value::new(key), |_| sleep());
    }
}

pub(crate) struct Dash(DashMap<u64, Value, BuildKeyHasher>);

impl Table for Dash {
    fn new() -> Self {
        Self(DashMap::with_hasher_and_shard_amount(
            BuildKeyHasher::default(),
            SHARDS,
        ))
    }

    #[inline]
    fn get(&self, key: u64) -> Option<Value> {
        self.0.get(&key).map(|value| value.clone())
    }

    fn set(&self, key: u64, value: Value) {
        self.0.insert(key, value);
    }

    fn remove(&self, key: u64) -> bool {
        self.0.remove(&key).is_some()
    }

    fn write_and_sleep(&self, key: u64, mut sleep: impl FnMut()) {
        if let Some(mut value) = self.0.get_mut(&key) {
            *value = Value::new(key);
            sleep();
        }
    }
}

pub(crate) struct Scc(HashIndex<u64, Value, BuildKeyHasher>);

impl Table for Scc {
    fn new() -> Self {
        Self(HashIndex::with_hasher(BuildKeyHasher::default()))
    }

    #[inline]
    fn get(&self, key: u64) -> Option<Value> {
        // Its read without a lock misses a key now and then while somebody replaces the value; a session that is there
        // must be found, so a miss is confirmed under the lock.
        self.0
            .peek_with(&key, |_, value| value.clone())
            .or_else(|| self.0.read_sync(&key, |_, value| value.clone()))
    }

    fn set(&self, key: u64, value: Value) {
        match self.0.entry_sync(key) {
            Entry::Occupied(mut entry) => entry.update(value),
            Entry::Vacant(entry) => drop(entry.insert_entry(value)),
        }
    }

    fn remove(&self, key: u64) -> bool {
        self.0.remove_sync(&key)
    }

    fn write_and_sleep(&self, key: u64, mut sleep: impl FnMut()) {
        if let Entry::Occupied(mut entry) = self.0.entry_sync(key) {
            entry.update(Value::new(key));
            // It would have to be found again.
            sleep();
        }
    }
}

type Shard = HashMap<u64, Value, BuildKeyHasher>;

/// A cache line for each lock, so that two that are not the same do not meet.
#[repr(align(128))]
struct Line(Mutex<Shard>);

pub(crate) struct Locked(Box<[Line]>);

impl Locked {
    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // The middle bits tell the shard: the map inside uses the lowest ones and the top seven.
        let hash = BuildKeyHasher::default().hash_one(key).rotate_right(32);
        self.0[hash as usize % SHARDS]
            .0
            .lock()
            .expect("nobody panics under the lock")
    }
}

impl Table for Locked {
    fn new() -> Self {
        Self((0..SHARDS).map(|_| Line(Mutex::default())).collect())
    }

    #[inline]
    fn get(&self, key: u64) -> Option<Value> {
        self.shard(key).get(&key).cloned()
    }

    fn set(&self, key: u64, value: Value) {
        self.shard(key).insert(key, value);
    }

    fn remove(&self, key: u64) -> bool {
        self.shard(key).remove(&key).is_some()
    }

    fn write_and_sleep(&self, key: u64, mut sleep: impl FnMut()) {
        let mut shard = self.shard(key);
        shard.insert(key, Value::new(key));
        sleep();
    }
}
