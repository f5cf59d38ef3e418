//! `cargo xtask conformance`: both suites over every protocol, as one table of case by protocol.
//!
//! The suites run as the tests that `cargo test` runs anyway; this reads what their reports print.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;

use crate::workspace::{Workspace, describe};

/// The crates whose tests run a suite, and the features with which they run all of them.
const ARGUMENTS: &str = "test --locked --no-fail-fast --test it -p msgtrans-tcp -p msgtrans-websocket -p msgtrans-quic \
     -p msgtrans-unix -p msgtrans-inproc -p custom-protocol -p msgtrans \
     --features msgtrans/full,msgtrans-tcp/tls,msgtrans-websocket/tls conform -- --show-output";

/// The order of the columns; what is not named here comes behind.
const ORDER: [&str; 7] = ["tcp", "tls", "ws", "wss", "quic", "unix", "inproc"];

/// How a case ended; the worst of several runs counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Ok,
    Skipped(String),
    Failed(String),
}

/// What one suite found.
#[derive(Debug, Default)]
struct Table {
    /// In the order in which they ran.
    cases: Vec<String>,
    /// By protocol, then by case.
    columns: BTreeMap<String, BTreeMap<String, Cell>>,
}

/// Runs the suites and prints their tables; a failed case, and one that a protocol was not asked, is an error.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let mut command = workspace.cargo(ARGUMENTS.split_whitespace());
    let what = describe(&command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start `{what}`: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let tables = read(&text);
    if !output.status.success() {
        println!("{text}");
    }
    let mut wrong = 0;
    for (suite, table) in &tables {
        println!("{}", table.print(suite));
        wrong += table.wrong();
    }
    match wrong {
        _ if tables.len() != 2 => Err(format!("`{what}` printed no table of each suite")),
        0 if output.status.success() => Ok(()),
        0 => Err(format!("`{what}` ended with {}", output.status)),
        _ => Err(format!("{wrong} cells are not as they should be")),
    }
}

/// The reports in what the tests printed: a line such as `seam over tcp: 34 ok, …`, a line for each case, an empty line.
fn read(text: &str) -> BTreeMap<String, Table> {
    let mut tables = BTreeMap::<String, Table>::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((suite @ ("seam" | "facade"), rest)) = line.split_once(" over ") else {
            continue;
        };
        let Some((protocol, _)) = rest.split_once(": ") else {
            continue;
        };
        let table = tables.entry(suite.to_owned()).or_default();
        let column = table.columns.entry(protocol.to_owned()).or_default();
        for (case, cell) in lines
            .by_ref()
            .take_while(|line| !line.is_empty())
            .filter_map(case)
        {
            if !table.cases.contains(&case) {
                table.cases.push(case.clone());
            }
            let worst = column.entry(case).or_insert(Cell::Ok);
            *worst = worst.clone().max(cell);
        }
    }
    tables
}

/// `name  ok  12 ms`, `name  FAIL  12 ms  why` or `name  skip  why`.
fn case(line: &str) -> Option<(String, Cell)> {
    let (name, rest) = line.split_once("  ")?;
    let rest = rest.trim_start();
    let cell = match rest.split_once(' ')? {
        ("ok", _) => Cell::Ok,
        ("skip", why) => Cell::Skipped(why.trim().to_owned()),
        ("FAIL", why) => Cell::Failed(why.trim().to_owned()),
        _ => return None,
    };
    Some((name.to_owned(), cell))
}

impl Table {
    fn protocols(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.columns.keys().map(String::as_str).collect();
        let rank = |name: &str| ORDER.iter().position(|known| *known == name);
        names.sort_by_key(|name| (rank(name).unwrap_or(ORDER.len()), *name));
        names
    }

    fn cell(&self, protocol: &str, case: &str) -> Option<&Cell> {
        self.columns[protocol].get(case)
    }

    /// Failed cases, and those that are missing.
    fn wrong(&self) -> usize {
        let all = self
            .columns
            .keys()
            .flat_map(|protocol| self.cases.iter().map(move |case| self.cell(protocol, case)));
        all.filter(|cell| matches!(cell, None | Some(Cell::Failed(_))))
            .count()
    }

    /// One row a case, one column a protocol; below, why cells are not `ok`.
    fn print(&self, suite: &str) -> String {
        let protocols = self.protocols();
        let width = self.cases.iter().map(String::len).max().unwrap_or(0);
        let (mut text, mut reasons) = (String::new(), Vec::<&str>::new());
        let _ = write!(
            text,
            "{:width$}",
            format!("{suite}: {} cases", self.cases.len())
        );
        for protocol in &protocols {
            let _ = write!(text, "  {protocol:6}");
        }
        text.push('\n');
        for case in &self.cases {
            let _ = write!(text, "{case:width$}");
            for protocol in &protocols {
                let shown = match self.cell(protocol, case) {
                    Some(Cell::Ok) => "ok".to_owned(),
                    Some(Cell::Failed(_)) => "FAIL".to_owned(),
                    Some(Cell::Skipped(why)) => {
                        let known = reasons.iter().position(|reason| reason == why);
                        let number = known.unwrap_or_else(|| {
                            reasons.push(why);
                            reasons.len() - 1
                        });
                        format!("skip {}", number + 1)
                    }
                    None => "?".to_owned(),
                };
                let _ = write!(text, "  {shown:6}");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        for (number, why) in reasons.iter().enumerate() {
            let _ = writeln!(text, "skip {}: {why}", number + 1);
        }
        for protocol in protocols {
            for case in &self.cases {
                if let Some(Cell::Failed(why)) = self.cell(protocol, case) {
                    let _ = writeln!(text, "FAIL {protocol} {case}: {why}");
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 2 tests
---- tls stdout ----
facade over ws: 1 ok, 0 failed, 1 skipped
first        ok         3 ms
second_case  skip             it has no such thing

---- tcp stdout ----
facade over tcp: 1 ok, 1 failed, 0 skipped
first        ok        12 ms
second_case  FAIL       7 ms  left is not right

facade over tcp: 2 ok, 0 failed, 0 skipped
first        ok        12 ms
second_case  ok        12 ms

test result: FAILED
";

    #[test]
    fn reports_become_a_table_in_which_the_worst_run_counts() {
        let tables = read(OUTPUT);
        let table = &tables["facade"];
        assert_eq!(table.wrong(), 1);
        let lines = table.print("facade");
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(
            lines,
            [
                "facade: 2 cases  tcp     ws    ",
                "first        ok      ok",
                "second_case  FAIL    skip 1",
                "skip 1: it has no such thing",
                "FAIL tcp second_case: 7 ms  left is not right",
            ]
        );
    }

    #[test]
    fn a_case_that_a_protocol_was_not_asked_is_wrong() {
        let mut tables = read(OUTPUT);
        let table = tables.get_mut("facade").expect("the fixture has it");
        table
            .columns
            .get_mut("ws")
            .expect("a column")
            .remove("first");
        assert_eq!(table.wrong(), 2);
    }
}
