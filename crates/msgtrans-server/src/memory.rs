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

    /// Cuts those of the sessions that hold the most, where too much is held; whether it is worth looking again soon.
    ///
    /// Sessions that have been cut and have not let go yet count as gone.
    pub(crate) fn shed(self, each: impl FnOnce(&mut dyn FnMut(&Session))) -> bool {
        let chosen = self.choose(held_bytes, |add| {
            each(&mut |session| add(session.held_bytes(), session.is_shed(), session));
        });
        let Some(chosen) = chosen else {
            return false;
        };
        for (bytes, session) in chosen {
            tracing::warn!(session = %session.id(), bytes, budget = self.0, "cut: too many bytes are held");
            session.shed();
        }
        true
    }

    /// The largest holders, as many as are too many; nothing where there is room. `each` gives every holder with its
    /// bytes and whether it has been cut.
    fn choose<T: Clone>(
        self,
        held: impl Fn() -> usize,
        each: impl FnOnce(&mut dyn FnMut(usize, bool, &T)),
    ) -> Option<Vec<(usize, T)>> {
        let before = held();
        if before < self.percent(95) {
            return None;
        }
        let mut leaving = 0_usize;
        let mut holders = Vec::new();
        each(&mut |bytes, is_cut, holder| {
            if is_cut {
                leaving = leaving.saturating_add(bytes);
            } else if bytes > 0 {
                holders.push((bytes, holder.clone()));
            }
        });
        // The less of both: who let go since was not met in the walk, who took more was met before it did, and others
        // would be cut in the place of either.
        let mut excess = before
            .min(held())
            .saturating_sub(self.percent(90))
            .saturating_sub(leaving);
        holders.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        holders.retain(|(bytes, _)| {
            let cut = excess > 0;
            excess = excess.saturating_sub(*bytes);
            cut
        });
        Some(holders)
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

    /// Bytes, whether cut, name: what is chosen while `held` bytes are held in all.
    fn chosen(held: usize, holders: &[(usize, bool, char)]) -> Option<String> {
        let chosen = MemoryBudget(1_000).choose(
            || held,
            |add| {
                for (bytes, is_cut, name) in holders {
                    add(*bytes, *is_cut, name);
                }
            },
        )?;
        Some(chosen.into_iter().map(|(_, name)| name).collect())
    }

    #[test]
    fn the_largest_go_until_the_rest_is_within_90_percent() {
        let holders = [
            (100, false, 'a'),
            (40, false, 'b'),
            (60, false, 'c'),
            (0, false, 'd'),
        ];
        assert_eq!(chosen(949, &holders), None);
        assert_eq!(chosen(1_000, &holders).as_deref(), Some("a"));
        assert_eq!(chosen(1_001, &holders).as_deref(), Some("ac"));
        let leaving = [(100, false, 'a'), (100, true, 'b')];
        assert_eq!(chosen(1_000, &leaving).as_deref(), Some(""));
        assert_eq!(chosen(1_001, &leaving).as_deref(), Some("a"));
    }

    /// How many are chosen when `before` are held until the look and `after` from its end.
    fn chosen_between(before: usize, after: usize) -> Option<usize> {
        let held = std::cell::Cell::new(before);
        let chosen = MemoryBudget(1_000).choose(
            || held.get(),
            |add| {
                held.set(after);
                for name in "abcd".chars() {
                    add(40, false, &name);
                }
            },
        );
        chosen.map(|chosen| chosen.len())
    }

    #[test]
    fn nobody_is_cut_in_place_of_one_who_lets_go_or_takes_more_during_the_look() {
        assert_eq!(chosen_between(1_000, 880), Some(0));
        assert_eq!(chosen_between(960, 1_040), Some(2));
        assert_eq!(chosen_between(949, 2_000), None);
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
