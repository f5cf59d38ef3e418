//! Each type beside its `std` twin, under random histories and under contention.
#![cfg(not(msgtrans_loom))]

mod map;
mod numbers;
mod queue;
mod wake;

/// A constant for native runs, and a smaller one for Miri, which is some thousand times slower.
const fn scaled(native: usize, miri: usize) -> usize {
    if cfg!(miri) { miri } else { native }
}

#[test]
fn public_types_cross_threads_when_their_contents_do() {
    use msgtrans_lockfree::*;
    fn check<T: Send + Sync>() {}
    check::<LockFreeHashMap<String, std::sync::Arc<u8>>>();
    // A queue hands values over and never shares them.
    check::<LockFreeQueue<std::cell::Cell<u8>>>();
    check::<Recv<'_, std::cell::Cell<u8>>>();
    check::<WakeCell>();
    check::<WriteToken>();
    check::<LockFreeStats>();
    check::<StatsSnapshot>();
}
