//! [`Ebb`]: when so many sessions have gone that their memory is worth giving back at once.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What fewer sessions had is given back with the next idle tick: some 2 MB.
const CROWD: usize = 1_024;

/// Watches the number of sessions. It is said to ebb each time that half of the most there were has gone.
#[derive(Debug, Default)]
pub(crate) struct Ebb {
    /// The most sessions since it was last said. Relaxed: it decides when to look, nothing is ordered by it.
    most: AtomicUsize,
}

impl Ebb {
    /// There are so many now, one more than before.
    pub(crate) fn rise(&self, sessions: usize) {
        self.most.fetch_max(sessions, Relaxed);
    }

    /// There are so many now, one less than before: whether that is the half. Of several threads one is told.
    pub(crate) fn fall(&self, sessions: usize) -> bool {
        let most = self.most.load(Relaxed);
        most >= CROWD
            && sessions <= most / 2
            && self
                .most
                .compare_exchange(most, sessions, Relaxed, Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(ebb: &Ebb, from: usize, to: usize) -> Vec<usize> {
        (to..from).rev().filter(|now| ebb.fall(*now)).collect()
    }

    #[test]
    fn each_half_of_a_crowd_is_told_once() {
        let ebb = Ebb::default();
        (1..=10_000).for_each(|now| ebb.rise(now));
        assert_eq!(told(&ebb, 10_000, 0), [5_000, 2_500, 1_250, 625]);
        (1..=CROWD).for_each(|now| ebb.rise(now));
        assert_eq!(told(&ebb, CROWD, 0), [CROWD / 2]);
    }

    #[test]
    fn few_sessions_and_sessions_that_come_and_go_are_no_crowd() {
        let ebb = Ebb::default();
        (1..CROWD).for_each(|now| ebb.rise(now));
        assert!(told(&ebb, CROWD - 1, 0).is_empty());
        (1..=4_000).for_each(|now| ebb.rise(now));
        for _ in 0..10 {
            assert!(told(&ebb, 4_000, 2_001).is_empty());
            (2_001..=4_000).for_each(|now| ebb.rise(now));
        }
    }
}
