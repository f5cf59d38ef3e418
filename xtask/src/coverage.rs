//! `cargo xtask coverage`: lines that the workspace's tests run, by crate, with gates.
//!
//! rustc counts (`-C instrument-coverage`), LLVM's own tools read: those of the toolchain
//! (`rustup component add llvm-tools`), or the distribution's of the same LLVM version.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::results;
use crate::workspace::{Workspace, run as run_command, stdout_of};

/// Percent of lines of all crates together.
const ALL_MIN: f64 = 80.0;

/// Percent of lines of the crates on which the others stand.
const FOUNDATION_MIN: f64 = 90.0;
const FOUNDATION: [&str; 4] = [
    "msgtrans-core",
    "msgtrans-lockfree",
    "msgtrans-mempool",
    "msgtrans-session",
];

/// Lines of one crate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Lines {
    all: u64,
    run: u64,
}

impl Lines {
    fn percent(self) -> f64 {
        if self.all == 0 {
            return 100.0;
        }
        self.run as f64 * 100.0 / self.all as f64
    }
}

/// Runs all tests, or with `-p CRATE` those of some crates; prints and records the table.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let tools = Tools::find()?;
    let directory = workspace.target_directory()?.join("coverage");
    fs::create_dir_all(&directory).map_err(|error| format!("no place for profiles: {error}"))?;
    let counting = counting_compiler(&directory)?;
    let profiles = directory.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles).map_err(|error| format!("old profiles stay: {error}"))?;
    }
    let test = || {
        let mut test = workspace.cargo(["test", "--locked"]);
        if arguments.is_empty() {
            test.arg("--workspace");
        }
        test.args(arguments)
            .env("CARGO_INCREMENTAL", "0")
            .env("RUSTC_WORKSPACE_WRAPPER", &counting)
            .env("LLVM_PROFILE_FILE", profiles.join("%p-%4m.profraw"));
        test
    };
    let messages = stdout_of(test().args(["--no-run", "--message-format", "json"]))?;
    // A test that fails is an error at the end; the lines were run all the same.
    let tests = run_command(test().args(["--lib", "--bins", "--tests", "--no-fail-fast"]));

    let merged = directory.join("all.profdata");
    let raw = profile_files(&profiles)?;
    // A list, because a command line has an end.
    let list = directory.join("profiles.txt");
    fs::write(&list, raw.join("\n")).map_err(|error| format!("no list of profiles: {error}"))?;
    run_command(
        Command::new(&tools.profdata)
            .args(["merge", "--sparse", "--failure-mode=warn", "-f"])
            .arg(&list)
            .arg("-o")
            .arg(&merged),
    )?;
    let mut export = Command::new(&tools.cov);
    export.args(["export", "--summary-only", "--instr-profile"]);
    export.arg(&merged);
    for executable in executables(&messages) {
        export.arg("--object").arg(executable);
    }
    let report = stdout_of(export.stderr(Stdio::null()))?;
    let report: Value =
        serde_json::from_str(&report).map_err(|error| format!("llvm-cov's answer: {error}"))?;

    let crates = by_crate(&report, workspace.root());
    let (table, failures) = judge(&crates);
    print!("{table}");
    if arguments.is_empty() {
        let failed = if tests.is_err() {
            "\nNot every test passed.\n"
        } else {
            ""
        };
        results::record(
            workspace,
            "cargo xtask coverage",
            &format!("{table}{failed}"),
        )?;
        if !failures.is_empty() {
            return Err(failures.join("; "));
        }
    }
    tests
}

/// A compiler that counts, for the members of the workspace alone: what others wrote stays as every other build has
/// left it, and cargo keeps the two kinds of our own apart.
fn counting_compiler(directory: &Path) -> Result<PathBuf, String> {
    let path = directory.join("rustc-that-counts");
    fs::write(&path, "#!/bin/sh\nexec \"$@\" -C instrument-coverage\n")
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(path)
}

/// LLVM's tools, of the version that rustc is built on: their format changes with each.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    fn find() -> Result<Self, String> {
        let sysroot = stdout_of(Command::new("rustc").args(["--print", "sysroot"]))?;
        let version = stdout_of(Command::new("rustc").arg("-vV"))?;
        let field = |name: &str| {
            let line = version.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim).unwrap_or_default().to_owned()
        };
        let host = field("host:");
        let major = field("LLVM version:");
        let major = major.split('.').next().unwrap_or_default().to_owned();
        let own = Path::new(sysroot.trim())
            .join("lib/rustlib")
            .join(host)
            .join("bin");
        let find = |name: &str| {
            let distribution = PathBuf::from(format!("{name}-{major}"));
            [own.join(name), distribution].into_iter().find(|tool| {
                let mut version = Command::new(tool);
                version.arg("--version").stdout(Stdio::null());
                version.status().is_ok_and(|status| status.success())
            })
        };
        let missing = |name: &str| {
            format!(
                "{name} of LLVM {major} is missing; `rustup component add llvm-tools` or the \
                 package llvm-{major} has it"
            )
        };
        Ok(Self {
            profdata: find("llvm-profdata").ok_or_else(|| missing("llvm-profdata"))?,
            cov: find("llvm-cov").ok_or_else(|| missing("llvm-cov"))?,
        })
    }
}

fn profile_files(directory: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(directory).map_err(|error| format!("no profiles: {error}"))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path().display().to_string())
        .filter(|path| path.ends_with(".profraw"))
        .collect())
}

/// The test programs and commands that cargo names in its messages.
fn executables(messages: &str) -> Vec<String> {
    let mut all: Vec<String> = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(str::to_owned))
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Lines below `crates/NAME/src`, without those that are tests themselves.
fn by_crate(report: &Value, root: &Path) -> BTreeMap<String, Lines> {
    let mut crates = BTreeMap::<String, Lines>::new();
    let files = report["data"][0]["files"].as_array();
    for file in files.into_iter().flatten() {
        let path = Path::new(file["filename"].as_str().unwrap_or_default());
        let Ok(path) = path.strip_prefix(root.join("crates")) else {
            continue;
        };
        let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
        let [name, "src", inside @ ..] = parts.as_slice() else {
            continue;
        };
        let is_test = |part: &&str| {
            matches!(
                *part,
                "tests" | "tests.rs" | "loom_models.rs" | "test_waker.rs"
            )
        };
        if inside.iter().any(is_test) {
            continue;
        }
        let lines = crates.entry((*name).to_owned()).or_default();
        lines.all += file["summary"]["lines"]["count"].as_u64().unwrap_or(0);
        lines.run += file["summary"]["lines"]["covered"].as_u64().unwrap_or(0);
    }
    crates
}

/// The table, and what is below its gate.
fn judge(crates: &BTreeMap<String, Lines>) -> (String, Vec<String>) {
    let mut table = "| crate | lines | run | percent | gate |\n|---|---|---|---|---|\n".to_owned();
    let mut failures = Vec::new();
    let mut total = Lines::default();
    let mut row = |name: &str, lines: Lines, gate: Option<f64>| {
        let percent = lines.percent();
        let shown = gate.map_or_else(String::new, |gate| format!("> {gate}"));
        let Lines { all, run } = lines;
        table.push_str(&format!(
            "| {name} | {all} | {run} | {percent:.1} | {shown} |\n"
        ));
        if let Some(gate) = gate.filter(|gate| percent <= *gate) {
            failures.push(format!("{name} has {percent:.1} %, not over {gate} %"));
        }
    };
    for (name, lines) in crates {
        total.all += lines.all;
        total.run += lines.run;
        let gate = FOUNDATION
            .contains(&name.as_str())
            .then_some(FOUNDATION_MIN);
        row(name, *lines, gate);
    }
    row("all", total, Some(ALL_MIN));
    (table, failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed_by_crate_without_tests() {
        let file = |name: &str, count: u64, covered: u64| {
            serde_json::json!({
                "filename": name,
                "summary": { "lines": { "count": count, "covered": covered } },
            })
        };
        let report = serde_json::json!({ "data": [{ "files": [
            file("/r/crates/a/src/lib.rs", 10, 9),
            file("/r/crates/a/src/deep/x.rs", 10, 8),
            file("/r/crates/a/src/deep/tests.rs", 10, 1),
            file("/r/crates/a/tests/it/main.rs", 10, 1),
            file("/elsewhere/src/lib.rs", 10, 1),
        ]}]});
        let crates = by_crate(&report, Path::new("/r"));
        assert_eq!(crates.len(), 1);
        assert_eq!(crates["a"], Lines { all: 20, run: 17 });
    }

    #[test]
    fn the_gate_of_a_foundation_crate_is_its_own() {
        let mut crates = BTreeMap::new();
        crates.insert("msgtrans-core".to_owned(), Lines { all: 100, run: 89 });
        crates.insert("other".to_owned(), Lines { all: 100, run: 75 });
        let (table, failures) = judge(&crates);
        assert!(
            table.contains("| all | 200 | 164 | 82.0 | > 80 |"),
            "{table}"
        );
        assert_eq!(failures, ["msgtrans-core has 89.0 %, not over 90 %"]);
    }

    #[test]
    fn executables_are_named_once_and_libraries_not_at_all() {
        let messages =
            "{\"executable\":\"b\"}\n{\"executable\":null}\nnoise\n{\"executable\":\"b\"}";
        assert_eq!(executables(messages), ["b"]);
    }
}
