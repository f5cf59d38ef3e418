//! What the operating system says about this process. Linux only; elsewhere the figures are zero.

use std::fs;
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Open descriptors.
pub fn descriptors() -> u64 {
    // The one that reads the directory is in every count.
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Resident memory.
pub fn memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

/// Processor time of all threads, in steps of 10 ms.
pub fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may hold blanks; user and system time are the 12th and 13th number behind it.
    let behind = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = behind
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Counts panics from here on, wherever they are caught. They are reported in a line, without a backtrace: the debug
/// information that it reads would count as memory grown.
#[expect(clippy::print_stderr, reason = "a panic is reported there")]
pub fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        panic::set_hook(Box::new(|info| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            eprintln!("{info}");
        }));
    });
}

/// Panics so far.
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}
