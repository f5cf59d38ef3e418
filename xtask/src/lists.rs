//! `cargo xtask lists`: the lists of faults and of threats name a test for every row, and every test exists.
//!
//! A list is a table of a page under docs/: the first cell of a row is its number, the last one names tests in
//! backticks. A row of something that the product does not have yet says so there: `not built: what`.

use std::collections::BTreeSet;

use crate::rust_code::without_comments_and_literals;
use crate::tidy::{collect_files, read};
use crate::workspace::Workspace;

/// A page, and how many rows its table has.
struct List {
    path: &'static str,
    rows: usize,
}

const LISTS: &[List] = &[
    List {
        path: "docs/FAULTS.md",
        rows: 14,
    },
    List {
        path: "docs/THREAT_MODEL.md",
        rows: 53,
    },
];

/// How a last cell begins that names what is missing instead of a test.
const NOT_BUILT: &str = "not built: ";

/// Prints each finding; an error says how many there are.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let root = workspace.root();
    let mut files = Vec::new();
    collect_files(root, root, &mut files)?;
    let mut tests = BTreeSet::new();
    for path in files.iter().filter(|path| holds_tests(path)) {
        let code = without_comments_and_literals(&read(root, path)?);
        tests.extend(functions(&code).map(str::to_owned));
    }
    let mut findings = Vec::new();
    for list in LISTS {
        let page = read(root, list.path)?;
        let rows = rows(&page);
        let mut found = check(list, &rows, &tests);
        found.extend(check_prose(list, &page, &tests));
        if found.is_empty() {
            let open = rows
                .iter()
                .filter(|row| row.last.starts_with(NOT_BUILT))
                .count();
            let named: usize = rows.iter().map(|row| names(&row.last).count()).sum();
            println!(
                "{}: {} rows, {} of them not built yet, {named} tests named",
                list.path,
                rows.len(),
                open
            );
        }
        findings.extend(found);
    }
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(format!("{count} findings")),
    }
}

/// Where the tests of this workspace are written.
fn holds_tests(path: &str) -> bool {
    let ours = path.starts_with("crates/") || path.starts_with("examples/");
    let place = path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("/loom_models.rs")
        || path.contains("/conformance/");
    ours && place && path.ends_with(".rs")
}

/// The names of the functions that `code` defines.
fn functions(code: &str) -> impl Iterator<Item = &str> {
    code.split("fn ").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        rest.get(..end).filter(|name| !name.is_empty())
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    number: usize,
    last: String,
}

/// The rows of a page's tables whose first cell is a number.
fn rows(page: &str) -> Vec<Row> {
    page.lines()
        .filter_map(|line| {
            let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
            let (first, rest) = cells.split_once(" | ")?;
            let last = rest.rsplit_once(" | ").map_or(rest, |(_, last)| last);
            Some(Row {
                number: first.trim().parse().ok()?,
                last: last.trim().to_owned(),
            })
        })
        .collect()
}

/// What stands in backticks.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Tests are named beside the table too: whatever reads like a sentence in one word.
fn check_prose(list: &List, page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let sentence = |name: &&str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.matches('_').count() >= 3 && name.chars().all(plain)
    };
    let prose = page.lines().filter(|line| !line.starts_with("| "));
    prose
        .flat_map(names)
        .filter(sentence)
        .filter(|name| !tests.contains(*name))
        .map(|name| format!("{}: names `{name}`, and there is no such test", list.path))
        .collect()
}

fn check(list: &List, rows: &[Row], tests: &BTreeSet<String>) -> Vec<String> {
    let path = list.path;
    let mut findings = Vec::new();
    for number in 1..=list.rows {
        match rows.iter().filter(|row| row.number == number).count() {
            1 => {}
            0 => findings.push(format!("{path}: row {number} is missing")),
            count => findings.push(format!("{path}: row {number} is there {count} times")),
        }
    }
    for row in rows {
        let number = row.number;
        if number == 0 || number > list.rows {
            findings.push(format!("{path}: row {number} is not one of {}", list.rows));
        }
        let built = row.last.strip_prefix(NOT_BUILT).is_none_or(str::is_empty);
        if built && names(&row.last).next().is_none() {
            findings.push(format!(
                "{path}: row {number} names no test; write one, or `{NOT_BUILT}` and what is missing"
            ));
        }
        for name in names(&row.last) {
            if !tests.contains(name) {
                findings.push(format!(
                    "{path}: row {number} names `{name}`, and there is no such test"
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: List = List {
        path: "docs/LIST.md",
        rows: 2,
    };

    fn check_page(page: &str) -> Vec<String> {
        let tests = ["a_peer_that_is_bad", "b"].map(str::to_owned);
        check(&LIST, &rows(page), &BTreeSet::from(tests))
    }

    #[test]
    fn a_row_has_tests_or_says_what_is_missing() {
        let page = "# T\n| # | threat | tests |\n|---|---|---|\n\
                    | 1 | bad peer | `a_peer_that_is_bad`, `b` |\n| 2 | x | not built: y |\n";
        assert_eq!(check_page(page), Vec::<String>::new());
    }

    #[test]
    fn missing_double_and_unmapped_rows_and_tests_that_do_not_exist_are_found() {
        let page = "| 1 | x | `gone` |\n| 1 | x | nothing |\n| 3 | y | not built:  |\n";
        let findings = check_page(page);
        for part in [
            "row 1 is there 2 times",
            "row 2 is missing",
            "row 1 names `gone`",
            "row 1 names no test",
            "row 3 is not one of 2",
            "row 3 names no test",
        ] {
            assert!(
                findings.iter().any(|it| it.contains(part)),
                "{part}: {findings:?}"
            );
        }
        assert_eq!(findings.len(), 6, "{findings:?}");
    }

    #[test]
    fn tests_named_beside_the_table_must_exist_too() {
        let page = "Also `a_peer_that_is_bad` and `a_peer_that_is_gone`, by `some_crate::Type`.\n";
        let tests = BTreeSet::from(["a_peer_that_is_bad".to_owned()]);
        let findings = check_prose(&LIST, page, &tests);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("a_peer_that_is_gone"));
    }

    #[test]
    fn tests_are_functions_of_code_and_not_of_comments() {
        let code = without_comments_and_literals("// fn gone() {}\nasync fn here(p: P) {}\n");
        assert_eq!(functions(&code).collect::<Vec<_>>(), ["here"]);
    }
}
