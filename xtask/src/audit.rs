//! `cargo xtask audit`: licences, bans, sources and known advisories, by cargo-deny.

use crate::workspace::{Workspace, run as run_command};

/// Installs cargo-deny when it is missing, then runs every check of `deny.toml`.
///
/// The advisory database comes from the network, which is why `ci` runs only the other checks.
/// Both halves run even if the first fails.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    if !workspace.has_subcommand("deny") {
        println!("cargo-deny is not installed; building it takes some minutes");
        run_command(&mut workspace.cargo(["install", "cargo-deny", "--locked"]))?;
    }
    let offline =
        run_command(&mut workspace.cargo(["deny", "check", "bans", "licenses", "sources"]));
    let advisories = run_command(&mut workspace.cargo(["deny", "check", "advisories"]));
    offline.and(advisories)
}
