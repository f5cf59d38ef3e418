//! [`make_room`]: a descriptor table that need not grow while peers come in.

use std::os::fd::AsFd;
use std::sync::Once;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

/// Descriptors for which there is room from the beginning, where the process may have so many: half a megabyte of the
/// kernel's memory.
const ROOM_MAX: u64 = 65_536;

/// Lets the descriptor table of this process grow once, before it listens. Does nothing from the second call on.
///
/// Linux doubles the table at 256, 512, 1 024, ... descriptors, and in a process of several threads each time waits until
/// every processor has passed a quiet point (`expand_fdtable` and its `synchronize_rcu`): 7 to 30 ms were measured for each,
/// all while `accept` stood still, and a burst of 10 000 connects overflowed a backlog of 4 096.
///
/// Takes as long as one such wait, no memory of the process's own, and up to 8 bytes of the kernel's for each descriptor
/// that the process may have, to 65 536 of them. A table that cannot be had is not needed: nothing fails.
pub fn make_room(any: impl AsFd) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(ROOM_MAX);
        let last = i32::try_from(allowed.min(ROOM_MAX).saturating_sub(1));
        // The highest number that is free from there on makes the table as long; it is given back at once.
        if let Ok(last) = last {
            drop(fcntl_dupfd_cloexec(any, last));
        }
    });
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The kernel tells how many descriptors the table has room for.
    fn room() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        line.expect("a size").trim().parse().expect("a number")
    }

    #[test]
    fn there_is_room_for_all_descriptors_that_the_process_may_have() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        make_room(&listener);
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(ROOM_MAX);
        assert!(room() >= allowed.min(ROOM_MAX), "{} of {allowed}", room());
        // Nothing is kept.
        let highest = std::fs::read_dir("/proc/self/fd").expect("a list");
        let highest = highest
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok())
            .max();
        assert!(highest < Some(allowed.min(ROOM_MAX) - 1), "{highest:?}");
    }
}
