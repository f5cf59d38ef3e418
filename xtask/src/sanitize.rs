//! `cargo xtask sanitize`: the tests of the crates with unsafe code under AddressSanitizer and LeakSanitizer.
//!
//! Both need nightly. Tests of crossbeam-epoch's kind end with garbage that no thread has collected yet; it
//! hangs on statics and is therefore reachable, not leaked.

use std::process::{Command, Stdio};

use crate::ci::run_and_count_passed;
use crate::results;
use crate::workspace::Workspace;

/// All crates that may have unsafe code.
const CRATES: [&str; 2] = ["msgtrans-lockfree", "msgtrans-mempool"];

const SANITIZERS: [&str; 2] = ["address", "leak"];

/// Runs both, and records how many tests passed under each.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let mut rustc = Command::new("rustc");
    rustc.args(["+nightly", "-vV"]).stderr(Stdio::null());
    let answer = rustc.output().ok().filter(|output| output.status.success());
    let answer = answer.ok_or(
        "sanitizers need a nightly toolchain, and there is none: \
         `rustup toolchain install nightly`",
    )?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    let host = answer.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("nightly's rustc does not name its host")?;
    let directory = workspace.target_directory()?.join("sanitize");
    let mut report = "| sanitizer | tests passed |\n|---|---|\n".to_owned();
    for sanitizer in SANITIZERS {
        let target = directory.join(sanitizer);
        let mut test = Command::new("cargo");
        test.arg("+nightly")
            .args(["test", "--locked", "--lib", "--tests", "--target", host])
            .args(CRATES.iter().flat_map(|name| ["-p", name]))
            .current_dir(workspace.root())
            // Cargo's and rustup's own words about the toolchain that runs this task.
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("CARGO")
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_INCREMENTAL", "0")
            .env(
                "RUSTFLAGS",
                // Reuse of freed nodes would hide what the sanitizer looks for.
                format!("-Z sanitizer={sanitizer} --cfg msgtrans_sanitize"),
            );
        let passed = run_and_count_passed(&mut test)?;
        if passed == 0 {
            return Err(format!("no test ran under the {sanitizer} sanitizer"));
        }
        report.push_str(&format!("| {sanitizer} | {passed} |\n"));
    }
    print!("{report}");
    results::record(workspace, "cargo xtask sanitize", &report)
}
