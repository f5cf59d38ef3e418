//! `cargo xtask counts`: how many instructions the hot path takes, against the limits in benches/counts/limits.json.
//!
//! callgrind counts, which is the same from run to run and from machine to machine of one architecture, where times
//! are not. Each work runs twice, the second time with more repetitions; what the difference divided by the
//! operations in between is, is what one operation takes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::workspace::{Workspace, run as run_command, stdout_of};

/// What a count may be above its limit: code moves a little with every compiler and neighbour.
const TOLERANCE: f64 = 0.02;
/// Repetitions of the two runs.
const FEW: u64 = 100;
const MANY: u64 = 600;
/// glibc chooses how it copies by the processor; the plainest way is the same everywhere.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-ERMS,-FSRM,-AVX2_Usable";

/// One work and what was counted.
struct Count {
    name: String,
    instructions: f64,
    limit: Option<f64>,
}

/// `cargo xtask counts [--write]`.
pub(crate) fn task(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let write = match arguments {
        [] => false,
        [flag] if flag == "--write" => true,
        _ => return Err("takes --write and nothing else".to_owned()),
    };
    missing_tool().map_or(Ok(()), |reason| Err(reason.to_owned()))?;
    let counts = count(workspace)?;
    print!("{}", table(&counts));
    if write {
        return store(workspace, &counts);
    }
    verdict(&counts)
}

/// Why nothing can be counted here.
pub(crate) fn missing_tool() -> Option<&'static str> {
    if cfg!(not(all(target_os = "linux", target_arch = "x86_64"))) {
        return Some("the limits are those of x86-64 Linux");
    }
    let found = Command::new("valgrind")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    (!found).then_some("valgrind is not installed; it is in the package of that name")
}

/// Counts and compares.
pub(crate) fn check(workspace: &Workspace) -> Result<(), String> {
    let counts = count(workspace)?;
    print!("{}", table(&counts));
    verdict(&counts)
}

fn limits_path(workspace: &Workspace) -> PathBuf {
    workspace.root().join("benches/counts/limits.json")
}

fn limits(workspace: &Workspace) -> Result<Map<String, Value>, String> {
    let path = limits_path(workspace);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        // The first time they are written.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "{}".to_owned(),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn count(workspace: &Workspace) -> Result<Vec<Count>, String> {
    let arguments = "build --profile counts --manifest-path benches/Cargo.toml -p counts";
    // Without --locked: a change to a crate's dependencies must not fail here for a lock file that is not the product's.
    // The program's place is said by cargo, because a target directory may be set anywhere.
    run_command(&mut workspace.cargo(arguments.split(' ')))?;
    let metadata = "metadata --no-deps --format-version 1 --manifest-path benches/Cargo.toml";
    let metadata = stdout_of(&mut workspace.cargo(metadata.split(' ')))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|error| error.to_string())?;
    let target = metadata["target_directory"]
        .as_str()
        .ok_or("cargo metadata names no target directory")?;
    let program = PathBuf::from(target).join("counts/counts");

    let limits = limits(workspace)?;
    let told = stdout_of(&mut Command::new(&program))?;
    let mut lines = told.lines();
    let batch: u64 = lines
        .next()
        .and_then(|line| line.parse().ok())
        .ok_or("counts does not say how many operations a repetition is")?;
    lines
        .map(|name| {
            let few = instructions(&program, name, FEW)?;
            let many = instructions(&program, name, MANY)?;
            let operations = (MANY - FEW) * batch;
            Ok(Count {
                name: name.to_owned(),
                instructions: many.saturating_sub(few) as f64 / operations as f64,
                limit: limits.get(name).and_then(Value::as_f64),
            })
        })
        .collect()
}

/// Instructions of a whole run, as callgrind says at its end.
fn instructions(program: &PathBuf, name: &str, times: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([name, &times.to_string()])
        .env("GLIBC_TUNABLES", TUNABLES)
        .output()
        .map_err(|error| format!("cannot start valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said
        .lines()
        .find_map(|line| line.split_once("Collected : "));
    match collected.and_then(|(_, count)| count.trim().parse().ok()) {
        Some(count) if output.status.success() => Ok(count),
        _ => Err(format!("{name}: {}\n{said}", output.status)),
    }
}

fn table(counts: &[Count]) -> String {
    let width = counts.iter().map(|count| count.name.len()).max();
    let width = width.unwrap_or(0);
    let mut table = format!(
        "{:width$}  {:>12}  {:>8}\n",
        "work", "instructions", "limit"
    );
    for count in counts {
        let limit = count
            .limit
            .map_or_else(|| "none".to_owned(), |limit| format!("{limit:.1}"));
        let (name, instructions, note) = (&count.name, count.instructions, count.note());
        let line = format!("{name:width$}  {instructions:12.1}  {limit:>8}  {note}");
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

fn verdict(counts: &[Count]) -> Result<(), String> {
    let over = counts.iter().filter(|count| count.is_over());
    let over: Vec<&str> = over.map(|count| count.name.as_str()).collect();
    if over.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more instructions than the limit allows: {}; where that is meant, `cargo xtask counts --write`",
        over.join(", ")
    ))
}

fn store(workspace: &Workspace, counts: &[Count]) -> Result<(), String> {
    let limits: Map<String, Value> = counts
        .iter()
        .map(|count| {
            let rounded = (count.instructions * 10.0).round() / 10.0;
            (count.name.clone(), json!(rounded))
        })
        .collect();
    let path = limits_path(workspace);
    let text = format!("{:#}\n", Value::Object(limits));
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

impl Count {
    /// Above the limit, or without one.
    fn is_over(&self) -> bool {
        self.limit
            .is_none_or(|limit| self.instructions > limit * (1.0 + TOLERANCE))
    }

    fn note(&self) -> &'static str {
        match self.limit {
            _ if self.is_over() => "OVER",
            Some(limit) if self.instructions < limit * (1.0 - TOLERANCE) => {
                "less: `cargo xtask counts --write` keeps it"
            }
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(instructions: f64, limit: Option<f64>) -> Count {
        Count {
            name: "encode".to_owned(),
            instructions,
            limit,
        }
    }

    #[test]
    fn two_per_cent_above_the_limit_pass_and_more_does_not() {
        assert!(verdict(&[count(101.9, Some(100.0))]).is_ok());
        assert!(verdict(&[count(102.1, Some(100.0))]).is_err());
    }

    #[test]
    fn a_work_without_a_limit_does_not_pass() {
        let error = verdict(&[count(1.0, None)]).expect_err("no limit");
        assert!(error.contains("encode"), "{error}");
    }

    #[test]
    fn what_has_become_less_is_told() {
        assert!(table(&[count(97.0, Some(100.0))]).contains("keeps it"));
        assert!(!table(&[count(99.0, Some(100.0))]).contains("keeps it"));
    }
}
