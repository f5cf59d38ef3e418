//! [`prefetch`]: a cache line is asked for before it is needed.

/// Asks the processor for the cache line at `at`: what reads it soon finds it in the first cache, if the caller has
/// something else to do meanwhile. Any address will do; nothing is read, and nothing where the processor has no such word.
#[inline(always)]
#[cfg_attr(
    all(target_arch = "x86_64", not(miri)),
    expect(unsafe_code, reason = "the standard library has the instruction alone")
)]
pub fn prefetch<T: ?Sized>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults and changes nothing that a program can see; every x86_64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}
