//! Memory that was freed and that the heap keeps: as much as a burst needs again at once, and the rest handed back to the
//! system.
//!
//! glibc returns what lies at the end of an arena and nothing else: one small block that was allocated late keeps
//! everything before it resident. After 10 000 sessions have gone that is all they had, some 22 MB.

/// Returns every whole page that nothing occupies. Does nothing where the system's allocator is not glibc's, and with
/// another global allocator only finds what C libraries have freed.
///
/// # Cost
/// Walks all free blocks, each arena under its lock: 17 ms where 22 MB of small blocks have been freed, 1 ms right
/// after that. For a thread beside the runtime, when a crowd has gone.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    glibc::malloc_trim(0);
}

/// What may lie free at the end of an arena before it is returned, halved.
#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
const BURST: usize = 1024 * 1024;

/// Lets the heap keep 2 MiB at the end of each arena, where it would return what is above 128 KiB. Those of the first arena
/// go with [`give_back`]; glibc makes at most eight others for each processor, as threads ask for memory at once.
///
/// For what allocates and frees a burst of blocks of some ten KiB over and over, as a library does that makes a block of each
/// batch of datagrams: at the end of the heap each burst is returned to the system and comes back page by page. Echoes of
/// 64 KiB over QUIC took 8 to 16 page faults each, more or fewer as the heap happened to lie, and take 0.4.
///
/// Does nothing where the system's allocator is not glibc's.
///
/// # Cost
/// A mapping that nobody touches, once.
pub fn keep_bursts() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // glibc takes a large block that is freed for a sign of more to come: from then on it returns twice as much and no
        // less (mallopt(3), M_MMAP_THRESHOLD). Setting the threshold would turn off that it learns.
        ONCE.call_once(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(BURST))));
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
#[expect(
    unsafe_code,
    reason = "std has no word for it; the declaration is all that is unsafe"
)]
mod glibc {
    // SAFETY: the signature is that of malloc_trim(3), which takes any number and is safe to call from any thread.
    unsafe extern "C" {
        pub(super) safe fn malloc_trim(pad: usize) -> std::ffi::c_int;
    }
}

#[cfg(test)]
mod tests {
    /// Nothing is broken by it, while others allocate and free.
    #[test]
    fn blocks_in_use_keep_what_is_in_them() {
        let kept: Vec<Vec<u8>> = (0..10_000)
            .map(|index| vec![index as u8; 1_000])
            .enumerate()
            .filter(|(index, _)| index % 100 == 0)
            .map(|(_, block)| block)
            .collect();
        std::thread::scope(|scope| {
            scope.spawn(|| (0..100).for_each(|size| drop(vec![0u8; 100 * size])));
            super::give_back();
        });
        for (index, block) in kept.iter().enumerate() {
            assert!(block.iter().all(|byte| *byte == (index * 100) as u8));
        }
    }
}
