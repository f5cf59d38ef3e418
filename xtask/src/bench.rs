//! `cargo xtask bench`: the release command against the peers, by the program in benches/.

use crate::workspace::{Workspace, run as run_command};

/// Builds `msgtrans` in release and hands it, with the arguments, to `benches/`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    run_command(&mut workspace.cargo(["build", "--release", "--locked", "-p", "msgtrans-cli"]))?;
    let target = workspace
        .metadata()?
        .get("target_directory")
        .and_then(serde_json::Value::as_str)
        .ok_or("cargo metadata names no target directory")?
        .to_owned();
    let command = format!("{target}/release/msgtrans{}", std::env::consts::EXE_SUFFIX);
    run_command(
        workspace
            .cargo(["run", "--release", "--manifest-path", "benches/Cargo.toml"])
            .args(["-p", "run", "--", "--ours", &command])
            .args(arguments),
    )
}
