//! A sharded hash map: wait-free reads, lock-free writes, and memory that waits for those who look (see `grace`; on
//! crossbeam-epoch where the kernel does not help).
#![allow(
    unsafe_code,
    reason = "nodes are shared by raw pointers under crossbeam-epoch"
)]

mod entries;
#[cfg(any(all(test, msgtrans_loom), not(any(msgtrans_loom, msgtrans_shuttle))))]
pub(crate) mod grace;
#[cfg(not(any(msgtrans_loom, msgtrans_shuttle)))]
mod limbo;
mod memory;
mod node;
mod reclaim;
mod shard;
mod slots;

use crate::hash::BuildKeyHasher;
use entries::{Entries, entries_max};
use node::{Fresh, Node};
use reclaim::Guard;
use shard::{Aim, LEVEL_MIN, Shard, Write};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;

/// A concurrent hash map whose readers never wait and whose writers never hold one another up.
///
/// Keys are spread over shards by the highest bits of their hash; a shard is one sorted list with
/// ever more entry points (a split-ordered list), so growing moves no entry and stops nobody.
/// A thread that is preempted in the middle of a write delays no other: they finish its work or
/// walk past it.
///
/// ```
/// use msgtrans_lockfree::LockFreeHashMap;
///
/// let sessions = LockFreeHashMap::new();
/// assert_eq!(sessions.insert(7u64, "alice"), None);
/// assert_eq!(sessions.insert(7, "bob"), Some("alice"));
/// assert_eq!(sessions.get(&7), Some("bob"));
/// assert_eq!(sessions.remove(&7), Some("bob"));
/// assert!(sessions.is_empty());
/// ```
///
/// # Guarantees
/// `get`, `insert`, `insert_if_absent` and `remove` of one key are linearizable. Iteration sees
/// every entry that is there throughout, exactly once, and may or may not see what comes, goes or is
/// replaced meanwhile.
///
/// # Limits
/// - Values are shared with readers that may still look at them, so they are cloned out: store an
///   `Arc`, or something as cheap. A removed or replaced entry is dropped later, when no reader can
///   hold it any more, by the thread that removed it at its next writes; what is more than it keeps,
///   some thousand, by whichever thread gets there. [`flush`](Self::flush) pushes this thread's share
///   out, and so does its end.
/// - The bucket arrays grow and never shrink: 32 to 64 bytes for each entry of the largest size.
/// - `len` is exact only while nobody writes.
/// - A read is wait-free for a bucket of bounded length and follows the replacements of its own key
///   that are made while it runs.
/// - A hasher that maps many keys to one value turns a bucket into a list that is walked.
///
/// # Cost
/// One allocation per insert of 8 bytes beside the entry; a read is a hash, two plain stores of the
/// thread's own and, in the mean, 1.2 nodes. A key is hashed again when a write passes it. Where the
/// kernel has no `membarrier` (anywhere but on 64-bit Linux), a read pins crossbeam-epoch instead,
/// which costs a fence, about 5 ns; where it has, a read has one in 64, and a thread that removes calls `membarrier` once in
/// 384 entries at most, while there are threads that look now and then, and not at all while all look or none.
pub struct LockFreeHashMap<K, V, S = BuildKeyHasher> {
    shards: Box<[Shard<K, V>]>,
    shard_bits: u32,
    hasher: S,
    entries: Entries,
    // Nodes are owned, and read through `&self` from any thread.
    nodes: PhantomData<Node<K, V>>,
}

impl<K, V> LockFreeHashMap<K, V> {
    /// Creates an empty map with the hasher for integer-like keys.
    pub fn new() -> Self {
        Self::with_hasher(BuildKeyHasher::default())
    }

    /// Creates an empty map that takes `capacity` entries before it grows.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::with_capacity_and_hasher(capacity, BuildKeyHasher::default())
    }
}

impl<K, V, S> LockFreeHashMap<K, V, S> {
    /// Creates an empty map with a hasher of one's own. Its highest bits must be good.
    pub fn with_hasher(hasher: S) -> Self {
        Self::with_capacity_and_hasher(0, hasher)
    }

    /// Creates an empty map that takes `capacity` entries before it grows, with a hasher of one's
    /// own.
    pub fn with_capacity_and_hasher(capacity: usize, hasher: S) -> Self {
        let shard_bits = shard_bits();
        // Half full at most, and a little more for shards that get more than their share.
        let per_shard = (capacity >> shard_bits).saturating_mul(5) / 2;
        let level = if capacity == 0 {
            LEVEL_MIN
        } else {
            per_shard.max(1).next_power_of_two().ilog2() as usize
        };
        Self {
            shards: (0..1 << shard_bits).map(|_| Shard::new(level)).collect(),
            shard_bits,
            hasher,
            entries: Entries::new(shard_bits),
            nodes: PhantomData,
        }
    }

    /// How many entries there are; while others write, how many there were about now.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many entries fit before the map grows.
    pub fn capacity(&self) -> usize {
        let buckets = self.shards.iter().map(Shard::buckets);
        buckets.map(entries_max).sum()
    }

    /// Calls `visit` for each entry; see "Guarantees" for what it sees.
    ///
    /// Nothing that is removed anywhere meanwhile is freed before the current shard is done, so
    /// keep `visit` short.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        for shard in &self.shards {
            let guard = reclaim::pin();
            shard.for_each(&guard, &mut visit);
        }
    }

    /// Pushes out what this thread has removed, so that it is dropped soon even if the thread goes
    /// to sleep now. Frees the memory that this thread keeps for its next inserts. Not needed for
    /// correctness.
    pub fn flush(&self) {
        reclaim::flush();
        memory::release();
    }
}

impl<K, V, S> LockFreeHashMap<K, V, S>
where
    K: Hash + Eq,
    S: BuildHasher,
{
    #[inline(always)]
    fn shard_of(&self, key: &K) -> (&Shard<K, V>, u64) {
        let hash = self.hasher.hash_one(key);
        // Two shifts, because a shift by 64 (one shard) does not exist.
        let shard = (hash >> 1 >> (63 - self.shard_bits)) as usize;
        (&self.shards[shard], hash << self.shard_bits)
    }

    #[inline(always)]
    fn write<'a>(&'a self, aim: Aim<'a>, guard: &'a Guard) -> Write<'a, impl Fn(&K) -> u64 + 'a> {
        Write {
            aim,
            order_of: |key: &K| self.hasher.hash_one(key) << self.shard_bits,
            guard,
            entries: &self.entries,
        }
    }

    /// A clone of the value of `key`.
    #[inline]
    pub fn get(&self, key: &K) -> Option<V>
    where
        V: Clone,
    {
        self.get_with(key, V::clone)
    }

    /// What `read` makes of the value of `key`, without cloning it.
    ///
    /// Nothing that is removed anywhere meanwhile is freed before `read` returns, so keep it short.
    #[inline]
    pub fn get_with<R>(&self, key: &K, read: impl FnOnce(&V) -> R) -> Option<R> {
        let (shard, order) = self.shard_of(key);
        let aim = shard.aim(order);
        let guard = reclaim::pin();
        shard.find(aim, |other| other == key, &guard, |_, value| read(value))
    }

    /// Whether `key` has a value.
    #[inline]
    pub fn contains_key(&self, key: &K) -> bool {
        self.get_with(key, |_| ()).is_some()
    }
}

// The bounds are those of a drop that happens later, on whatever thread gets there.
impl<K, V, S> LockFreeHashMap<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: BuildHasher,
{
    /// Sets the value of `key`; a clone of the old one comes back.
    #[inline]
    pub fn insert(&self, key: K, value: V) -> Option<V>
    where
        V: Clone,
    {
        self.insert_with(key, value, V::clone)
    }

    /// Sets the value of `key`; what `read` makes of the old one comes back.
    pub fn insert_with<R>(&self, key: K, value: V, read: impl FnOnce(&V) -> R) -> Option<R> {
        let (shard, order) = self.shard_of(&key);
        let aim = shard.aim_to_write(order);
        let guard = reclaim::pin();
        shard
            .insert(Fresh::new(key, value), true, self.write(aim, &guard), read)
            .unwrap_or(None)
    }

    /// Sets the value of `key` unless it has one.
    ///
    /// # Errors
    /// The value, when `key` has one already.
    pub fn insert_if_absent(&self, key: K, value: V) -> Result<(), V> {
        let (shard, order) = self.shard_of(&key);
        let aim = shard.aim_to_write(order);
        let guard = reclaim::pin();
        // Looking first saves the allocation where keys are usually there.
        if shard
            .find(aim, |other| *other == key, &guard, |_, _| ())
            .is_some()
        {
            return Err(value);
        }
        match shard.insert(
            Fresh::new(key, value),
            false,
            self.write(aim, &guard),
            |_| (),
        ) {
            Ok(_) => Ok(()),
            Err(node) => Err(node.into_value()),
        }
    }

    /// Removes `key`; a clone of its value comes back.
    #[inline]
    pub fn remove(&self, key: &K) -> Option<V>
    where
        V: Clone,
    {
        self.remove_with(key, V::clone)
    }

    /// Removes `key`; what `read` makes of its value comes back.
    pub fn remove_with<R>(&self, key: &K, read: impl FnOnce(&V) -> R) -> Option<R> {
        let (shard, order) = self.shard_of(key);
        let aim = shard.aim_to_write(order);
        let guard = reclaim::pin();
        shard.remove(
            self.write(aim, &guard),
            |other| other == key,
            |_| true,
            read,
        )
    }

    /// Removes `key` if `wanted` says so of its value, in one step; says whether it did. `wanted`
    /// may be asked again when the value changes meanwhile.
    pub fn remove_if(&self, key: &K, wanted: impl Fn(&V) -> bool) -> bool {
        let (shard, order) = self.shard_of(key);
        let aim = shard.aim_to_write(order);
        let guard = reclaim::pin();
        shard
            .remove(
                self.write(aim, &guard),
                |other| other == key,
                wanted,
                |_| (),
            )
            .is_some()
    }

    /// Removes every entry that is there throughout the call and that `keep` does not want. `keep`
    /// may be asked again about an entry when others write next to it.
    pub fn retain(&self, mut keep: impl FnMut(&K, &V) -> bool) {
        for shard in &self.shards {
            shard.retain(&reclaim::pin(), &self.entries, &mut keep);
        }
    }

    /// Removes every entry that is there throughout the call. Buckets are kept.
    pub fn clear(&self) {
        self.retain(|_, _| false);
    }
}

impl<K, V, S: Default> Default for LockFreeHashMap<K, V, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<K: fmt::Debug, V: fmt::Debug, S> fmt::Debug for LockFreeHashMap<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        self.for_each(|key, value| {
            map.entry(key, value);
        });
        map.finish()
    }
}

#[cfg(msgtrans_loom)]
impl<K, V, S> Drop for LockFreeHashMap<K, V, S> {
    fn drop(&mut self) {
        reclaim::collect();
    }
}

/// Four shards a core, 64 at most: enough that two writers seldom meet on a count, few enough that
/// the shards' own words stay in the first-level cache.
fn shard_bits() -> u32 {
    if cfg!(msgtrans_loom) {
        return 0;
    }
    let cores = std::thread::available_parallelism().map_or(4, |cores| cores.get());
    (cores * 4).next_power_of_two().min(64).ilog2()
}
