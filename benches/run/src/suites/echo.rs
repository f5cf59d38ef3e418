//! Echoes with messages under way: small ones, large ones, and what the same load does to latency (P1 P2 P3 P6 P19).

use super::{Case, Metric, Must, Suite, Work, size};

pub(super) const SUITE: Suite = Suite::of(cases);

fn cases() -> Vec<Case> {
    let mut cases = vec![
        echo("P1", "tcp", 64, 1, 128, 1.4, 1.2),
        echo("P1", "tcp", 64, 50, 32, 1.4, 1.2),
        open_half(1, 128),
        open_half(50, 32),
        echo("P2", "tcp", 1024, 10, 16, 1.4, 1.2),
        echo("P3", "tcp", 65_536, 4, 8, 1.3, 1.0),
        echo("P3", "tcp", 1_048_576, 2, 4, 1.3, 1.0),
        echo("P6", "ws", 64, 50, 32, 1.5, 1.14),
        echo("P6", "ws", 1024, 50, 32, 1.6, 1.3),
    ];
    for (payload, window, must, aim) in [
        (64, 32, Must::AtLeast(2e6), Must::AtLeast(3e6)),
        (1_024, 32, Must::AtLeast(0.5e6), Must::AtLeast(1e6)),
        (4_096, 16, Must::AtLeast(0.5e6), Must::AtLeast(1e6)),
        (65_536, 8, Must::RatioAtLeast(0.8), Must::RatioAtLeast(0.95)),
    ] {
        let mut case = load("tcp", payload, 50, window);
        case.name = format!("{}, rate", case.name);
        case.metrics = vec![
            Metric::new("P19", "rate", "messages/s").bound(must, aim),
            Metric::new("P19", "p99", "p99 us"),
        ];
        cases.push(case);
    }
    cases
}

/// A closed loop with a bound on what a message costs.
pub(super) fn echo(
    suite: &'static str,
    scheme: &'static str,
    payload: usize,
    connections: usize,
    window: u32,
    must: f64,
    aim: f64,
) -> Case {
    let cpu = Metric::new(suite, "cpu", "cpu ns/msg");
    Case {
        metrics: vec![cpu.bound(Must::Ratio(must), Must::Ratio(aim))],
        ..load(scheme, payload, connections, window)
    }
}

fn load(scheme: &'static str, payload: usize, connections: usize, window: u32) -> Case {
    let name = format!("{scheme} {} {connections}x{window}", size(payload));
    let work = Work::Load {
        mode: "echo",
        connections,
        window,
        payload,
    };
    Case::new(name, scheme, work, Vec::new())
}

fn open_half(connections: usize, window: u32) -> Case {
    let of = format!("tcp 64 B {connections}x{window}");
    let name = format!("{of} open, half load");
    let work = Work::OpenHalf {
        of,
        connections,
        burst: 32,
    };
    let p99 = Metric::new("P1", "p99", "p99 us").bound(Must::Ratio(1.5), Must::Ratio(1.2));
    Case::new(name, "tcp", work, vec![p99])
}
