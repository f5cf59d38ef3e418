//! The table: a row for each case, a column for each protocol and direction.

use std::fmt::Write as _;

use crate::case::{Case, Direction};
use crate::peer::{Outcome, Protocol};

/// What became of one case over one protocol in one direction.
pub(crate) enum Verdict {
    Ok,
    Failed(String),
    Skipped(&'static str),
}

impl Verdict {
    pub(crate) fn of(outcome: Outcome<()>) -> Self {
        match outcome {
            Ok(()) => Self::Ok,
            Err(why) => Self::Failed(why),
        }
    }
}

pub(crate) struct Row {
    pub(crate) case: Case,
    /// By direction, then by protocol.
    pub(crate) verdicts: Vec<Verdict>,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) ok: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// The table, the reasons below it, and the counts.
pub(crate) fn render(rows: &[Row]) -> (String, Counts) {
    let mut text = String::new();
    let mut notes: Vec<String> = Vec::new();
    let mut counts = Counts::default();
    let width = rows
        .iter()
        .map(|row| row.case.to_string().len())
        .max()
        .unwrap_or_default();
    let protocols: String = Protocol::ALL
        .map(|it| format!("{:<11}", it.name()))
        .concat();
    let columns = protocols.len();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:width$}  {:columns$}  our client,",
        "", "published client,"
    );
    let _ = writeln!(
        text,
        "{:width$}  {:columns$}  published server",
        "", "our server"
    );
    let _ = writeln!(text, "{:width$}  {protocols}  {protocols}", "case");
    for row in rows {
        let _ = write!(text, "{:width$}", row.case.to_string());
        for (column, verdict) in row.verdicts.iter().enumerate() {
            if column % Protocol::ALL.len() == 0 {
                text.push_str("  ");
            }
            let cell = match verdict {
                Verdict::Ok => {
                    counts.ok += 1;
                    "ok".to_owned()
                }
                Verdict::Failed(why) => {
                    counts.failed += 1;
                    format!("FAILED {}", note(&mut notes, why))
                }
                Verdict::Skipped(why) => {
                    counts.skipped += 1;
                    format!("skipped {}", note(&mut notes, why))
                }
            };
            let _ = write!(text, "{cell:<11}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text.push('\n');
    for (index, why) in notes.iter().enumerate() {
        let _ = writeln!(text, "{}: {why}", index + 1);
    }
    let Counts {
        ok,
        failed,
        skipped,
    } = &counts;
    let _ = writeln!(text, "{ok} ok, {failed} failed, {skipped} skipped");
    (text, counts)
}

/// The number of a reason below the table.
fn note(notes: &mut Vec<String>, why: &str) -> usize {
    match notes.iter().position(|known| known == why) {
        Some(index) => index + 1,
        None => {
            notes.push(why.to_owned());
            notes.len()
        }
    }
}

/// The columns in the order of the verdicts.
pub(crate) fn columns() -> impl Iterator<Item = (Direction, Protocol)> {
    Direction::ALL
        .into_iter()
        .flat_map(|direction| Protocol::ALL.map(|protocol| (direction, protocol)))
}
