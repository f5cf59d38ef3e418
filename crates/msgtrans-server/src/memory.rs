//! The memory budget: what a server does while the sessions of the process hold too many bytes.
//!
//! | of the budget | what happens |
//! |---|---|
//! | 80 % | buffers that lie idle are given back, at most once a second |
//! | 90 % | no new session: refused with "overloaded" and a time to come back |
//! | 95 % | the sessions that hold the most are cut, until the rest is within 90 % |
//!
//! Cut at once and without a word: a Goodbye would wait behind the very bytes that are too many.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use msgtrans_session::{Session, held_bytes};

/// What is assumed where the system does not say how much memory there is.
const MEMORY_UNKNOWN: u64 = 4 << 30;

/// A server's budget of bytes that sessions hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryBudget(pub(crate) usize);

impl MemoryBudget {
    /// A quarter of the memory that the process may have.
    pub(crate) fn quarter() -> Self {
        let memory = system::memory().unwrap_or(MEMORY_UNKNOWN);
        Self(usize::try_from(memory / 4).unwrap_or(usize::MAX).max(1))
    }

    fn percent(self, percent: usize) -> usize {
        let (hundreds, rest) = (self.0 / 100, self.0 % 100);
        hundreds
            .saturating_mul(percent)
            .saturating_add(rest.saturating_mul(percent) / 100)
    }

    /// From here on idle memory is given back.
    pub(crate) fn tight(self) -> usize {
        self.percent(80)
    }

    /// Whether new sessions are refused.
    pub(crate) fn is_full(self) -> bool {
        held_bytes() >= self.percent(90)
    }

    /// Cuts those of `sessions` that hold the most, where too much is held; whether it is worth looking again soon.
    ///
    /// Sessions that have been cut and have not let go yet count as gone.
    pub(crate) fn shed(self, each: impl FnOnce(&mut dyn FnMut(&Session))) -> bool {
        let held = held_bytes();
        if held < self.percent(95) {
            return false;
        }
        let mut excess = held.saturating_sub(self.percent(90));
        let mut holders = Vec::new();
        each(&mut |session| {
            let bytes = session.held_bytes();
            if bytes == 0 {
            } else if session.is_shed() {
                excess = excess.saturating_sub(bytes);
            } else {
                holders.push((bytes, session.clone()));
            }
        });
        holders.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        for (bytes, session) in holders {
            if excess == 0 {
                break;
            }
            tracing::warn!(session = %session.id(), bytes, held, budget = self.0, "cut: too many bytes are held");
            session.shed();
            excess = excess.saturating_sub(bytes);
        }
        true
    }
}

#[cfg(target_os = "linux")]
mod system {
    //! The machine's memory and the limits of the control groups that the process is in; see proc(5), cgroups(7).

    use std::fs;
    use std::path::Path;

    /// The least of them.
    pub(super) fn memory() -> Option<u64> {
        let machine = fs::read_to_string("/proc/meminfo").ok();
        let machine = machine.as_deref().and_then(parse_total);
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let limits = groups.lines().filter_map(limit_of);
        limits.chain(machine).min()
    }

    /// The line `MemTotal:       16303904 kB`.
    pub(super) fn parse_total(meminfo: &str) -> Option<u64> {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
        kib.checked_mul(1024)
    }

    /// What a line of `/proc/self/cgroup` leads to: `0::/path` of version 2, `5:memory:/path` of version 1. A group's
    /// limit binds those below it, and in a container only the root may be visible.
    fn limit_of(line: &str) -> Option<u64> {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|name| name == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            return None;
        };
        let path = Path::new(path.trim_start_matches('/'));
        path.ancestors()
            .filter_map(|group| fs::read_to_string(Path::new(root).join(group).join(file)).ok())
            .filter_map(|limit| limit.trim().parse().ok())
            .min()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn memory() -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryBudget;

    #[test]
    fn levels_are_shares_of_the_budget_and_do_not_overflow() {
        assert_eq!(MemoryBudget(1_000).percent(95), 950);
        assert_eq!(MemoryBudget(1).percent(90), 0);
        assert!(MemoryBudget(usize::MAX).percent(95) > usize::MAX / 2);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_budget_is_a_quarter_of_what_there_is() {
        let total = super::system::parse_total("MemFree: 1 kB\nMemTotal:    4096 kB\n");
        assert_eq!(total, Some(4 << 20));
        assert_eq!(super::system::parse_total("MemTotal: much"), None);
        let MemoryBudget(bytes) = MemoryBudget::quarter();
        assert!(bytes > 1 << 20, "{bytes}");
    }
}
