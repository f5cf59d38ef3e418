//! Endurance: `churn` makes connections that abort at every point, `soak` loads them through networks that fail.
//!
//! Both run their server in a process of its own, this same program with the word `server`, so that what it holds can
//! be counted apart from what its clients hold. `cargo xtask churn` and `cargo xtask soak` run it.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that reports on its terminal"
)]

mod arguments;
mod child;
mod churn;
mod network;
mod process;
mod protocol;
mod server;
mod soak;

use std::process::ExitCode;

const USAGE: &str = "\
usage: msgtrans-endurance churn [--connections N] [--rounds N] [--protocols LIST] [--lanes N] [--seed N]
       msgtrans-endurance soak [--minutes N] [--rate N] [--protocols LIST] [--clients N] [--fault-every SECONDS]
                               [--payload BYTES] [--seed N]

churn   per protocol, ROUNDS times N connections that end at a random point, LANES at a time; after each round the
        server's sessions, descriptors, tasks and pending requests must be what they were before
        (10000, 10, tcp,tls,ws,wss,quic,unix, 64 and 1)
soak    RATE messages a second in all, one way, requests, pushes and broadcasts, each of CLIENTS a protocol behind a
        network of its own that fails every so often; nothing acknowledged may be lost, nothing repeated or reordered,
        and no process may grow (15, 5000, all, 4, 10, 200 and 1)";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let outcome = match task.as_deref() {
        Some("churn") => churn::run(&rest),
        Some("soak") => soak::run(&rest),
        Some("server") => server::run(&rest),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("FAILED: {reason}");
            ExitCode::FAILURE
        }
    }
}
