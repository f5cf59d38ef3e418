//! A descriptor table that need not grow while peers come in.

/// Lets the descriptor table of this process grow once, before it listens; `any` is a descriptor that is open. Does nothing
/// from the second call on, and on systems other than Linux.
///
/// Linux doubles the table at 256, 512, 1 024, ... descriptors, and in a process of several threads each time waits until
/// every processor has passed a quiet point (`expand_fdtable` and its `synchronize_rcu`): 7 to 28 ms were measured for each,
/// all while `accept` stood still, and a burst of 10 000 connects overflowed a backlog of 4 096.
///
/// A table that cannot be had is not needed: nothing fails.
///
/// # Cost
/// The time of one such wait; no memory of the process's own, and 8 bytes of the kernel's for each descriptor that the
/// process may have, up to 65 536 of them.
#[cfg(unix)]
pub fn reserve(any: std::os::fd::BorrowedFd<'_>) {
    #[cfg(all(target_os = "linux", not(miri)))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| linux::reserve(any));
    }
    #[cfg(not(all(target_os = "linux", not(miri))))]
    let _ = any;
}

#[cfg(all(target_os = "linux", not(miri)))]
#[expect(unsafe_code, reason = "std duplicates to the lowest number alone")]
mod linux {
    use std::ffi::c_int;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

    /// As many as are made room for at most: half a megabyte of the kernel's memory.
    const RESERVED_MAX: c_int = 65_536;
    /// The command of the same name, from `linux/fcntl.h`.
    const F_DUPFD_CLOEXEC: c_int = 1030;

    unsafe extern "C" {
        fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    }

    pub(super) fn reserve(any: BorrowedFd<'_>) {
        // The process may have fewer: then the number is refused, and one that is an eighth smaller is asked for.
        let mut last = RESERVED_MAX - 1;
        while last > 256 {
            // SAFETY: fcntl(2) takes an int with this command, touches no memory of ours, and `any` is open.
            let copy = unsafe { fcntl(any.as_raw_fd(), F_DUPFD_CLOEXEC, last) };
            if copy >= 0 {
                // SAFETY: it is new, so nobody else closes it.
                drop(unsafe { OwnedFd::from_raw_fd(copy) });
                return;
            }
            last -= last / 8;
        }
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use std::os::fd::AsFd;

    /// What the kernel says of this process.
    fn number(file: &str, name: &str, column: usize) -> u64 {
        let text = std::fs::read_to_string(file).expect("a process");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let word = line.and_then(|line| line.split_whitespace().nth(column));
        word.expect("a number").parse().unwrap_or(u64::MAX)
    }

    #[test]
    fn there_is_room_for_the_descriptors_that_the_process_may_have_and_none_is_kept() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        super::reserve(listener.as_fd());
        let allowed = number("/proc/self/limits", "Max open files", 0).min(65_536);
        let room = number("/proc/self/status", "FDSize:", 0);
        assert!(room >= allowed / 8 * 7, "{room} of {allowed}");
        let open = std::fs::read_dir("/proc/self/fd").expect("a list");
        let highest = open
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok())
            .max();
        assert!(highest < Some(allowed / 8 * 7), "{highest:?}");
    }
}
