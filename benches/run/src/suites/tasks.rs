//! Two tasks of one process: round trips against tokio channels, and large messages against the memory alone (P14).

use super::{Case, Metric, Must, Suite, Work};
use crate::measure::{self, Bench, Sample};
use crate::servers::{OURS, Programs, Server};
use bench_kit::process::pin;
use std::process::Command;

pub(super) const SUITE: Suite = Suite { cases, servers };

const ROLE: &str = "tasks";
const CHANNELS: &str = "tokio-mpsc";
const MEMORY: &str = "memory";

fn cases() -> Vec<Case> {
    let cpu = |label| Metric::new("P14", "cpu", label);
    let turn = Must::Ratio(1.5);
    let case = |name: &str, work, reference, metric| Case {
        role: ROLE,
        reference,
        packages: &["api"],
        ..Case::new(name.into(), "inproc", Work::Own(work), vec![metric])
    };
    let unbound = || Metric::new("inproc", "cpu", "ns/message");
    let round_trip = || cpu("ns/round trip").bound(turn, Must::Ratio(1.0));
    vec![
        case("inproc 64 B message and echo", echo, CHANNELS, round_trip()),
        case("inproc 64 B request", request, CHANNELS, round_trip()),
        case(
            "inproc 1 MiB, every byte read",
            bulk,
            MEMORY,
            cpu("ns/message").bound(Must::Ratio(1.2), Must::Ratio(1.0)),
        ),
        // The shapes of the other protocols, where no bound is set.
        case(
            "inproc 64 B 1x128",
            pipelined::<64, 128>,
            CHANNELS,
            unbound(),
        ),
        case(
            "inproc 1 KiB 1x16",
            pipelined::<1_024, 16>,
            CHANNELS,
            unbound(),
        ),
        case(
            "inproc 64 KiB 1x8",
            pipelined::<65_536, 8>,
            CHANNELS,
            unbound(),
        ),
        case("inproc 64 B one-way", one_way, CHANNELS, unbound()),
    ]
}

/// Nothing is served: who is measured is an argument of the program.
fn servers(programs: &Programs) -> Vec<Server> {
    let api = programs.folder.join("api");
    let server = |name, fits| Server::new(name, "", &api, &[]).for_cases(fits);
    let mut servers = vec![
        server(CHANNELS, |case| case.reference == CHANNELS),
        server(MEMORY, |case| case.reference == MEMORY),
    ];
    if programs.ours.is_some() {
        servers.push(server(OURS, |case| case.role == ROLE));
    }
    servers
}

fn echo(bench: &Bench, server: &Server, _: &Case) -> Result<Sample, String> {
    turn(bench, server, &["tasks"])
}

fn request(bench: &Bench, server: &Server, _: &Case) -> Result<Sample, String> {
    turn(bench, server, &["tasks", "--requests"])
}

fn pipelined<const PAYLOAD: usize, const WINDOW: usize>(
    bench: &Bench,
    server: &Server,
    _: &Case,
) -> Result<Sample, String> {
    let window = format!("--window={WINDOW}");
    let payload = format!("--payload={PAYLOAD}");
    turn(bench, server, &["pipelined", &window, &payload])
}

fn one_way(bench: &Bench, server: &Server, _: &Case) -> Result<Sample, String> {
    turn(bench, server, &["oneway"])
}

fn bulk(bench: &Bench, server: &Server, _: &Case) -> Result<Sample, String> {
    turn(bench, server, &["bulk"])
}

fn turn(bench: &Bench, server: &Server, args: &[&str]) -> Result<Sample, String> {
    pin(&[0]).map_err(|error| error.to_string())?;
    let mut program = Command::new(&server.program);
    program.args(args);
    program.args(["--who", if server.name == OURS { "ours" } else { "hand" }]);
    measure::program(bench, program)
}
