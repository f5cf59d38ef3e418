//! Ten thousand connections that do nothing: memory, what opening them costs, what stays when they have gone
//! (P8 P10 P11).

use super::{Case, Metric, Must, Suite, Work};
use crate::servers::{Programs, Server};

pub(super) const SUITE: Suite = Suite {
    cases: || {
        vec![
            idle("tcp", "tokio-raw"),
            idle("ws", "limit"),
            greeted("tcp", TOKIO_GREETS),
            greeted("ws", LIMIT_GREETS),
            waves("tcp", "tokio-raw"),
            waves("ws", "limit"),
        ]
    },
    servers,
};

/// The references of [`idle`] that also read a Hello and write a Welcome, and nothing else of a handshake.
const TOKIO_GREETS: &str = "tokio-greets";
const LIMIT_GREETS: &str = "limit-greets";

const CONNECTIONS: usize = 10_000;
const MB: f64 = 1e6;
/// Three waves of 10 000 take their time, and memory swings little.
const WAVES_ROUNDS_MAX: usize = 2;

fn idle(scheme: &'static str, accept_reference: &'static str) -> Case {
    let must = |suite, key, label, most| Metric {
        must: Some(Must::AtMost(most)),
        ..Metric::new(suite, key, label)
    };
    let bytes = Metric::new("P8", "session_bytes", "bytes/session");
    let accept = Metric::new("P10", "accept_us", "accept cpu us");
    let metrics = vec![
        bytes.bound(Must::AtMost(2_500.0), Must::AtMost(1_200.0)),
        must("P8", "start_bytes", "start RSS bytes", 12.0 * MB),
        accept.bound(Must::Ratio(1.5), Must::Ratio(1.2)),
        Metric::new("P10", "open_s", "burst opened s"),
        must("P10", "syn_retransmits", "SYNs sent again", 0.0),
    ];
    Case {
        name: format!("{scheme} {CONNECTIONS} idle"),
        ..burst(scheme, accept_reference, 1, metrics)
    }
}

/// The same burst against references that greet: what two more system calls and the peer's answer cost is in both.
fn greeted(scheme: &'static str, reference: &'static str) -> Case {
    let accept = Metric::new("P10", "accept_us", "accept cpu us");
    let accept = accept.bound(Must::Ratio(1.5), Must::Ratio(1.2));
    Case {
        name: format!("{scheme} {CONNECTIONS} greeted"),
        peers: false,
        ..burst(scheme, reference, 1, vec![accept])
    }
}

fn servers(programs: &Programs) -> Vec<Server> {
    let limit = programs.folder.join("limit");
    let greets = |name, args: &[&str]| Server::new(name, "v2", &limit, args);
    vec![
        greets(TOKIO_GREETS, &["tokio-raw", "--greet", "0"])
            .for_cases(|case| case.reference == TOKIO_GREETS),
        greets(LIMIT_GREETS, &["ws", "--greet", "--echo", "0"])
            .for_cases(|case| case.reference == LIMIT_GREETS),
    ]
}

fn waves(scheme: &'static str, reference: &'static str) -> Case {
    let left = |key, label| {
        Metric::new("P11", key, label).bound(Must::AtMost(20.0 * MB), Must::AtMost(5.0 * MB))
    };
    let metrics = vec![
        left("left_bytes_1", "left, wave 1"),
        left("left_bytes_2", "left, wave 2"),
        left("left_bytes_3", "left, wave 3"),
    ];
    Case {
        rounds_max: WAVES_ROUNDS_MAX,
        ..burst(scheme, reference, 3, metrics)
    }
}

fn burst(
    scheme: &'static str,
    reference: &'static str,
    waves: usize,
    metrics: Vec<Metric>,
) -> Case {
    let work = Work::Idle {
        connections: CONNECTIONS,
        waves,
    };
    let name = format!("{scheme} {waves} waves of {CONNECTIONS}");
    Case {
        reference,
        slow: true,
        ..Case::new(name, scheme, work, metrics)
    }
}
