//! `cargo xtask shuttle`: the models that run threads in random and in adversarial orders.
//!
//! Loom runs every order of a short model; shuttle runs many orders of a long one, with nodes of the map freed as
//! early as may be.

use crate::ci::run_and_count_passed;
use crate::results;
use crate::workspace::Workspace;

/// The crates whose models there are.
const CRATES: [&str; 2] = ["msgtrans-lockfree", "msgtrans-actor"];

/// Random schedules of each model, and as many adversarial ones.
const LONG: u64 = 100_000;
const SHORT: u64 = 500;

/// Runs `--schedules N` of each model, or 100,000, and records the counts.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let schedules = match arguments {
        [] => LONG,
        [option, count] if option == "--schedules" => count
            .parse()
            .map_err(|_| format!("`{count}` is no count of schedules"))?,
        _ => return Err("the only option is `--schedules N`".to_owned()),
    };
    let models = models(workspace, schedules)?;
    let report = format!(
        "{models} models, each {schedules} random and {schedules} adversarial (PCT, depth 3) \
         schedules: no failure.\n"
    );
    print!("{report}");
    results::record(workspace, "cargo xtask shuttle", &report)
}

/// The form that `cargo xtask ci` runs, a matter of seconds.
pub(crate) fn short(workspace: &Workspace) -> Result<(), String> {
    models(workspace, SHORT).map(drop)
}

/// In a target directory of their own, because the cfg changes every crate.
fn models(workspace: &Workspace, schedules: u64) -> Result<u64, String> {
    let target = workspace.target_directory()?.join("shuttle");
    let mut test = workspace.cargo(["test", "--locked", "--release", "--lib", "shuttle_models"]);
    test.args(CRATES.iter().flat_map(|name| ["-p", name]))
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_INCREMENTAL", "0")
        // Fat LTO gains nothing here.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("MSGTRANS_SHUTTLE_SCHEDULES", schedules.to_string())
        .env("RUSTFLAGS", "--cfg msgtrans_shuttle");
    match run_and_count_passed(&mut test)? {
        0 => Err("no model ran".to_owned()),
        count => Ok(count),
    }
}
