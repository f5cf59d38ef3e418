//! Echoes with messages under way over byte streams: small ones, large ones, and what the same load does to latency
//! (P1 P2 P3 P6 P19).

use super::{Case, Metric, Must, Suite, Work, size};

pub(super) const SUITE: Suite = Suite::of(cases);

fn cases() -> Vec<Case> {
    let mut cases = vec![
        echo("P1", "tcp", 64, 1, 128, 1.4, 1.2),
        echo("P1", "tcp", 64, 50, 32, 1.4, 1.2),
        open_half(1, 128),
        open_half(50, 32),
        echo("P2", "tcp", 1_024, 10, 16, 1.4, 1.2),
        echo("P3", "tcp", 65_536, 4, 8, 1.3, 1.0),
        echo("P3", "tcp", 1_048_576, 2, 4, 1.3, 1.0),
        echo("P6", "ws", 64, 50, 32, 1.5, 1.14),
        echo("P6", "ws", 1_024, 50, 32, 1.6, 1.3),
    ];
    // The same shapes where no bound is set.
    let unbound = [
        ("ws", 64, 1, 128),
        ("ws", 1_024, 10, 16),
        ("ws", 65_536, 4, 8),
        ("ws", 1_048_576, 2, 4),
        ("unix", 64, 1, 128),
        ("unix", 64, 50, 32),
        ("unix", 1_024, 10, 16),
        ("unix", 65_536, 4, 8),
        ("unix", 1_048_576, 2, 4),
    ];
    cases.extend(unbound.map(|(scheme, payload, connections, window)| Case {
        metrics: vec![Metric::new(scheme, "cpu", "cpu ns/msg")],
        peers: false,
        ..load(scheme, payload, connections, window)
    }));
    let rates = [
        ("tcp", 64, 32, Must::AtLeast(2e6), Must::AtLeast(3e6)),
        ("tcp", 1_024, 32, Must::AtLeast(0.5e6), Must::AtLeast(1e6)),
        ("tcp", 4_096, 16, Must::AtLeast(0.5e6), Must::AtLeast(1e6)),
        (
            "tcp",
            65_536,
            8,
            Must::RatioAtLeast(0.8),
            Must::RatioAtLeast(0.95),
        ),
        ("ws", 64, 32, Must::AtLeast(2e6), Must::AtLeast(3e6)),
        ("ws", 1_024, 32, Must::AtLeast(0.5e6), Must::AtLeast(1e6)),
    ];
    cases.extend(rates.map(|(scheme, payload, window, must, aim)| {
        let case = load(scheme, payload, 50, window);
        Case {
            name: format!("{}, rate", case.name),
            metrics: vec![
                Metric::new("P19", "rate", "messages/s").bound(must, aim),
                Metric::new("P19", "p99", "p99 us"),
            ],
            peers: false,
            ..case
        }
    }));
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

/// A closed loop without a figure.
pub(super) fn load(scheme: &'static str, payload: usize, connections: usize, window: u32) -> Case {
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
    Case {
        peers: false,
        ..Case::new(name, "tcp", work, vec![p99])
    }
}
