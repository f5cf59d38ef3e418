//! `cargo xtask interop`: the published crate as client and as server of ours, by the program in interop/.

use crate::workspace::{Workspace, run as run_command};

/// Runs the cases whose names hold one of the arguments, or all; `--record` records the exchanges that tests replay.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    run_command(
        workspace
            .cargo(["run", "--locked", "--quiet"])
            .args(["--manifest-path", "interop/Cargo.toml", "--"])
            .args(arguments),
    )
}
