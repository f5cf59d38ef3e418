//! Bursts of blocks that are freed and allocated again. A process of its own, whose page faults are the test's.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use msgtrans_mempool::heap;

const ROUNDS: u64 = 50;
const BLOCKS: u64 = 20;
const BLOCK: usize = 64 * 1024;
const PAGES: u64 = BLOCKS * (BLOCK as u64 / 4096);

/// Page faults of this process so far.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let (_, after_name) = stat.rsplit_once(')').expect("a name");
    let faults = after_name.split_whitespace().nth(7).expect("a count");
    faults.parse().expect("a number")
}

/// One burst: all blocks at once, every page written.
fn burst() {
    let blocks: Vec<Vec<u8>> = (0..BLOCKS).map(|_| vec![1; BLOCK]).collect();
    drop(std::hint::black_box(blocks));
}

#[test]
fn a_burst_that_comes_again_finds_its_memory() {
    heap::keep_bursts();
    burst();
    let before = faults();
    (0..ROUNDS).for_each(|_| burst());
    let took = faults() - before;
    assert!(
        took < PAGES * 2,
        "{took} page faults in {ROUNDS} rounds of {PAGES} pages"
    );
}
