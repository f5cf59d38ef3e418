//! [`Ledger`]: what was acknowledged to a sender, against what the application was given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Both sides of every lane. Cheap to clone; every clone is the same ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<BTreeMap<u64, Lane>>>);

/// One sender's numbered messages of one kind.
#[derive(Debug, Default)]
struct Lane {
    acknowledged: BTreeSet<u64>,
    handled: BTreeSet<u64>,
    last: Option<u64>,
    faults: Vec<String>,
}

impl Ledger {
    /// Nothing sent, nothing handled.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Lane>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sender of `lane` was told that `number` has arrived.
    pub fn acknowledged(&self, lane: u64, number: u64) {
        self.lock()
            .entry(lane)
            .or_default()
            .acknowledged
            .insert(number);
    }

    /// The application was given `number` of `lane`.
    pub fn handled(&self, lane: u64, number: u64) {
        let mut lanes = self.lock();
        let lane = lanes.entry(lane).or_default();
        if !lane.handled.insert(number) {
            lane.faults.push(format!("{number} was handled twice"));
        } else if lane.last.is_some_and(|last| last > number) {
            lane.faults
                .push(format!("{number} came behind its successor"));
        }
        lane.last = lane.last.max(Some(number));
    }

    /// What is wrong: repeated, out of order, acknowledged and not handled (yet).
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, lane) in self.lock().iter() {
            let lost = lane.acknowledged.difference(&lane.handled).count();
            if lost > 0 {
                faults.push(format!(
                    "lane {name}: {lost} acknowledged messages are lost"
                ));
            }
            faults.extend(
                lane.faults
                    .iter()
                    .map(|fault| format!("lane {name}: {fault}")),
            );
        }
        faults
    }

    /// How many were acknowledged in all.
    pub fn acknowledged_total(&self) -> u64 {
        self.lock()
            .values()
            .map(|lane| lane.acknowledged.len() as u64)
            .sum()
    }
}
