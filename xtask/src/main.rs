//! The project's own tasks: `cargo xtask TASK`, one file for each.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task runner talks to its terminal"
)]

mod adversary;
mod audit;
mod autobahn;
mod bench;
mod ci;
mod conformance;
mod counts;
mod coverage;
mod crate_counts;
mod endurance;
mod floors;
mod fuzz;
mod interop;
mod layers;
mod lists;
mod mutants;
mod peers;
mod results;
mod rust_code;
mod sanitize;
mod shuttle;
mod tidy;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask TASK

tasks:
  ci [STEP...]   every check that a change must pass, or the named steps alone
  adversary [ARGS] `--count N` adversarial frames on real sockets, and the invariants afterwards
  layers         dependencies run strictly downwards; outside crates are declared
  lists          the pages of faults and threats name tests that exist
  tidy           conventions of the source tree, with a hint for each finding
  conformance    both conformance suites over every protocol, as a table
  audit          cargo-deny with the advisory database; installs it when missing
  bench [ARGS]   the command in release against limit and peers; `--help` tells, `--quick` is short
  counts         instructions of the hot path against their limits; `--write` makes them the limits
  autobahn [ARGS] the Autobahn suite against our WebSocket layer, ws and wss, both roles
  fuzz [ARGS]    libFuzzer on every target for `--minutes N`; `--prove` finds planted bugs
  churn [ARGS]   connections that abort anywhere, and a server that must hold nothing of them
  soak [ARGS]    mixed load through networks that fail, and a ledger of what was acknowledged
  interop [ARGS] the published crate and this one as each other's client and server
  coverage [-p CRATE] lines that the tests run, by crate, with gates
  mutants [CRATE] changes to codec, limits and request table that the tests must notice
  shuttle [ARGS] threads in random orders, `--schedules N` of each model
  sanitize       the tests of lockfree and mempool under two sanitizers; needs nightly
  peers          PyPI websockets and aioquic, npm ws as our clients and servers
  help           this text";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((task, rest)) = arguments.split_first() else {
        return usage_error("no task given");
    };
    let workspace = Workspace::locate();
    let takes_arguments = matches!(
        task.as_str(),
        "adversary"
            | "ci"
            | "autobahn"
            | "bench"
            | "churn"
            | "counts"
            | "fuzz"
            | "interop"
            | "soak"
            | "coverage"
            | "mutants"
            | "shuttle"
    );
    if !takes_arguments && !rest.is_empty() {
        return usage_error(&format!("`{task}` takes no arguments"));
    }
    let outcome = match task.as_str() {
        "ci" => ci::run(&workspace, rest),
        "adversary" => adversary::run(&workspace, rest),
        "layers" => layers::run(&workspace),
        "lists" => lists::run(&workspace),
        "peers" => peers::run(&workspace),
        "tidy" => tidy::run(&workspace),
        "conformance" => conformance::run(&workspace),
        "audit" => audit::run(&workspace),
        "autobahn" => autobahn::run(&workspace, rest),
        "bench" => bench::run(&workspace, rest),
        "counts" => counts::task(&workspace, rest),
        "fuzz" => fuzz::run(&workspace, rest),
        "churn" => endurance::run(&workspace, "churn", rest),
        "soak" => endurance::run(&workspace, "soak", rest),
        "coverage" => coverage::run(&workspace, rest),
        "mutants" => mutants::run(&workspace, rest),
        "shuttle" => shuttle::run(&workspace, rest),
        "sanitize" => sanitize::run(&workspace),
        "interop" => interop::run(&workspace, rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        unknown => return usage_error(&format!("unknown task `{unknown}`")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask {task}: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn usage_error(reason: &str) -> ExitCode {
    eprintln!("xtask: {reason}\n\n{USAGE}");
    ExitCode::from(2)
}
