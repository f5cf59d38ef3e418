//! Short models of lease, return and trim; loom runs every interleaving within the bound.
//!
//! `RUSTFLAGS="--cfg msgtrans_loom" CARGO_TARGET_DIR=target/loom cargo test -p msgtrans-mempool --release loom`
//!
//! The free lists are stand-ins (see `primitive`): the models check the counts around them.

use crate::tier::Tier;
use loom::sync::Arc;
use loom::thread;

const LEN: usize = 64;

fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(body);
}

fn tier(count: usize) -> Arc<Tier> {
    Arc::new(Tier::new(LEN, count, 1))
}

fn check_everything_is_home(tier: &Tier, existing_at_most: usize) {
    let stats = tier.stats();
    assert_eq!(stats.leased, 0);
    assert_eq!(stats.existing, stats.free);
    assert!(
        stats.existing <= existing_at_most,
        "{} exist",
        stats.existing
    );
    assert_eq!(stats.requested_bytes, 0);
}

#[test]
fn two_leases_never_share_a_buffer_and_one_is_kept() {
    model(|| {
        let tier = tier(1);
        let other = {
            let tier = tier.clone();
            thread::spawn(move || {
                let buffer = tier.take(1, &[0]);
                let address = buffer.as_ptr().addr();
                (buffer, address)
            })
        };
        let own = tier.take(1, &[0]);
        let own_address = own.as_ptr().addr();
        let (others, other_address) = other.join().unwrap();
        assert_ne!(own_address, other_address);
        let returner = {
            let tier = tier.clone();
            thread::spawn(move || tier.put(others, 1, &[0]))
        };
        tier.put(own, 1, &[0]);
        returner.join().unwrap();
        // Both saw two alive at first, but only one of them may go for that.
        check_everything_is_home(&tier, 1);
        assert_eq!(tier.stats().free, 1);
    });
}

#[test]
fn trimming_beside_a_lease_and_a_return_keeps_the_counts() {
    model(|| {
        let tier = tier(2);
        let held = tier.take(1, &[0]);
        tier.put(tier.take(1, &[0]), 1, &[0]);
        let other = {
            let tier = tier.clone();
            thread::spawn(move || {
                let buffer = tier.take(2, &[0]);
                tier.put(buffer, 2, &[0]);
            })
        };
        let trimmer = {
            let tier = tier.clone();
            thread::spawn(move || tier.shrink_to(0))
        };
        tier.put(held, 1, &[0]);
        other.join().unwrap();
        trimmer.join().unwrap();
        check_everything_is_home(&tier, 2);
    });
}

#[test]
fn prewarming_beside_a_lease_keeps_no_more_than_the_limit() {
    model(|| {
        let tier = tier(1);
        let other = {
            let tier = tier.clone();
            thread::spawn(move || tier.prewarm())
        };
        let buffer = tier.take(1, &[0]);
        tier.put(buffer, 1, &[0]);
        other.join().unwrap();
        check_everything_is_home(&tier, 1);
    });
}
