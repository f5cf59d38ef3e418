//! Short models, one race each; loom runs every interleaving within the bound.
//!
//! `RUSTFLAGS="--cfg msgtrans_loom" CARGO_TARGET_DIR=target/loom cargo test -p msgtrans-lockfree --release loom`
//!
//! What they cannot see: crossbeam's queues and epochs are replaced by stand-ins (see `primitive` and
//! `map::reclaim`), so the models check what this crate builds on them; and the kernel's barrier is a fence.

use crate::map::grace::{Looking, Record, Records};
use crate::primitive::set_thread_index;
use crate::{
    Counter, Histogram, LockFreeHashMap, LockFreeQueue, OwnerToken, PushError, SoleCounter, Tally,
    WakeCell, WriteToken,
};
use loom::sync::atomic::{
    AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use loom::sync::{Arc, Mutex, Notify};
use loom::thread;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(body);
}

struct WakeByNotify(Notify);

impl Wake for WakeByNotify {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.notify();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let notify = std::sync::Arc::new(WakeByNotify(Notify::new()));
    let waker = Waker::from(notify.clone());
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            // A lost wake leaves nobody to run, which loom reports.
            Poll::Pending => {
                notify.0.wait();
                // An owner that met a wake being delivered has woken itself: let that one finish.
                thread::yield_now();
            }
        }
    }
}

/// Sends both low keys into one bucket, next to each other, and the others into the next.
#[derive(Default, Clone)]
struct Order(u64);

impl std::hash::Hasher for Order {
    fn finish(&self) -> u64 {
        self.0 << 60
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

type Map = LockFreeHashMap<u64, u64, std::hash::BuildHasherDefault<Order>>;

fn map_of(entries: &[(u64, u64)]) -> Arc<Map> {
    let map = Map::default();
    for (key, value) in entries {
        map.insert(*key, *value);
    }
    Arc::new(map)
}

fn entries(map: &Map) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    map.for_each(|key, value| all.push((*key, *value)));
    all
}

// WakeCell

#[test]
fn wake_is_never_lost() {
    model(3, || {
        let shared = Arc::new((WakeCell::new(), AtomicUsize::new(0)));
        let waker = {
            let shared = shared.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    shared.1.fetch_add(1, Relaxed);
                    shared.0.wake();
                }
            })
        };
        let mut found = 0;
        while found < 2 {
            found += block_on(poll_fn(|cx| {
                shared.0.register(cx.waker());
                shared.0.clear();
                match shared.1.swap(0, Relaxed) {
                    0 => Poll::Pending,
                    some => Poll::Ready(some),
                }
            }));
        }
        waker.join().unwrap();
    });
}

#[test]
fn wakes_of_two_threads_reach_an_owner_that_registers_anew() {
    model(2, || {
        let shared = Arc::new((WakeCell::new(), AtomicUsize::new(0)));
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.1.fetch_add(1, Relaxed);
                    shared.0.wake();
                })
            })
            .collect();
        let mut found = 0;
        while found < 2 {
            // Each `block_on` has a waker of its own, so registering replaces.
            found += block_on(poll_fn(|cx| {
                shared.0.register(cx.waker());
                shared.0.clear();
                match shared.1.swap(0, Relaxed) {
                    0 => Poll::Pending,
                    some => Poll::Ready(some),
                }
            }));
        }
        for waker in wakers {
            waker.join().unwrap();
        }
    });
}

#[test]
fn a_coalesced_wake_still_publishes_what_came_before_it() {
    model(3, || {
        let shared = Arc::new((WakeCell::new(), AtomicUsize::new(0)));
        shared.0.wake();
        let waker = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.store(1, Relaxed);
                shared.0.wake()
            })
        };
        shared.0.clear();
        let seen = shared.1.load(Relaxed);
        let delivered = waker.join().unwrap();
        assert!(
            delivered || seen == 1,
            "the wake was swallowed by a look that missed the work"
        );
    });
}

// WriteToken

#[test]
fn write_token_admits_one_and_leaves_nothing_behind() {
    model(3, || {
        let shared = Arc::new((WriteToken::new(), AtomicUsize::new(0), AtomicUsize::new(0)));
        let enter = |shared: &(WriteToken, AtomicUsize, AtomicUsize)| {
            shared.1.fetch_add(1, Relaxed);
            shared.0.run(|| {
                let queued = shared.1.swap(0, Relaxed);
                // Not one operation, and Relaxed: two writers at once, or a turn that does not see
                // what the one before wrote, lose a part of the sum.
                shared.2.store(shared.2.load(Relaxed) + queued, Relaxed);
            });
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || enter(&shared))
        };
        enter(&shared);
        other.join().unwrap();
        assert_eq!(shared.2.load(Relaxed), 2);
    });
}

#[test]
fn write_token_holder_sees_what_a_loser_wrote_before_its_note() {
    model(3, || {
        let shared = Arc::new((WriteToken::new(), AtomicUsize::new(0)));
        // Relaxed and not read-modify-write: only the token orders it.
        let look = |shared: &(WriteToken, AtomicUsize)| {
            let mut seen = 0;
            shared.0.run(|| seen = shared.1.load(Relaxed));
            seen
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.store(1, Relaxed);
                look(&shared)
            })
        };
        let own = look(&shared);
        let other = other.join().unwrap();
        assert!(own == 1 || other == 1, "nobody saw the work");
    });
}

// LockFreeQueue

#[test]
fn queue_delivers_to_a_waiting_consumer() {
    model(3, || {
        let queue = Arc::new(LockFreeQueue::bounded(1));
        let producer = {
            let queue = queue.clone();
            thread::spawn(move || {
                let first = queue.try_push(1);
                assert_eq!(first, Ok(()));
                // Room for it only if the consumer has taken the first.
                let second = queue.try_push(2).is_ok();
                queue.close();
                1 + usize::from(second)
            })
        };
        let mut received = 0;
        while let Some(value) = block_on(queue.recv()) {
            received += 1;
            assert_eq!(value, received);
        }
        assert_eq!(producer.join().unwrap(), received);
    });
}

#[test]
fn queue_closed_during_a_push_loses_nothing_it_accepted() {
    model(3, || {
        let queue = Arc::new(LockFreeQueue::unbounded());
        let producer = {
            let queue = queue.clone();
            thread::spawn(move || match queue.try_push(7) {
                Ok(()) => 1,
                Err(refused) => {
                    assert_eq!(refused, PushError::Closed(7));
                    0
                }
            })
        };
        let closer = {
            let queue = queue.clone();
            thread::spawn(move || queue.close())
        };
        let mut received = 0;
        while block_on(queue.recv()).is_some() {
            received += 1;
        }
        assert_eq!(producer.join().unwrap(), received);
        assert!(closer.join().unwrap());
    });
}

#[test]
fn queue_never_holds_more_than_its_bound() {
    model(3, || {
        let queue = Arc::new(LockFreeQueue::bounded(1));
        let other = {
            let queue = queue.clone();
            thread::spawn(move || queue.try_push(1).is_ok())
        };
        let own = queue.try_push(2).is_ok();
        let other = other.join().unwrap();
        assert!(own ^ other, "one of two fits");
        assert!(queue.pop().is_some());
        assert!(queue.pop().is_none());
        assert!(queue.is_empty());
    });
}

// LockFreeHashMap

#[test]
fn map_insert_of_an_absent_key_has_one_winner() {
    model(3, || {
        let map = map_of(&[]);
        let other = {
            let map = map.clone();
            thread::spawn(move || map.insert_if_absent(1, 10).is_ok())
        };
        let own = map.insert_if_absent(1, 20).is_ok();
        assert!(own ^ other.join().unwrap());
        assert_eq!(entries(&map), [(1, if own { 20 } else { 10 })]);
        assert_eq!(map.len(), 1);
    });
}

#[test]
fn map_replaced_key_is_never_absent() {
    model(3, || {
        let map = map_of(&[(1, 10)]);
        let writer = {
            let map = map.clone();
            thread::spawn(move || assert_eq!(map.insert(1, 11), Some(10)))
        };
        let first = map.get(&1).expect("there all the time");
        let second = map.get(&1).expect("there all the time");
        assert!(first <= second);
        writer.join().unwrap();
        assert_eq!(entries(&map), [(1, 11)]);
    });
}

#[test]
fn map_insert_behind_a_node_being_removed_is_kept() {
    model(3, || {
        let map = map_of(&[(1, 10)]);
        let remover = {
            let map = map.clone();
            thread::spawn(move || assert_eq!(map.remove(&1), Some(10)))
        };
        assert_eq!(map.insert(2, 20), None);
        assert_eq!(map.get(&2), Some(20));
        remover.join().unwrap();
        assert_eq!(entries(&map), [(2, 20)]);
        assert_eq!(map.len(), 1);
    });
}

#[test]
fn map_removes_of_neighbours_unlink_both() {
    model(3, || {
        let map = map_of(&[(1, 10), (2, 20), (3, 30)]);
        let other = {
            let map = map.clone();
            thread::spawn(move || assert_eq!(map.remove(&1), Some(10)))
        };
        assert_eq!(map.remove(&2), Some(20));
        assert_eq!(map.get(&2), None);
        other.join().unwrap();
        assert_eq!(entries(&map), [(3, 30)]);
    });
}

#[test]
fn map_remove_has_one_winner() {
    model(3, || {
        let map = map_of(&[(1, 10)]);
        let other = {
            let map = map.clone();
            thread::spawn(move || map.remove(&1).is_some())
        };
        let own = map.remove(&1).is_some();
        assert!(own ^ other.join().unwrap());
        assert!(map.is_empty());
        assert_eq!(entries(&map), []);
    });
}

#[test]
fn map_replace_and_remove_of_one_key_agree() {
    model(3, || {
        let map = map_of(&[(1, 10)]);
        let remover = {
            let map = map.clone();
            thread::spawn(move || map.remove(&1))
        };
        let replaced = map.insert(1, 11);
        let removed = remover.join().unwrap();
        match (replaced, removed) {
            // The remove came after the replacement, or before the insert of an absent key.
            (Some(10), Some(11)) => assert_eq!(entries(&map), []),
            (None, Some(10)) => assert_eq!(entries(&map), [(1, 11)]),
            other => panic!("no order of the two explains {other:?}"),
        }
    });
}

#[test]
fn map_clear_beside_a_replacement_removes_one_of_the_two() {
    model(3, || {
        let map = map_of(&[(1, 10), (2, 20)]);
        let writer = {
            let map = map.clone();
            thread::spawn(move || map.insert(1, 11))
        };
        map.clear();
        let old = writer.join().unwrap();
        let left = entries(&map);
        // A replacement is met in place of what it replaced. What was inserted after the clear had
        // passed may stay, or be met by a second look.
        assert!(
            left.is_empty() || (old.is_none() && left == [(1, 11)]),
            "{old:?}, {left:?}"
        );
        assert_eq!(map.len(), left.len());
    });
}

#[test]
fn map_grows_under_two_writers_and_loses_nothing() {
    model(2, || {
        // The first insert doubles the buckets; slots are then put in by both.
        let map = map_of(&[(2, 20)]);
        let other = {
            let map = map.clone();
            thread::spawn(move || assert_eq!(map.insert(6, 60), None))
        };
        assert_eq!(map.insert(5, 50), None);
        assert_eq!(map.get(&5), Some(50));
        assert_eq!(map.get(&2), Some(20));
        other.join().unwrap();
        assert_eq!(entries(&map), [(2, 20), (5, 50), (6, 60)]);
    });
}

#[test]
fn map_reader_finds_a_stable_key_while_its_bucket_is_split() {
    model(2, || {
        let map = map_of(&[]);
        map.insert(6, 60);
        let writer = {
            let map = map.clone();
            thread::spawn(move || {
                map.insert(5, 50);
                map.remove(&5);
            })
        };
        assert_eq!(map.get(&6), Some(60));
        assert_eq!(map.get(&7), None);
        writer.join().unwrap();
        assert_eq!(entries(&map), [(6, 60)]);
    });
}

#[test]
fn map_nothing_is_inserted_behind_a_slot_that_is_not_in_the_list() {
    model(2, || {
        // The insert of 5 doubles the buckets and puts in the slot of 4 to 7. Where that has to be
        // tried again because of 3, what was put behind the slot too early would be lost.
        let map = map_of(&[]);
        let other = {
            let map = map.clone();
            thread::spawn(move || map.insert(5, 50))
        };
        map.insert(4, 40);
        map.insert(3, 30);
        other.join().unwrap();
        assert_eq!(entries(&map), [(3, 30), (4, 40), (5, 50)]);
        for key in 3..6 {
            assert_eq!(map.get(&key), Some(key * 10));
        }
    });
}

#[test]
fn map_walk_from_further_ahead_passes_a_slot_that_is_being_put_in() {
    model(3, || {
        // The fourth insert doubles the buckets again; the slot of 10 and 11 is left for later.
        let map = map_of(&[(1, 1), (5, 5), (11, 11), (15, 15)]);
        let writer = {
            let map = map.clone();
            thread::spawn(move || map.insert(10, 10))
        };
        assert_eq!(map.get(&11), Some(11));
        assert_eq!(map.insert(11, 12), Some(11));
        writer.join().unwrap();
        assert_eq!(
            entries(&map),
            [(1, 1), (5, 5), (10, 10), (11, 12), (15, 15)]
        );
    });
}

// What waits for those who look at a map

/// What a reader may find and a writer takes out; loom sees who reads it and who frees it.
struct Linked {
    records: Records,
    link: AtomicUsize,
    node: loom::cell::UnsafeCell<u64>,
}

impl Linked {
    fn new(kernel_helps: bool) -> Arc<Self> {
        Arc::new(Self {
            records: Records::new(kernel_helps),
            link: AtomicUsize::new(1),
            node: loom::cell::UnsafeCell::new(7),
        })
    }

    #[expect(unsafe_code, reason = "the models show to loom that a node is read")]
    fn look(&self, record: &Record) {
        let after = record.enter().expect("it does not look yet");
        if self.link.load(Relaxed) == 1 {
            // SAFETY: not freed while this thread looks; loom reports it otherwise.
            assert_eq!(self.node.with(|node| unsafe { *node }), 7);
        }
        record.leave(after);
    }

    fn come_look_and_go(&self) {
        let record = self.records.take();
        self.look(record);
        record.give_back();
    }

    fn unlink(&self) -> Looking {
        self.link.store(0, Release);
        self.records.looking()
    }

    #[expect(unsafe_code, reason = "the models show to loom that a node is freed")]
    fn free(&self) {
        // SAFETY: everybody who found it has left; loom reports it otherwise.
        self.node.with_mut(|node| unsafe { *node = 0 });
    }

    fn unlink_and_free(&self) {
        let mut looking = self.unlink();
        Looking::press(std::iter::once(&mut looking));
        while !looking.is_over() {
            thread::yield_now();
        }
        self.free();
    }
}

#[test]
fn map_nothing_is_freed_while_somebody_looks_at_it() {
    model(3, || {
        let linked = Linked::new(true);
        let reader = {
            let linked = linked.clone();
            thread::spawn(move || {
                linked.come_look_and_go();
                linked.come_look_and_go();
            })
        };
        linked.unlink_and_free();
        reader.join().unwrap();
    });
}

#[test]
fn map_a_record_that_is_used_again_still_shows_who_looks() {
    model(2, || {
        let linked = Linked::new(true);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let linked = linked.clone();
                thread::spawn(move || linked.come_look_and_go())
            })
            .collect();
        linked.unlink_and_free();
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

#[test]
fn map_a_parked_thread_is_not_waited_for_and_does_not_find_what_was_unlinked() {
    model(3, || {
        let linked = Linked::new(true);
        let record = linked.records.take();
        let reader = {
            let linked = linked.clone();
            thread::spawn(move || (0..2).for_each(|_| linked.look(record)))
        };
        // Parks the reader, unless it looks.
        Looking::press(std::iter::once(&mut linked.records.looking()));
        if linked.unlink().is_over() {
            linked.free();
        }
        reader.join().unwrap();
    });
}

/// Whether something was freed in a model in which that depends on the order.
static FREED: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

#[test]
fn map_without_the_kernel_a_thread_that_keeps_looking_lets_go_by_itself() {
    FREED.store(0, Relaxed);
    model(3, || {
        let linked = Linked::new(false);
        let record = linked.records.take();
        let reader = {
            let linked = linked.clone();
            // Every second look has a fence.
            thread::spawn(move || (0..4).for_each(|_| linked.look(record)))
        };
        let mut looking = linked.unlink();
        if looking.is_over() {
            FREED.fetch_add(1, Relaxed);
            linked.free();
        }
        reader.join().unwrap();
    });
    assert_ne!(FREED.load(Relaxed), 0);
}

#[test]
fn map_without_the_kernel_a_thread_that_comes_is_seen_or_comes_too_late() {
    model(3, || {
        let linked = Linked::new(false);
        let reader = {
            let linked = linked.clone();
            thread::spawn(move || linked.come_look_and_go())
        };
        let mut looking = linked.unlink();
        if looking.is_over() {
            linked.free();
        }
        reader.join().unwrap();
    });
}

// Numbers

/// Lets two threads add what they are given, of which the first one looks at the sum in between, and gives the last sum.
/// The numbers of the threads say which stripe they write.
fn counted<T: Send + Sync + 'static>(
    count: T,
    threads: [usize; 2],
    add: fn(&T, u64),
    get: fn(&T) -> u64,
) -> u64 {
    let count = Arc::new(count);
    set_thread_index(threads[0]);
    let other = {
        let count = count.clone();
        thread::spawn(move || {
            set_thread_index(threads[1]);
            add(&count, 1);
            add(&count, 2);
        })
    };
    let first = get(&count);
    add(&count, 4);
    let second = get(&count);
    assert!(second >= first + 4);
    other.join().unwrap();
    get(&count)
}

/// Both write stripes of their own; one does; both share one. There are two own and two shared ones.
const THREADS: [[usize; 2]; 3] = [[0, 1], [1, 2], [2, 4]];

#[test]
fn counter_sums_never_decrease_and_miss_nothing() {
    for threads in THREADS {
        model(3, move || {
            let sum = counted(Counter::new(), threads, Counter::add, Counter::get);
            assert_eq!(sum, 7);
        });
    }
}

#[test]
fn tally_sums_never_decrease_and_miss_nothing() {
    for threads in THREADS {
        model(3, move || {
            // The second count is added to now and then only.
            let add = |tally: &Tally<2>, n| tally.add([n, n & 1]);
            let sum = counted(Tally::new(), threads, add, |tally| {
                let [sum, odd] = tally.get();
                assert!(odd <= 1);
                sum
            });
            assert_eq!(sum, 7);
        });
    }
}

/// What passes from one writer to the next with a lock keeps its count exact, though no addition is one step.
#[test]
fn sole_counter_misses_nothing_of_writers_that_take_turns() {
    model(3, || {
        let shared = Arc::new((Mutex::new(()), SoleCounter::new()));
        let add = |shared: &(Mutex<()>, SoleCounter), n| {
            let _turn = shared.0.lock().unwrap();
            shared.1.add(n);
        };
        let other = {
            let shared = shared.clone();
            thread::spawn(move || {
                add(&shared, 1);
                add(&shared, 2);
            })
        };
        let first = shared.1.get();
        add(&shared, 4);
        assert!(shared.1.get() >= first);
        other.join().unwrap();
        assert_eq!(shared.1.get(), 7);
    });
}

#[test]
fn histogram_snapshot_that_counts_a_record_knows_its_extremes() {
    model(3, || {
        let histogram = Arc::new(Histogram::new());
        let recorder = {
            let histogram = histogram.clone();
            thread::spawn(move || {
                histogram.record(2);
                histogram.record(1);
            })
        };
        let snapshot = histogram.snapshot();
        match snapshot.count() {
            0 => {}
            1 => assert!(snapshot.min() <= 2 && snapshot.max() == 2),
            _ => assert_eq!((snapshot.min(), snapshot.max()), (1, 2)),
        }
        recorder.join().unwrap();
        assert_eq!(histogram.snapshot().count(), 2);
    });
}

// OwnerToken

/// What owner and guests write to, digit by digit, and where guests leave what they could not write.
struct Desk {
    token: OwnerToken,
    /// Relaxed, and added to by a load and a store: two at once, or one that does not come behind the last, lose a digit.
    written: AtomicUsize,
    left: Mutex<VecDeque<usize>>,
    told: AtomicUsize,
    owner: Mutex<Option<Waker>>,
}

impl Desk {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            token: OwnerToken::new(),
            written: AtomicUsize::new(0),
            left: Mutex::new(VecDeque::new()),
            told: AtomicUsize::new(0),
            owner: Mutex::new(None),
        })
    }

    fn write(&self, digit: usize) {
        self.written
            .store(self.written.load(Relaxed) * 10 + digit, Relaxed);
    }

    fn register(&self, waker: &Waker) {
        *self.owner.lock().unwrap() = Some(waker.clone());
    }

    fn wake(&self) {
        let owner = self.owner.lock().unwrap().clone();
        if let Some(owner) = owner {
            owner.wake();
        }
    }

    /// Writes the first half of a frame and leaves the second in front, or leaves it whole where it is not its turn.
    fn send(&self, frame: [usize; 2]) {
        let taken = self.token.take();
        // Behind the taking: what the guest before left is to be written first.
        if taken && self.told.load(Acquire) == 0 {
            self.write(frame[0]);
            let mut left = self.left.lock().unwrap();
            left.push_front(frame[1]);
            self.told.store(1, Release);
            drop(left);
            let _ = self.token.give_back();
            self.wake();
            return;
        }
        if taken && self.token.give_back() {
            self.wake();
        }
        let mut left = self.left.lock().unwrap();
        left.extend(frame);
        let told = self.told.swap(1, Release) == 1;
        drop(left);
        if !told {
            self.wake();
        }
    }

    /// A pass of the owner, which keeps the turn while it has something to write; whether it may begin.
    fn pass(&self, waker: &Waker) -> bool {
        if !self.token.begin(|| self.register(waker)) {
            return false;
        }
        let mut left = self.left.lock().unwrap();
        let taken = std::mem::take(&mut *left);
        self.told.store(0, Release);
        drop(left);
        for digit in taken {
            self.write(digit);
        }
        self.token.lay_down();
        true
    }

    /// Works until `digits` digits are written.
    fn work(&self, digits: u32) -> usize {
        block_on(poll_fn(|cx| {
            self.register(cx.waker());
            loop {
                if !self.pass(cx.waker()) {
                    return Poll::Pending;
                }
                // Behind the pass, so what was written before it is seen.
                let written = self.written.load(Relaxed);
                if written >= 10_usize.pow(digits - 1) {
                    return Poll::Ready(written);
                }
                if self.told.load(Acquire) == 0 {
                    return Poll::Pending;
                }
            }
        }))
    }
}

#[test]
fn owner_token_guests_and_owner_write_whole_frames_one_by_one() {
    model(3, || {
        let desk = Desk::new();
        let guests = [[1, 2], [3, 4]].map(|frame| {
            let desk = desk.clone();
            thread::spawn(move || desk.send(frame))
        });
        let written = desk.work(4);
        assert!(matches!(written, 1234 | 3412), "{written}");
        for guest in guests {
            guest.join().unwrap();
        }
    });
}

#[test]
fn owner_token_one_guest_keeps_its_order() {
    model(3, || {
        let desk = Desk::new();
        let guest = {
            let desk = desk.clone();
            thread::spawn(move || {
                desk.send([1, 2]);
                desk.send([3, 4]);
            })
        };
        assert_eq!(desk.work(4), 1234);
        guest.join().unwrap();
    });
}

#[test]
fn owner_token_is_sealed_for_good() {
    model(3, || {
        let token = Arc::new(OwnerToken::new());
        token.lay_down();
        let guest = {
            let token = token.clone();
            thread::spawn(move || {
                if token.take() {
                    let _ = token.give_back();
                }
            })
        };
        token.seal();
        guest.join().unwrap();
        assert!(!token.take());
    });
}
