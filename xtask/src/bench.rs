//! `cargo xtask bench`: the release command against the peers, by the program in benches/.

use std::process::{Command, Stdio};

use crate::workspace::{Workspace, run as run_command};

/// Builds `msgtrans` in release and hands it, with the arguments, to `benches/`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let asks = |names: &[&str]| arguments.iter().any(|it| names.contains(&it.as_str()));
    let brings = |name: &str| arguments.iter().any(|it| it.starts_with(name));
    // Neither takes an optimised build, let alone the product.
    if asks(&["--help", "-h", "--list"]) {
        return run_command(harness(workspace, &[]).args(arguments));
    }
    let suffix = std::env::consts::EXE_SUFFIX;
    let command = workspace.target_directory()?;
    let command = command.join(format!("release/msgtrans{suffix}"));
    let mut ours = Vec::new();
    if !brings("--ours") {
        ours.extend(["--ours".to_owned(), command.display().to_string()]);
    }
    // What is wrong with the arguments is told before minutes of building.
    run_command(
        harness(workspace, &[])
            .arg("--list")
            .args(&ours)
            .args(arguments)
            .stdout(Stdio::null()),
    )?;
    if !ours.is_empty() {
        run_command(&mut workspace.cargo([
            "build",
            "--release",
            "--locked",
            "-p",
            "msgtrans-cli",
        ]))?;
    }
    run_command(
        harness(workspace, &["--release"])
            .args(&ours)
            .args(arguments),
    )
}

/// The program of benches/, with `more` for cargo.
fn harness(workspace: &Workspace, more: &[&str]) -> Command {
    let mut command = workspace.cargo(["run", "--quiet", "--manifest-path", "benches/Cargo.toml"]);
    command.args(more).args(["-p", "run", "--"]);
    command
}
