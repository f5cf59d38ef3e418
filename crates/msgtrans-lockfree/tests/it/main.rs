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
