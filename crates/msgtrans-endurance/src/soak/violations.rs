//! [`Violations`]: promises that were broken, counted and the first of them told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// More would only repeat each other.
const TOLD_MAX: u64 = 20;

/// Shared by everything that checks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Violations(Arc<AtomicU64>);

impl Violations {
    /// A promise was broken.
    pub(crate) fn add(&self, what: impl FnOnce() -> String) {
        // Relaxed: a count, read at the end.
        if self.0.fetch_add(1, Ordering::Relaxed) < TOLD_MAX {
            eprintln!("BROKEN: {}", what());
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
