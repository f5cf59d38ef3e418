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

/// What a suite found. Printing it gives a line about all, and then a table, one case a line.
#[derive(Clone, Debug)]
pub struct Report {
    suite: &'static str,
    protocol: String,
    cases: Vec<CaseReport>,
}

impl Report {
    pub(super) fn new(suite: &'static str, protocol: String, cases: Vec<CaseReport>) -> Self {
        Self {
            suite,
            protocol,
            cases,
        }
    }

    /// The suite: `"seam"` or `"facade"`.
    pub fn suite(&self) -> &'static str {
        self.suite
    }

    /// The URL scheme of the protocol.
    pub fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Every case, in the order in which they ran.
    pub fn cases(&self) -> &[CaseReport] {
        &self.cases
    }

    /// Prints the table, which `cargo test` shows when the test fails or with `--show-output`.
    ///
    /// # Panics
    /// A case failed, or none ran.
    #[expect(clippy::print_stdout, reason = "a test's output is its report")]
    pub fn expect_passed(&self) {
        println!("{self}");
        assert!(
            self.passed(),
            "{} does not conform to the {}",
            self.protocol,
            self.suite
        );
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
        let count = |kind: fn(&Outcome) -> bool| {
            let cases = self.cases.iter();
            cases.filter(|case| kind(&case.outcome)).count()
        };
        writeln!(
            f,
            "{} over {}: {} ok, {} failed, {} skipped",
            self.suite,
            self.protocol,
            count(|outcome| matches!(outcome, Outcome::Passed)),
            count(|outcome| matches!(outcome, Outcome::Failed(_))),
            count(|outcome| matches!(outcome, Outcome::Skipped(_))),
        )?;
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
                Outcome::Failed(why) => {
                    let why = why.replace('\n', " ");
                    writeln!(f, "{name:width$}  FAIL  {ms:>6} ms  {why}")?;
                }
                Outcome::Skipped(why) => writeln!(f, "{name:width$}  skip             {why}")?,
            }
        }
        Ok(())
    }
}
