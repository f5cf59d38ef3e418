//! `cargo xtask mutants`: whether the tests notice when what faces a peer is changed.
//!
//! cargo-mutants changes one expression or function at a time and runs the crate's tests. What the tests do not
//! notice is listed; `docs/RESULTS.md` has the counts.

use std::fs;

use serde_json::Value;

use crate::results;
use crate::workspace::Workspace;

/// Percent of the changes that the tests must notice.
const CAUGHT_MIN: f64 = 90.0;

/// Histories of a property test, an eighth of what it takes by itself.
const PROPTEST_CASES: &str = "32";

/// The codec, the request table and the limits, each with the crate whose tests must notice.
const FILES: [(&str, &[&str]); 2] = [
    (
        "msgtrans-core",
        &[
            "crates/msgtrans-core/src/codec.rs",
            "crates/msgtrans-core/src/decoder.rs",
            "crates/msgtrans-core/src/header.rs",
            "crates/msgtrans-core/src/limits.rs",
        ],
    ),
    (
        "msgtrans-session",
        &["crates/msgtrans-session/src/request.rs"],
    ),
];

/// Runs all, or with a crate's name its part; prints and records the table.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    if !workspace.has_subcommand("mutants") {
        return Err(
            "cargo-mutants is not installed: `cargo install cargo-mutants --locked`".to_owned(),
        );
    }
    let chosen = |name: &str| arguments.is_empty() || arguments.iter().any(|it| it == name);
    let mut table = "| crate | changes | caught | hung | missed | percent | did not compile |\n\
         |---|---|---|---|---|---|---|\n"
        .to_owned();
    let mut missed = Vec::new();
    let mut failures = Vec::new();
    for (name, files) in FILES.iter().filter(|(name, _)| chosen(name)) {
        let output = workspace.target_directory()?.join("mutants").join(name);
        fs::create_dir_all(&output).map_err(|error| format!("no directory for {name}: {error}"))?;
        let mut command = workspace.cargo(["mutants", "--no-shuffle", "--colors", "never"]);
        command
            .args(["--package", name, "--test-package", name])
            .args(files.iter().flat_map(|file| ["--file", file]))
            .arg("--output")
            .arg(&output)
            .args(["--jobs", "1", "--minimum-test-timeout", "60"])
            .args(["--", "--lib", "--tests"])
            // The copies must not write to the directory of this tree; one that stays has what others wrote.
            .env("CARGO_TARGET_DIR", output.join("target"))
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            // A change that any history shows is shown by a few, and each change runs them all.
            .env("PROPTEST_CASES", PROPTEST_CASES);
        // It ends with an error as soon as one change was missed, so its own report decides.
        let _ = command.status();
        let report = output.join("mutants.out/outcomes.json");
        let report =
            fs::read_to_string(report).map_err(|error| format!("{name}: no report: {error}"))?;
        let report: Value =
            serde_json::from_str(&report).map_err(|error| format!("{name}: {error}"))?;
        let counts = Counts::of(&report);
        table.push_str(&counts.row(name));
        missed.extend(counts.names_of_missed);
        if counts.percent < CAUGHT_MIN {
            failures.push(format!("{name}: {:.1} % caught", counts.percent));
        }
    }
    if !missed.is_empty() {
        table.push_str("\nMissed:\n\n");
        table.extend(missed.iter().map(|name| format!("- `{name}`\n")));
    }
    print!("{table}");
    if arguments.is_empty() {
        results::record(workspace, "cargo xtask mutants", &table)?;
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(format!("{}; {CAUGHT_MIN} % must be", failures.join("; ")))
    }
}

struct Counts {
    caught: u64,
    hung: u64,
    missed: u64,
    unviable: u64,
    percent: f64,
    names_of_missed: Vec<String>,
}

impl Counts {
    /// A change that makes the tests hang is noticed too; one that does not compile is none.
    fn of(report: &Value) -> Self {
        let count = |name: &str| report[name].as_u64().unwrap_or(0);
        let (caught, hung, missed) = (count("caught"), count("timeout"), count("missed"));
        let all = (caught + hung + missed).max(1);
        let outcomes = report["outcomes"].as_array();
        let names_of_missed = outcomes
            .into_iter()
            .flatten()
            .filter(|outcome| outcome["summary"] == "MissedMutant")
            .filter_map(|outcome| outcome["scenario"]["Mutant"]["name"].as_str())
            .map(str::to_owned)
            .collect();
        Self {
            caught,
            hung,
            missed,
            unviable: count("unviable"),
            percent: (caught + hung) as f64 * 100.0 / all as f64,
            names_of_missed,
        }
    }

    fn row(&self, name: &str) -> String {
        let Self {
            caught,
            hung,
            missed,
            unviable,
            percent,
            ..
        } = self;
        let all = caught + hung + missed;
        format!("| {name} | {all} | {caught} | {hung} | {missed} | {percent:.1} | {unviable} |\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hung_is_caught_and_what_does_not_compile_does_not_count() {
        let report = serde_json::json!({
            "caught": 17, "timeout": 1, "missed": 2, "unviable": 9,
            "outcomes": [
                { "summary": "MissedMutant", "scenario": { "Mutant": { "name": "a.rs:1:1: x" } } },
                { "summary": "CaughtMutant", "scenario": { "Mutant": { "name": "a.rs:2:1: y" } } },
                { "summary": "Success", "scenario": "Baseline" },
            ],
        });
        let counts = Counts::of(&report);
        assert_eq!(
            counts.row("core"),
            "| core | 20 | 17 | 1 | 2 | 90.0 | 9 |\n"
        );
        assert_eq!(counts.names_of_missed, ["a.rs:1:1: x"]);
    }
}
