//! Requests through the public client, against a client by hand on the same server (P12).

use super::{Case, Metric, Must, Suite, Work};
use crate::measure::{self, Bench, Sample};
use crate::servers::{OURS, Programs, Server};
use std::process::Command;

pub(super) const SUITE: Suite = Suite { cases, servers };

const ROLE: &str = "requests";
/// The client that one writes for nothing but this.
const HAND: &str = "client-by-hand";

fn cases() -> Vec<Case> {
    vec![case::<50>(), case::<1_000>()]
}

fn case<const CONCURRENT: usize>() -> Case {
    let cpu = Metric::new("P12", "cpu", "client cpu ns/request");
    let metrics = vec![
        cpu.bound(Must::Ratio(1.3), Must::Ratio(1.0)),
        Metric::new("P12", "rate", "requests/s"),
    ];
    let name = format!("tcp 64 B requests, {CONCURRENT} concurrent");
    Case {
        role: ROLE,
        reference: HAND,
        packages: &["api"],
        ..Case::new(name, "tcp", Work::Own(turn::<CONCURRENT>), metrics)
    }
}

/// Both clients ask the same server: ours.
fn servers(programs: &Programs) -> Vec<Server> {
    let Some(program) = &programs.ours else {
        return Vec::new();
    };
    let args = ["serve", "--echo", "tcp://127.0.0.1:0"];
    [HAND, OURS]
        .map(|name| Server::new(name, "v2", program, &args).for_cases(|case| case.role == ROLE))
        .into()
}

fn turn<const CONCURRENT: usize>(
    bench: &Bench,
    server: &Server,
    case: &Case,
) -> Result<Sample, String> {
    let mut running = bench.start(server, case)?;
    let mut client = Command::new(bench.program("api"));
    client.args(["request", "--target", &running.url]);
    client.args(["--who", if server.name == OURS { "ours" } else { "hand" }]);
    client.arg(format!("--concurrent={CONCURRENT}"));
    let sample = measure::program(bench, client);
    running.check()?;
    sample
}
