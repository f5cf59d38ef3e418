//! Builds the programs that a run needs.

use crate::suites::Case;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Builds the load, the limit servers and what these cases need besides. `folder` is that of this very program, where
/// cargo puts them.
pub(crate) fn programs(cases: &[Case], folder: &Path) -> Result<(), String> {
    let mut packages = vec!["load", "limit"];
    let mut micro = false;
    for &package in cases.iter().flat_map(|case| case.packages) {
        micro |= package == MICRO;
        if package != MICRO && !packages.contains(&package) {
            packages.push(package);
        }
    }
    if !build(&packages, &[]) {
        return Err(format!("{} do not build", packages.join(" ")));
    }
    match micro {
        true => benchmarks(folder),
        false => Ok(()),
    }
}

/// Its programs are benchmarks, whose names cargo makes up.
const MICRO: &str = "micro";

/// Builds the benchmarks of `micro` and puts them into the folder of the other programs, as `micro-map` and so on.
fn benchmarks(folder: &Path) -> Result<(), String> {
    eprintln!("run: building the benchmarks of micro, which takes minutes the first time");
    let output = cargo(&[MICRO])
        .args(["--benches", "--message-format=json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output();
    let output = output.map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("{MICRO} does not build"));
    }
    for (name, program) in executables(&String::from_utf8_lossy(&output.stdout)) {
        let to = folder.join(format!("{MICRO}-{name}"));
        std::fs::copy(&program, &to).map_err(|error| format!("{}: {error}", to.display()))?;
    }
    Ok(())
}

/// Names and places of the benchmarks in what cargo says.
fn executables(said: &str) -> Vec<(String, String)> {
    let messages = said
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let benchmarks = messages.filter(|message| message["target"]["kind"][0] == "bench");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let named = benchmarks.filter_map(|message| {
        Some((
            text(&message["target"]["name"])?,
            text(&message["executable"])?,
        ))
    });
    named.collect()
}

/// Builds other people's servers, without libzmq where that does not build. A run goes on without them: what cannot be
/// started is a failure of its own row, and an old program must not stand in for it.
pub(crate) fn peers(program: &Path) {
    eprintln!("run: building the peers, which takes minutes the first time");
    let built = build(&["peers"], &["--features", "peers/zmq"]) || build(&["peers"], &[]);
    if !built {
        eprintln!("run: the peers do not build, so their rows fail");
        // Not there is what it should be.
        let _ = std::fs::remove_file(program);
    }
}

fn build(packages: &[&str], more: &[&str]) -> bool {
    let status = cargo(packages).args(more).status();
    status.is_ok_and(|status| status.success())
}

fn cargo(packages: &[&str]) -> Command {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--manifest-path", manifest]);
    command.args(packages.iter().flat_map(|package| ["-p", package]));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn benchmarks_are_found_in_what_cargo_says() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"micro"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bench"],"name":"map"},"executable":"/t/map-1"}"#,
            "\nnot JSON\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let expected = ("map".to_owned(), "/t/map-1".to_owned());
        assert_eq!(executables(said), [expected]);
    }
}
