//! One message to everybody, against one `write` for each session in a loop (P13).

use super::{Case, Metric, Must, Suite, Work};
use crate::servers::{OURS, Programs, Server};

pub(super) const SUITE: Suite = Suite { cases, servers };

const ROLE: &str = "broadcast";
const LOOP: &str = "write-loop";

fn cases() -> Vec<Case> {
    [100, 1_000, 10_000].map(case).into()
}

fn case(connections: usize) -> Case {
    let cpu = Metric::new("P13", "cpu", "cpu ns/delivery");
    let metrics = vec![cpu.bound(Must::Ratio(1.15), Must::Ratio(1.05))];
    let work = Work::Load {
        mode: "fan",
        connections,
        window: 1,
        payload: 64,
    };
    let name = format!("tcp 64 B broadcast to {connections}");
    Case {
        role: ROLE,
        reference: LOOP,
        packages: &["api"],
        slow: connections > 1_000,
        ..Case::new(name, "tcp", work, metrics)
    }
}

fn servers(programs: &Programs) -> Vec<Server> {
    let limit = programs.folder.join("limit");
    let mut servers = vec![Server::new(LOOP, "v2", &limit, &["fan", "0"])];
    if programs.ours.is_some() {
        // `msgtrans serve` does not broadcast: a server of a few lines on the public API does.
        let api = programs.folder.join("api");
        servers.push(Server::new(OURS, "v2", &api, &["broadcast"]));
    }
    let fitting = servers
        .into_iter()
        .map(|server| server.for_cases(|case| case.role == ROLE));
    fitting.collect()
}
