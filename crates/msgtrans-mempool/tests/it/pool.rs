//! `BufferPool`: who gets what, where it goes, and what the figures say.

use bytes::Bytes;
use msgtrans_mempool::{BufferPool, MemoryPoolConfig, PooledBuf};
use std::io::Write;
use std::sync::mpsc;
use std::thread;

fn pool() -> BufferPool {
    BufferPool::new(MemoryPoolConfig::new().shards(2)).expect("defaults are valid")
}

/// Small, of one free list, so that every count can be foretold.
fn small_pool(count: usize) -> BufferPool {
    let config = MemoryPoolConfig::new()
        .small_count(count)
        .medium_count(1)
        .large_count(1)
        .shards(1);
    BufferPool::new(config).expect("valid")
}

fn frozen(pool: &BufferPool, text: &[u8]) -> Bytes {
    let mut buffer = pool.lease(text.len());
    assert_eq!(buffer.put(text), text.len());
    buffer.freeze(text.len())
}

#[test]
fn a_lease_gets_the_least_tier_that_fits() {
    let pool = pool();
    for (len, capacity) in [
        (0, 1 << 10),
        (1 << 10, 1 << 10),
        ((1 << 10) + 1, 1 << 16),
        (1 << 16, 1 << 16),
        (1 << 20, 1 << 20),
        ((1 << 20) + 1, (1 << 20) + 1),
    ] {
        assert_eq!(pool.lease(len).capacity(), capacity, "for {len}");
    }
    assert_eq!(pool.stats().oversized, 1);
}

#[test]
fn a_buffer_comes_home_when_its_last_slice_drops() {
    let pool = small_pool(4);
    let whole = frozen(&pool, b"hello world");
    let (left, right) = (whole.slice(..5), whole.slice(6..));
    drop(whole);
    drop(left);
    assert_eq!((pool.stats().leased(), pool.stats().tiers[0].free), (1, 0));
    thread::spawn(move || assert_eq!(right, "world"))
        .join()
        .expect("other thread");
    assert_eq!((pool.stats().leased(), pool.stats().tiers[0].free), (0, 1));
    assert_eq!(pool.stats().footprint(), 1024);
}

#[test]
fn nothing_of_an_earlier_lease_is_visible() {
    let pool = small_pool(1);
    let mut buffer = pool.lease(16);
    buffer.put(b"a secret of old ");
    let address = buffer.as_ptr();
    drop(buffer);
    let mut buffer = pool.lease(16);
    assert_eq!(buffer.as_ptr(), address, "the same memory");
    assert_eq!(&buffer[..], b"");
    buffer.resize(16);
    assert_eq!(buffer[..], [0; 16]);
    drop(buffer);
    assert_eq!(pool.lease_zeroed(9)[..], [0; 9]);
}

#[test]
fn a_buffer_never_grows_beyond_its_capacity() {
    let pool = small_pool(1);
    let mut buffer = pool.lease(10);
    assert_eq!(buffer.put(&[1; 2000]), 1024);
    assert_eq!(buffer.remaining(), 0);
    assert!(buffer.write_all(b"x").is_err());
    buffer.clear();
    buffer.write_all(b"x").expect("room");
    buffer[0] = b'y';
    assert_eq!(buffer.freeze(1), "y");
}

#[test]
#[should_panic(expected = "3 bytes were asked for and 2 were put in")]
fn freezing_more_than_was_put_in_panics() {
    let mut buffer = pool().lease(3);
    buffer.put(b"ab");
    buffer.freeze(3);
}

#[test]
fn each_buffer_has_one_owner_at_a_time() {
    let pool = small_pool(8);
    for _ in 0..3 {
        let buffers: Vec<PooledBuf> = (0..12).map(|_| pool.lease(1)).collect();
        let mut addresses: Vec<_> = buffers
            .iter()
            .map(|buffer| buffer.as_ptr().addr())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), 12, "a buffer was handed out twice");
    }
    // Eight are kept, and the other four of each round were freed.
    let tier = pool.stats().tiers[0];
    assert_eq!((tier.existing, tier.free, tier.leased), (8, 8, 0));
    assert_eq!((tier.hits, tier.misses), (16, 20));
    assert_eq!(tier.leased_high_water, 12);
}

#[test]
fn steady_state_hits_above_nine_in_ten_across_threads() {
    let pool = pool();
    let (sender, receiver) = mpsc::sync_channel::<Bytes>(16);
    let consumer = thread::spawn(move || receiver.into_iter().map(|slice| slice.len()).sum());
    let mut sent = 0usize;
    for round in 0..20_000usize {
        // Mostly small, some medium, a few large.
        let len = match round % 100 {
            0 => 300_000,
            1..20 => 10_000,
            _ => 100,
        };
        let mut buffer = pool.lease(len);
        buffer.put(&[1; 50]);
        sender.send(buffer.freeze(50)).expect("consumer");
        sent += 50;
    }
    drop(sender);
    let received: usize = consumer.join().expect("consumer");
    assert_eq!(received, sent);
    let stats = pool.stats();
    assert!(stats.hit_rate() > 0.99, "hit rate of {}", stats.hit_rate());
    assert_eq!(stats.leased(), 0);
    assert_eq!(stats.free_bytes(), stats.footprint(), "all memory is home");
    assert_eq!(stats.fragmentation(), 0.0);
}

#[test]
fn all_memory_is_home_after_threads_have_leased_and_dropped_for_one_another() {
    let pool = pool();
    let (sender, receiver) = mpsc::channel::<Bytes>();
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
    let leasers: Vec<_> = (0..3u8)
        .map(|leaser| {
            let (pool, sender) = (pool.clone(), sender.clone());
            thread::spawn(move || {
                for round in 0..2_000usize {
                    let mut buffer = pool.lease(round * 7 % 3_000);
                    buffer.put(&[leaser; 64]);
                    sender.send(buffer.freeze(64)).expect("droppers");
                }
            })
        })
        .collect();
    drop(sender);
    let droppers: Vec<_> = (0..2)
        .map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || {
                loop {
                    let Ok(slice) = receiver.lock().expect("droppers do not panic").recv() else {
                        return;
                    };
                    assert!(
                        slice.iter().all(|byte| *byte == slice[0]),
                        "two wrote into one"
                    );
                }
            })
        })
        .collect();
    for thread in leasers.into_iter().chain(droppers) {
        thread.join().expect("thread");
    }
    let stats = pool.stats();
    assert_eq!(stats.leased(), 0);
    for tier in stats.tiers {
        assert_eq!(tier.existing, tier.free);
        assert!(tier.free <= tier.limit);
        assert_eq!(tier.requested_bytes, 0);
    }
}

#[test]
fn fragmentation_is_what_was_rounded_up() {
    let pool = small_pool(4);
    let _quarter = pool.lease(256);
    assert_eq!(pool.stats().fragmentation(), 0.75);
    let _whole = pool.lease(1024);
    assert_eq!(pool.stats().fragmentation(), 0.375);
}

#[test]
fn prewarming_fills_every_tier_and_makes_the_first_lease_a_hit() {
    let config = MemoryPoolConfig::new()
        .small_count(10)
        .medium_count(3)
        .large_count(2)
        .shards(2)
        .prewarm(true);
    let expected = config.footprint_max();
    let pool = BufferPool::new(config).expect("valid");
    assert_eq!(pool.stats().footprint(), expected);
    assert_eq!(pool.stats().free_bytes(), expected);
    drop([pool.lease(1), pool.lease(2_000), pool.lease(100_000)]);
    assert_eq!(pool.stats().hit_rate(), 1.0);
    assert_eq!(pool.prewarm(), 0, "already full");
}

#[test]
fn trimming_frees_what_was_not_used_since_the_last_time() {
    let pool = small_pool(10);
    let ten: Vec<_> = (0..10).map(|_| pool.lease(1)).collect();
    drop(ten);
    assert_eq!(pool.trim(), 0, "ten were out since the pool was made");
    let three: Vec<_> = (0..3).map(|_| pool.lease(1)).collect();
    drop(three);
    assert_eq!(pool.trim(), 7 * 1024);
    assert_eq!(pool.trim(), 3 * 1024, "nothing was leased in between");
    assert_eq!(pool.stats().footprint(), 0);
    let held = pool.lease(1);
    pool.trim();
    assert_eq!(pool.trim(), 0, "what is out cannot be freed");
    drop(held);
    assert_eq!(pool.stats().footprint(), 1024);
}

#[test]
fn tuning_follows_the_workload_within_its_bounds() {
    let pool = small_pool(20);
    let many: Vec<_> = (0..60).map(|_| pool.lease(200)).collect();
    drop(many);
    let report = pool.auto_tune_based_on_workload();
    assert_eq!((report.leases, report.len_max), (60, 200));
    assert!((196..=200).contains(&report.len_p50));
    let grown = report.changes[0];
    assert_eq!(
        (grown.len, grown.limit_before, grown.limit_after),
        (1024, 20, 75)
    );
    assert_eq!(grown.leased_high_water, 60);

    // The next burst of the same size now stays in the pool.
    drop((0..60).map(|_| pool.lease(200)).collect::<Vec<_>>());
    assert_eq!(pool.stats().tiers[0].free, 60);
    assert!(
        pool.auto_tune_based_on_workload().changes.is_empty(),
        "it fits"
    );

    // A quiet time shrinks it, not below a quarter of what was configured.
    drop(pool.lease(1));
    let report = pool.auto_tune_based_on_workload();
    let shrunk = report.changes[0];
    assert_eq!((shrunk.limit_before, shrunk.limit_after), (75, 5));
    assert_eq!(shrunk.freed_bytes, 55 * 1024);
    assert_eq!(pool.stats().footprint(), 5 * 1024);

    // A flood is not followed beyond four times that.
    drop((0..500).map(|_| pool.lease(1)).collect::<Vec<_>>());
    assert_eq!(
        pool.auto_tune_based_on_workload().changes[0].limit_after,
        80
    );
}

#[test]
fn tuning_without_a_lease_changes_nothing() {
    let pool = small_pool(20);
    assert_eq!(pool.auto_tune_based_on_workload(), Default::default());
}

#[test]
fn a_pool_may_go_before_its_buffers() {
    let pool = small_pool(2);
    let slice = frozen(&pool, b"still here");
    drop(pool);
    assert_eq!(slice, "still here");
}
