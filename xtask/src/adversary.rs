//! `cargo xtask adversary`: adversarial frames on real sockets, by the million, and the invariants afterwards.

use crate::results;
use crate::workspace::{Workspace, stdout_of};

/// The row of the threat table that takes its size from a count.
const ROW: &str = "storm::adversarial_frames_end_their_own_connections_and_nothing_else";
const COUNT: &str = "1000000";

/// Runs the row in release: `--count N` frames, `--seed S`.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let mut count = COUNT.to_owned();
    let mut seed = None;
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().filter(|value| value.parse::<u64>().is_ok());
        let value = value
            .ok_or_else(|| format!("`{name}` takes a number"))?
            .clone();
        match name.as_str() {
            "--count" => count = value,
            "--seed" => seed = Some(value),
            other => {
                return Err(format!(
                    "unknown option `{other}`; there are --count and --seed"
                ));
            }
        }
    }
    // A folder and a profile of its own: whole-program inlining takes minutes and would change nothing that is
    // asserted.
    let mut test = workspace.cargo(["test", "--release", "--locked", "-p", "msgtrans"]);
    test.args(["--features", "full", "--test", "threats", "--target-dir"]);
    test.arg(workspace.target_directory()?.join("adversary"));
    test.args(["--", "--exact", ROW, "--nocapture"]);
    test.env("CARGO_PROFILE_RELEASE_LTO", "off");
    test.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    test.env("MSGTRANS_ADVERSARY_COUNT", count);
    if let Some(seed) = seed {
        test.env("MSGTRANS_ADVERSARY_SEED", seed);
    }
    let said = stdout_of(&mut test)?;
    print!("{said}");
    let tally = said.lines().find(|line| line.contains(" frames over "));
    let tally = tally.ok_or("the row says no tally")?;
    results::record(
        workspace,
        "cargo xtask adversary",
        &format!("{tally}. All invariants held.\n"),
    )
}
