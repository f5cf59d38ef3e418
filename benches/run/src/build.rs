//! Builds the programs that a run needs.

use crate::suites::Case;
use std::path::Path;
use std::process::Command;

/// Builds the load, the limit servers and what these cases need besides. They end up beside this very program.
pub(crate) fn programs(cases: &[Case]) -> Result<(), String> {
    let mut packages = vec!["load", "limit"];
    for package in cases.iter().flat_map(|case| case.packages) {
        if !packages.contains(package) {
            packages.push(package);
        }
    }
    match build(&packages, &[]) {
        true => Ok(()),
        false => Err(format!("{} do not build", packages.join(" "))),
    }
}

/// Builds other people's servers, without libzmq where that does not build. A run goes on without them: what cannot be
/// started is a failure of its own row, and an old program must not stand in for it.
pub(crate) fn peers(program: &Path) {
    eprintln!("run: building the peers, which takes minutes the first time");
    let built = build(&["peers"], &["--features", "peers/zmq"]) || build(&["peers"], &[]);
    if !built {
        // Not there is what it should be.
        let _ = std::fs::remove_file(program);
    }
}

fn build(packages: &[&str], more: &[&str]) -> bool {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--manifest-path", manifest])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .args(more)
        .status();
    status.is_ok_and(|status| status.success())
}
