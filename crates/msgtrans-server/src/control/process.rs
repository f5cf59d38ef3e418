//! What the system says of this process: on Linux from `/proc/self`, elsewhere nothing.

use std::time::Duration;

/// `None` is what is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) resident_bytes: Option<u64>,
    pub(super) cpu_time: Option<Duration>,
    pub(super) open_fds: Option<u64>,
    pub(super) threads: Option<u64>,
}

#[cfg(target_os = "linux")]
pub(super) use linux::read;

#[cfg(not(target_os = "linux"))]
pub(super) fn read() -> Reading {
    Reading::default()
}

#[cfg(target_os = "linux")]
pub(super) mod linux {
    //! The three places of `/proc/self` that are read, and their formats; see proc(5).

    use std::fs;
    use std::time::Duration;

    use super::Reading;

    /// The kernel's unit of time towards programs, 100 a second on every architecture that std knows Linux for.
    const TICKS_PER_SECOND: u64 = 100;

    pub(in crate::control) fn read() -> Reading {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(parse_stat);
        // Not `statm`: it counts pages, and std does not tell how large one is (4, 16 or 64 KiB).
        let status = fs::read_to_string("/proc/self/status").ok();
        Reading {
            resident_bytes: status.as_deref().and_then(parse_resident),
            cpu_time: stat.map(|(cpu, _)| cpu),
            threads: stat.map(|(_, threads)| threads),
            open_fds: open_fds(),
        }
    }

    /// Processor time and threads from `/proc/self/stat`.
    pub(in crate::control) fn parse_stat(stat: &str) -> Option<(Duration, u64)> {
        // The second field is the program's name in brackets, which may hold blanks and brackets itself.
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        // `rest` begins with field 3; user and system time are 14 and 15, threads 20.
        let user: u64 = fields.nth(14 - 3)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        let threads = fields.nth(20 - 16)?.parse().ok()?;
        let ticks = user.checked_add(system)?;
        let millis = ticks.checked_mul(1_000 / TICKS_PER_SECOND)?;
        Some((Duration::from_millis(millis), threads))
    }

    /// Resident memory from the line `VmRSS:     9104 kB` of `/proc/self/status`.
    pub(in crate::control) fn parse_resident(status: &str) -> Option<u64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        kib.checked_mul(1024)
    }

    fn open_fds() -> Option<u64> {
        const FDS: &str = "/proc/self/fd";
        // Since Linux 6.2 the length of the directory is their number. Older ones say 0, and each entry has to be
        // looked at, which takes a good part of a second with a million.
        let len = fs::metadata(FDS).ok()?.len();
        if len > 0 {
            return Some(len);
        }
        let entries = fs::read_dir(FDS).ok()?.count() as u64;
        // The directory itself is open while it is read.
        Some(entries.saturating_sub(1))
    }
}
