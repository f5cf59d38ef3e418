//! [`Report`]: what came out, as a table.

use std::fmt;
use std::time::Duration;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The protocol does what is asked.
    Passed,
    /// It does not.
    Failed(String),
    /// It is not asked, because of its capabilities.
    Skipped(&'static str),
}

/// One line of a [`Report`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CaseReport {
    /// The case.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// What a suite found. Printing it gives a table, one case a line.
#[derive(Clone, Debug)]
pub struct Report {
    pub(super) cases: Vec<CaseReport>,
}

impl Report {
    /// Every case, in the order in which they ran.
    pub fn cases(&self) -> &[CaseReport] {
        &self.cases
    }

    /// Whether no case failed and at least one ran.
    pub fn passed(&self) -> bool {
        let failed = |case: &CaseReport| matches!(case.outcome, Outcome::Failed(_));
        let ran = |case: &CaseReport| case.outcome == Outcome::Passed;
        !self.cases.iter().any(failed) && self.cases.iter().any(ran)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.cases.iter().map(|case| case.name.len()).max();
        let width = width.unwrap_or(0);
        for case in &self.cases {
            let CaseReport {
                name,
                outcome,
                took,
            } = case;
            let ms = took.as_millis();
            match outcome {
                Outcome::Passed => writeln!(f, "{name:width$}  ok    {ms:>6} ms")?,
                Outcome::Failed(why) => writeln!(f, "{name:width$}  FAIL  {ms:>6} ms  {why}")?,
                Outcome::Skipped(why) => writeln!(f, "{name:width$}  skip             {why}")?,
            }
        }
        Ok(())
    }
}
