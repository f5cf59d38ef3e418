//! One shard: a split-ordered list.
//!
//! All entries of a shard form one singly linked list, sorted by hash. A bucket is a range of
//! hashes: with 2^level buckets, bucket `b` holds those whose `level` highest bits are `b`, and its
//! *slot*, a link of its own in the list, stands just before them. Doubling the number of buckets
//! therefore moves nothing: bucket `b` becomes `2b` and `2b + 1`, whose slots are put into the list when
//! somebody first writes there, and its own slot stays. Slots live in arrays that are never moved: one
//! per level with all its buckets, so that the way from a hash to its slot is a shift and two loads; an
//! array of the odd ones alone would halve the memory and take half as long again. Slots that stand at the
//! same hash are in the order of their levels.
//!
//! Source: O. Shalev, N. Shavit, "Split-Ordered Lists: Lock-Free Extensible Hash Tables" (2003), on
//! the list of T. Harris (2001) and M. Michael (2002). What differs: buckets are named by the highest
//! bits of the hash instead of the bit-reversed lowest ones, slots lie in the arrays themselves
//! instead of being allocated, and an entry is replaced by a new node in one step.
//!
//! A link is a pointer with three flags:
//!
//! | flag | about | meaning |
//! |---|---|---|
//! | `DEAD` | the node that owns the link | removed, or replaced by the node it points to; the link never changes again |
//! | `SLOT` | what it points to | a slot, not a node; with address 0, the end of the list |
//! | `NEW` | the slot that owns the link | being put into the list: nobody may start here yet |
//!
//! A slot link of 0 has never been used, of `NEW` alone is claimed by the thread that puts it in.
//!
//! Readers follow links, dead ones too, and write nothing, so they are wait-free in a bucket of
//! bounded length. Writers unlink the dead nodes that they meet; the one whose exchange unlinks a
//! node retires it. An exchange on a link expects it alive, so no node is ever added behind a dead
//! one, and a retired node is not freed while anybody who could have met it is pinned, so an address
//! cannot come back as another node in between.

use super::entries::Entries;
use super::node::{Fresh, Link, Node, free_node};
use super::reclaim::{self, Guard};
use super::slots::{Last, free_array, new_array};
use crate::prefetch::prefetch;
use crate::primitive::{AtomicPtr, AtomicUsize, CachePadded, Ordering};
use std::marker::PhantomData;
use std::ptr;

const DEAD: usize = 1;
const SLOT: usize = 2;
const NEW: usize = 4;
const FLAGS: usize = DEAD | SLOT | NEW;
const END: usize = SLOT;

// 2^36 buckets a shard, far beyond memory. Under loom two doublings show everything.
const LEVELS: usize = if cfg!(msgtrans_loom) { 4 } else { 36 };
/// The least level: below 1 a shift by 64 would be needed.
pub(super) const LEVEL_MIN: usize = if cfg!(msgtrans_loom) { 1 } else { 3 };

// Under loom fewer, to keep the models short.
const PREPARED_PER_INSERT: usize = if cfg!(msgtrans_loom) { 2 } else { 8 };

#[inline(always)]
fn flags(link: *mut Link) -> usize {
    link.addr() & FLAGS
}

#[inline(always)]
fn without(link: *mut Link, flags: usize) -> *mut Link {
    link.map_addr(|address| address & !flags)
}

#[inline(always)]
fn with(link: *mut Link, flags: usize) -> *mut Link {
    link.map_addr(|address| address | flags)
}

/// What a target of a link is.
enum Target {
    End,
    Slot,
    Node,
}

#[inline(always)]
fn target(link: *mut Link) -> Target {
    if flags(link) & SLOT == 0 {
        Target::Node
    } else if link.addr() & !FLAGS == 0 {
        Target::End
    } else {
        Target::Slot
    }
}

// 128: two lines, because neighbouring lines are fetched together.
#[repr(align(128))]
pub(super) struct Shard<K, V> {
    // The buckets of the last level, see `Last`. Replaced by growers, read by everybody.
    last: AtomicPtr<Link>,
    level_first: usize,
    // arrays[n] has the 2^(level_first + n) buckets of its level.
    // Each is set once, before the level that needs it.
    arrays: [AtomicPtr<Link>; LEVELS],
    // Slots up to here have been put into the list ahead of use, see `prepare`. Away from what
    // readers read, because inserts write it for a while after each doubling.
    prepared: CachePadded<AtomicUsize>,
    entries: PhantomData<Node<K, V>>,
}

/// The slot from which a key is looked for, at the level at which it was chosen.
#[derive(Clone, Copy)]
pub(super) struct Aim<'a> {
    order: u64,
    level: usize,
    slot: &'a Link,
}

impl Aim<'_> {
    /// Where the slot's bucket begins.
    fn first(&self) -> u64 {
        let below = 64 - self.level;
        self.order >> below << below
    }
}

/// What a write needs on its way.
pub(super) struct Write<'a, O> {
    pub(super) aim: Aim<'a>,
    /// The order of any key, for the nodes that are passed.
    pub(super) order_of: O,
    pub(super) guard: &'a Guard,
    pub(super) entries: &'a Entries,
}

/// Where in the list a key is or would be.
struct Place<'a> {
    // The link before it, what was read there, and the same without NEW.
    previous: &'a Link,
    seen: *mut Link,
    // Whether `seen` is the node with the key.
    found: bool,
}

impl<K, V> Shard<K, V> {
    pub(super) fn new(level: usize) -> Self {
        let level = level.clamp(LEVEL_MIN, LEVEL_MIN + LEVELS - 1);
        let first = new_array(1 << level);
        // Chain the slots; nobody else can see them yet, so Relaxed does.
        for bucket in 0..1usize << level {
            let next = if bucket + 1 == 1 << level {
                ptr::without_provenance_mut(END)
            } else {
                // SAFETY: `bucket + 1` is below the length of the array.
                with(unsafe { first.add(bucket + 1) }, SLOT)
            };
            // SAFETY: `bucket` is below the length of the array.
            let slot = unsafe { first.add(bucket) };
            // SAFETY: the array was just allocated and is shared with nobody.
            let slot = unsafe { &*slot };
            slot.next.store(next, Ordering::Relaxed);
        }
        let arrays: [AtomicPtr<Link>; LEVELS] = std::array::from_fn(|index| {
            AtomicPtr::new(if index == 0 { first } else { ptr::null_mut() })
        });
        Self {
            last: AtomicPtr::new(Last::new(first, level).0),
            level_first: level,
            arrays,
            prepared: CachePadded::new(AtomicUsize::new(2 << level)),
            entries: PhantomData,
        }
    }

    /// There are 2^level buckets.
    pub(super) fn buckets(&self) -> usize {
        1 << self.last().level()
    }

    #[inline(always)]
    fn last(&self) -> Last {
        // Acquire: pairs with the Release in `grow`.
        Last(self.last.load(Ordering::Acquire))
    }

    /// The slot of bucket `bucket` at `level`, used or not.
    #[inline(always)]
    fn slot(&self, level: usize, bucket: u64) -> &Link {
        // Acquire: pairs with the Release that installed the array. The `level` that led here was
        // read after it was raised, and the array was installed before.
        let array = self.arrays[level - self.level_first].load(Ordering::Acquire);
        // SAFETY: `bucket < 2^level`, which is the length of the array.
        let slot = unsafe { array.add(bucket as usize) };
        // SAFETY: arrays live as long as the shard.
        unsafe { &*slot }
    }

    /// Whether the slot is in the list, so that a walk may start there.
    #[inline(always)]
    fn is_ready(link: *mut Link) -> bool {
        !link.is_null() && flags(link) & NEW == 0
    }

    /// Where a walk to `order` is going to start.
    #[inline(always)]
    pub(super) fn aim(&self, order: u64) -> Aim<'_> {
        let last = self.last();
        let level = last.level();
        // SAFETY: `level` bits are left of the order, and the array has 2^level slots.
        let slot = unsafe { last.array().add((order >> (64 - level)) as usize) };
        // SAFETY: arrays live as long as the shard.
        let slot = unsafe { &*slot };
        Aim { order, level, slot }
    }

    /// The same for a write, which has other things to do while the first node is on its way. A read has not.
    #[inline(always)]
    pub(super) fn aim_to_write(&self, order: u64) -> Aim<'_> {
        let aim = self.aim(order);
        // Loom would take the look for an access that matters.
        if cfg!(not(any(msgtrans_loom, msgtrans_shuttle))) {
            // Relaxed: what it points to may be gone by now, and is not looked at.
            prefetch(without(aim.slot.next.load(Ordering::Relaxed), FLAGS));
        }
        aim
    }

    /// A slot at or before the order that is in the list, what it points to, and whether it is that of the order's own
    /// bucket at the aim's level.
    #[inline(always)]
    fn start<'a>(&'a self, Aim { order, level, slot }: Aim<'a>) -> (&'a Link, *mut Link, bool) {
        // Acquire: pairs with the Release exchange that published what the link points to; the same
        // goes for every load of a link below.
        let next = slot.next.load(Ordering::Acquire);
        if Self::is_ready(next) {
            return (slot, next, true);
        }
        let (slot, next) = self.start_before(level, order);
        (slot, next, false)
    }

    #[cold]
    fn start_before(&self, mut level: usize, order: u64) -> (&Link, *mut Link) {
        loop {
            // The first array is ready from the beginning, so this ends.
            level -= 1;
            let slot = self.slot(level, order >> (64 - level));
            let next = slot.next.load(Ordering::Acquire);
            if Self::is_ready(next) {
                return (slot, next);
            }
        }
    }

    /// The hash at which a slot stands, and its level, from its address. Not for hot paths.
    #[cold]
    #[inline(never)]
    fn order_of_slot(&self, slot: *mut Link) -> (u64, usize) {
        let address = slot.addr();
        // From below: half of all slots are of the last level. Acquire: a slot that was met in the list was put there after
        // its level was raised.
        let last = self.last().level() - self.level_first;
        for index in (0..=last).rev() {
            let array = self.arrays[index].load(Ordering::Acquire);
            let level = self.level_first + index;
            let offset = address.wrapping_sub(array.addr());
            if offset < size_of::<Link>() << level {
                let bucket = (offset / size_of::<Link>()) as u64;
                return (bucket << (64 - level), level);
            }
        }
        debug_assert!(false, "a slot belongs to an array of its shard");
        (u64::MAX, 0)
    }

    /// Whether a slot met on the way to `order` stands behind it, so that the key is not there.
    #[inline(always)]
    fn is_beyond(&self, slot: *mut Link, order: u64, level: usize, own: bool) -> bool {
        // Slots of a deeper level exist only once that level does. If it is still ours after the
        // slot was read (Acquire), the slot is not within our bucket but ends it.
        if own && self.last().level() == level {
            return true;
        }
        self.order_of_slot(slot).0 > order
    }

    #[inline]
    pub(super) fn find<R>(
        &self,
        aim: Aim<'_>,
        is_key: impl Fn(&K) -> bool,
        _guard: &Guard,
        found: impl FnOnce(&K, &V) -> R,
    ) -> Option<R> {
        let (_, mut next, own) = self.start(aim);
        let Aim { order, level, .. } = aim;
        loop {
            match target(next) {
                Target::Node => {}
                Target::End => return None,
                Target::Slot => {
                    let slot = without(next, FLAGS);
                    if self.is_beyond(slot, order, level, own) {
                        return None;
                    }
                    // SAFETY: a link that is no node and not the end points to a slot, and those
                    // live as long as the shard.
                    next = unsafe { &*slot }.next.load(Ordering::Acquire);
                    continue;
                }
            }
            // SAFETY: the node was reachable while we were pinned (`_guard`), so it is not freed.
            let node = unsafe { &*without(next, FLAGS).cast::<Node<K, V>>() };
            next = node.link.next.load(Ordering::Acquire);
            // Dead: removed, or replaced by the node that comes next.
            if is_key(&node.key) && flags(next) & DEAD == 0 {
                return Some(found(&node.key, &node.value));
            }
        }
    }

    /// Finds the place of a key, unlinking dead nodes on the way.
    #[inline]
    fn seek<'a>(
        &'a self,
        mut aim: Aim<'a>,
        order_of: impl Fn(&K) -> u64,
        is_key: impl Fn(&K) -> bool,
        guard: &Guard,
    ) -> Place<'a> {
        let order = aim.order;
        'again: loop {
            let (mut previous, mut seen, own) = self.start(aim);
            let level = aim.level;
            loop {
                match target(seen) {
                    Target::Node => {}
                    Target::End => {
                        return Place {
                            previous,
                            seen,
                            found: false,
                        };
                    }
                    Target::Slot => {
                        let slot = without(seen, FLAGS);
                        if self.is_beyond(slot, order, level, own) {
                            return Place {
                                previous,
                                seen,
                                found: false,
                            };
                        }
                        // SAFETY: slots live as long as the shard.
                        previous = unsafe { &*slot };
                        seen = previous.next.load(Ordering::Acquire);
                        continue;
                    }
                }
                let current = without(seen, FLAGS).cast::<Node<K, V>>();
                // SAFETY: the node was reachable while we were pinned (`guard`).
                let node = unsafe { &*current };
                let next = node.link.next.load(Ordering::Acquire);
                if flags(next) & DEAD != 0 {
                    match self.unlink(previous, seen, next, current, guard) {
                        Some(now) => seen = now,
                        None => {
                            aim = self.aim(order);
                            continue 'again;
                        }
                    }
                    continue;
                }
                if is_key(&node.key) {
                    return Place {
                        previous,
                        seen,
                        found: true,
                    };
                }
                if order_of(&node.key) > order {
                    return Place {
                        previous,
                        seen,
                        found: false,
                    };
                }
                previous = &node.link;
                seen = next;
            }
        }
    }

    /// Takes a dead node out of the list and retires it; `None` when the link before it has changed.
    #[inline]
    fn unlink(
        &self,
        previous: &Link,
        seen: *mut Link,
        next: *mut Link,
        node: *mut Node<K, V>,
        guard: &Guard,
    ) -> Option<*mut Link> {
        let after = without(next, DEAD);
        // Release: what `after` points to was read with Acquire; this passes it on.
        previous
            .next
            .compare_exchange(seen, after, Ordering::AcqRel, Ordering::Relaxed)
            .ok()?;
        // SAFETY: the exchange made the node unreachable, and only the thread whose exchange does
        // so retires it; the public bounds on `K` and `V` allow a later drop on another thread.
        unsafe { reclaim::retire(guard, node.cast(), free_node::<K, V>) };
        Some(after)
    }

    /// Puts `node` at its place. `Ok` when its key was not there; else, with `replace`, takes the
    /// place of the old entry after `old` has seen it, and without gives the node back.
    #[inline]
    pub(super) fn insert<R, O: Fn(&K) -> u64>(
        &self,
        fresh: Fresh<K, V>,
        replace: bool,
        Write {
            mut aim,
            order_of,
            guard,
            entries,
        }: Write<'_, O>,
        old: impl FnOnce(&V) -> R,
    ) -> Result<Option<R>, Fresh<K, V>>
    where
        K: Eq,
    {
        // SAFETY: until it is published the node is ours alone, and nobody writes it afterwards.
        // `fresh` owns it until then, so that a comparison that panics leaks nothing.
        let node = unsafe { fresh.0.as_ref() };
        let new: *mut Link = fresh.0.as_ptr().cast();
        let order = aim.order;
        if aim.slot.next.load(Ordering::Acquire).is_null() {
            self.put_in(aim.slot, (aim.first(), aim.level), &order_of, guard);
        }
        loop {
            let place = self.seek(aim, &order_of, |key| *key == node.key, guard);
            if !place.found {
                // Relaxed: published by the exchange below.
                node.link
                    .next
                    .store(without(place.seen, NEW), Ordering::Relaxed);
                // Release: publishes the node; pairs with the Acquire loads of links.
                let published = place.previous.next.compare_exchange(
                    place.seen,
                    new,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                if published.is_ok() {
                    fresh.into_raw();
                    self.added(&order_of, guard, entries);
                    return Ok(None);
                }
                aim = self.aim(order);
                continue;
            }
            if !replace {
                return Err(fresh);
            }
            let current = without(place.seen, FLAGS).cast::<Node<K, V>>();
            // SAFETY: the node was reachable while we were pinned (`guard`).
            let existing = unsafe { &*current };
            let next = existing.link.next.load(Ordering::Acquire);
            if flags(next) & DEAD != 0 {
                aim = self.aim(order);
                continue;
            }
            node.link.next.store(next, Ordering::Relaxed);
            // One exchange removes the old entry and shows the new one: a reader of the dead link
            // finds the replacement right behind it. Release: publishes the node.
            let replaced = existing.link.next.compare_exchange(
                next,
                with(new, DEAD),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if replaced.is_ok() {
                fresh.into_raw();
                self.tidy(&place, with(new, DEAD), current, order, &order_of, guard);
                self.prepare(&order_of, guard);
                // The guard keeps the old entry readable although it is retired.
                return Ok(Some(old(&existing.value)));
            }
            aim = self.aim(order);
        }
    }

    pub(super) fn remove<R, O: Fn(&K) -> u64>(
        &self,
        Write {
            mut aim,
            order_of,
            guard,
            entries,
        }: Write<'_, O>,
        is_key: impl Fn(&K) -> bool,
        wanted: impl Fn(&V) -> bool,
        removed: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        let order = aim.order;
        loop {
            let place = self.seek(aim, &order_of, &is_key, guard);
            if !place.found {
                return None;
            }
            let current = without(place.seen, FLAGS).cast::<Node<K, V>>();
            // SAFETY: the node was reachable while we were pinned (`guard`).
            let node = unsafe { &*current };
            if !wanted(&node.value) {
                return None;
            }
            let next = node.link.next.load(Ordering::Acquire);
            if flags(next) & DEAD != 0 {
                aim = self.aim(order);
                continue;
            }
            // AcqRel: a later reader of the dead link sees what the remover saw.
            let dead = node.link.next.compare_exchange(
                next,
                with(next, DEAD),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if dead.is_ok() {
                entries.removed(guard);
                self.tidy(&place, with(next, DEAD), current, order, &order_of, guard);
                // The guard keeps the entry readable although it is retired.
                return Some(removed(&node.value));
            }
            aim = self.aim(order);
        }
    }

    /// Unlinks a node that this thread has just made dead, by itself or with a second walk.
    #[inline]
    fn tidy(
        &self,
        place: &Place<'_>,
        next: *mut Link,
        node: *mut Node<K, V>,
        order: u64,
        order_of: impl Fn(&K) -> u64,
        guard: &Guard,
    ) {
        if self
            .unlink(place.previous, place.seen, next, node, guard)
            .is_none()
        {
            // A walk to the end of this hash unlinks it, if nobody has done so.
            self.seek(self.aim(order), order_of, |_| false, guard);
        }
    }

    /// Calls `visit` for every entry that is there from beginning to end, once.
    pub(super) fn for_each(&self, _guard: &Guard, mut visit: impl FnMut(&K, &V)) {
        let mut next = self.slot(self.level_first, 0).next.load(Ordering::Acquire);
        loop {
            match target(next) {
                Target::End => return,
                Target::Slot => {
                    // SAFETY: slots live as long as the shard.
                    next = unsafe { &*without(next, FLAGS) }
                        .next
                        .load(Ordering::Acquire);
                }
                Target::Node => {
                    // SAFETY: the node was reachable while we were pinned (`_guard`).
                    let node = unsafe { &*without(next, FLAGS).cast::<Node<K, V>>() };
                    // Read once: what we go on with must be what made us visit, or a replacement
                    // made during `visit` would be visited too.
                    next = node.link.next.load(Ordering::Acquire);
                    if flags(next) & DEAD == 0 {
                        visit(&node.key, &node.value);
                    }
                }
            }
        }
    }

    /// Removes every entry that is there throughout and that `keep` does not want.
    pub(super) fn retain(
        &self,
        guard: &Guard,
        entries: &Entries,
        mut keep: impl FnMut(&K, &V) -> bool,
    ) {
        // Slots never go, so the last one passed is where to begin again after a collision.
        let mut from = self.slot(self.level_first, 0);
        'again: loop {
            let mut previous = from;
            let mut seen = previous.next.load(Ordering::Acquire);
            loop {
                match target(seen) {
                    Target::Node => {}
                    Target::End => return,
                    Target::Slot => {
                        // SAFETY: slots live as long as the shard.
                        from = unsafe { &*without(seen, FLAGS) };
                        continue 'again;
                    }
                }
                let current = without(seen, FLAGS).cast::<Node<K, V>>();
                // SAFETY: the node was reachable while we were pinned (`guard`).
                let node = unsafe { &*current };
                let mut next = node.link.next.load(Ordering::Acquire);
                if flags(next) & DEAD == 0 {
                    if keep(&node.key, &node.value) {
                        previous = &node.link;
                        seen = next;
                        continue;
                    }
                    let dead = with(next, DEAD);
                    // AcqRel: as in `remove`.
                    let removed = node.link.next.compare_exchange(
                        next,
                        dead,
                        Ordering::AcqRel,
                        Ordering::Relaxed,
                    );
                    if removed.is_err() {
                        continue;
                    }
                    entries.removed(guard);
                    next = dead;
                }
                match self.unlink(previous, seen, next, current, guard) {
                    Some(now) => seen = now,
                    None => continue 'again,
                }
            }
        }
    }

    /// Counts a new entry, doubles the buckets when they are seven eighths full, and gets a few of
    /// the new ones ready.
    #[inline]
    fn added(&self, order_of: impl Fn(&K) -> u64, guard: &Guard, entries: &Entries) {
        let level = self.last().level();
        if entries.added(guard, 1 << level) {
            self.grow(level);
        }
        self.prepare(order_of, guard);
    }

    #[cold]
    fn grow(&self, level: usize) {
        let index = level + 1 - self.level_first;
        if index >= LEVELS || level >= 60 {
            return;
        }
        let array = &self.arrays[index];
        let mut slots = array.load(Ordering::Acquire);
        if slots.is_null() {
            let len = 1 << (level + 1);
            let fresh = new_array(len);
            // Release: publishes the empty slots; pairs with the loads of `arrays`.
            let installed =
                array.compare_exchange(ptr::null_mut(), fresh, Ordering::AcqRel, Ordering::Acquire);
            slots = installed.map_or_else(
                |other| {
                    // SAFETY: `fresh` was made by `new_array(len)` and nobody else has seen it.
                    unsafe { free_array(fresh, len) };
                    other
                },
                |_| fresh,
            );
        }
        let before = self.last();
        if before.level() == level {
            // Release: the array is there before the level that needs it; pairs with the loads of `last`. Failure
            // means that somebody else has raised it.
            let _ = self.last.compare_exchange(
                before.0,
                Last::new(slots, level + 1).0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }

    /// Puts a few slots that were never used into the list, so that reads of keys in buckets that
    /// nobody writes to start near as well: before, such a read at 100,000 entries took 52 ns, and
    /// 34 after. The work is one slot for each bucket in any case; a few at a time keeps an insert
    /// short, and eight each are done a tenth of the way to the next doubling.
    #[inline]
    fn prepare(&self, order_of: impl Fn(&K) -> u64, guard: &Guard) {
        for _ in 0..PREPARED_PER_INSERT {
            let level = self.last().level();
            // Relaxed: a claim of work, nothing else; if it is lost, the first write does it.
            let number = self.prepared.load(Ordering::Relaxed);
            if number >= 2 << level {
                return;
            }
            let claimed = self.prepared.compare_exchange(
                number,
                number + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if claimed.is_err() {
                return;
            }
            // Slots are numbered by level: 2^l .. 2^(l+1) are those of level l.
            let level = number.ilog2() as usize;
            let bucket = number as u64 - (1 << level);
            let slot = self.slot(level, bucket);
            if slot.next.load(Ordering::Acquire).is_null() {
                self.put_in(slot, (bucket << (64 - level), level), &order_of, guard);
            }
        }
    }

    /// Puts a slot into the list in front of all entries with its hash or more. If another thread has
    /// claimed it, that one does it, and meanwhile walks start further ahead: nobody waits.
    #[cold]
    fn put_in(
        &self,
        slot: &Link,
        stand: (u64, usize),
        order_of: impl Fn(&K) -> u64,
        guard: &Guard,
    ) {
        // Acquire on failure is not needed: we leave. On success: nobody else writes it from here.
        if slot
            .next
            .compare_exchange(
                ptr::null_mut(),
                ptr::without_provenance_mut(NEW),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_err()
        {
            return;
        }
        let own = with(ptr::from_ref(slot).cast_mut(), SLOT);
        loop {
            let place = self.seek_slot(stand, &order_of, guard);
            // NEW keeps walks from starting here until the exchange below has succeeded. Relaxed:
            // published by it.
            slot.next.store(with(place.seen, NEW), Ordering::Relaxed);
            // Release: publishes the slot's link.
            if place
                .previous
                .next
                .compare_exchange(place.seen, own, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                break;
            }
        }
        // Whoever changed the link since came through the list, and thereby cleared NEW for us.
        let mut next = slot.next.load(Ordering::Acquire);
        while flags(next) & NEW != 0 {
            match slot.next.compare_exchange_weak(
                next,
                without(next, NEW),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(now) => next = now,
            }
        }
    }

    /// The place of the slot of `level` at `order`: in front of the first node with as much or more, behind the slots
    /// of the levels above.
    fn seek_slot(
        &self,
        (order, level): (u64, usize),
        order_of: impl Fn(&K) -> u64,
        guard: &Guard,
    ) -> Place<'_> {
        'again: loop {
            // The slot itself is not ready, so the walk starts before it.
            let (mut previous, mut seen) = self.start_before(level, order);
            loop {
                match target(seen) {
                    Target::Node => {}
                    Target::End => {
                        return Place {
                            previous,
                            seen,
                            found: false,
                        };
                    }
                    Target::Slot => {
                        let slot = without(seen, FLAGS);
                        if self.order_of_slot(slot) > (order, level) {
                            return Place {
                                previous,
                                seen,
                                found: false,
                            };
                        }
                        // SAFETY: slots live as long as the shard.
                        previous = unsafe { &*slot };
                        seen = previous.next.load(Ordering::Acquire);
                        continue;
                    }
                }
                let current = without(seen, FLAGS).cast::<Node<K, V>>();
                // SAFETY: the node was reachable while we were pinned (`guard`).
                let node = unsafe { &*current };
                let next = node.link.next.load(Ordering::Acquire);
                if flags(next) & DEAD != 0 {
                    match self.unlink(previous, seen, next, current, guard) {
                        Some(now) => seen = now,
                        None => continue 'again,
                    }
                    continue;
                }
                if order_of(&node.key) >= order {
                    return Place {
                        previous,
                        seen,
                        found: false,
                    };
                }
                previous = &node.link;
                seen = next;
            }
        }
    }
}

impl<K, V> Drop for Shard<K, V> {
    fn drop(&mut self) {
        // Nobody else is here; what was unlinked belongs to the reclaimer, what is linked, dead or
        // not, to us.
        let mut next = self.slot(self.level_first, 0).next.load(Ordering::Acquire);
        loop {
            match target(next) {
                Target::End => break,
                Target::Slot => {
                    // SAFETY: the arrays are freed further down.
                    next = unsafe { &*without(next, FLAGS) }
                        .next
                        .load(Ordering::Acquire);
                }
                Target::Node => {
                    let node = without(next, FLAGS).cast::<Node<K, V>>();
                    // SAFETY: linked nodes are alive.
                    next = unsafe { &*node }.link.next.load(Ordering::Acquire);
                    // SAFETY: each is met once, and nobody else is here.
                    unsafe { free_node::<K, V>(node.cast()) };
                }
            }
        }
        for (index, array) in self.arrays.iter().enumerate() {
            let array = array.load(Ordering::Acquire);
            if !array.is_null() {
                // SAFETY: installed once with this length, and no link is followed any more.
                unsafe { free_array(array, 1 << (self.level_first + index)) };
            }
        }
    }
}
