//! What an idle session's task may take.

use super::SessionTask;

/// Tokio adds 96 bytes and a tag of 8 to a future and a task group 8, and tasks are rounded up to 128: one byte more than these would
/// cost each session 128.
#[cfg(target_pointer_width = "64")]
#[test]
fn a_task_takes_three_times_128_bytes() {
    assert!(size_of::<SessionTask>() <= 384 - 104 - 8);
}

/// Ten thousand that open at once leave as many holes of this size.
#[cfg(target_pointer_width = "64")]
#[test]
fn an_opening_is_small() {
    assert!(size_of::<crate::opening::Opening>() <= 88);
}
