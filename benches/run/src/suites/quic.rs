//! QUIC against raw quinn with the same configuration, on loopback and over a path that carries 1 500 bytes (P7).

use super::echo::load;
use super::{Case, Metric, Must, Suite, size};
use crate::servers::QUINN;

pub(super) const SUITE: Suite = Suite::of(cases);

/// What fits into an Ethernet frame with IPv6 and UDP around it.
const ETHERNET: u16 = 1_452;

fn cases() -> Vec<Case> {
    let shapes = [
        (64, 1, 128),
        (64, 10, 32),
        (1_024, 10, 16),
        (65_536, 4, 8),
        (1_048_576, 2, 4),
    ];
    let on_loopback = shapes.map(|(payload, connections, window)| Case {
        // quinn and ours write a message of 1 MiB in pieces of the same window: nothing that peers add to.
        peers: payload <= 65_536,
        ..echo(payload, connections, window)
    });
    let on_ethernet = [(64, 10, 32), (1_024, 10, 16), (65_536, 4, 8)];
    let on_ethernet = on_ethernet.map(|(payload, connections, window)| {
        let case = echo(payload, connections, window);
        Case {
            name: format!("{}, MTU 1500", case.name),
            mtu: Some(ETHERNET),
            peers: false,
            ..case
        }
    });
    let rates = [(64, 50, 32), (1_024, 50, 32)].map(|(payload, connections, window)| {
        let mut case = echo(payload, connections, window);
        let name = format!("quic {} {connections}x{window}, rate", size(payload));
        let rate = Metric::new("P19", "rate", "messages/s");
        case.metrics = vec![rate, Metric::new("P19", "p99", "p99 us")];
        Case {
            name,
            peers: false,
            ..case
        }
    });
    let all = on_loopback.into_iter().chain(on_ethernet).chain(rates);
    all.collect()
}

fn echo(payload: usize, connections: usize, window: u32) -> Case {
    let cpu = Metric::new("P7", "cpu", "cpu ns/msg");
    Case {
        reference: QUINN,
        metrics: vec![cpu.bound(Must::Ratio(1.15), Must::Ratio(1.0))],
        ..load("quic", payload, connections, window)
    }
}
