//! `cargo xtask churn` and `soak`: connections that abort and networks that fail, by the program in crates/msgtrans-endurance.

use crate::workspace::{Workspace, run as run_command};

const PROGRAM: [&str; 4] = ["run", "--locked", "-p", "msgtrans-endurance"];

/// Runs a task of the program in release, with its own options.
pub(crate) fn run(workspace: &Workspace, task: &str, arguments: &[String]) -> Result<(), String> {
    run_command(
        workspace
            .cargo(PROGRAM)
            .args(["--release", "--", task])
            .args(arguments),
    )
}

/// Two rounds of two hundred connections a protocol, with what the tests have built.
pub(crate) fn churn_short(workspace: &Workspace) -> Result<(), String> {
    let short = ["--connections", "200", "--rounds", "2", "--lanes", "32"];
    run_command(workspace.cargo(PROGRAM).args(["--", "churn"]).args(short))
}

/// Half a minute over every protocol, a fault every five seconds, with what the tests have built.
pub(crate) fn soak_short(workspace: &Workspace) -> Result<(), String> {
    let short = ["--minutes", "0.5", "--rate", "1000", "--fault-every", "5"];
    run_command(workspace.cargo(PROGRAM).args(["--", "soak"]).args(short))
}
