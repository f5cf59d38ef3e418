//! Messages that nobody answers, as fast as they are taken (P4).

use super::{Case, Metric, Must, Suite, Work};

pub(super) const SUITE: Suite = Suite::of(cases);

fn cases() -> Vec<Case> {
    let cpu = Metric::new("P4", "cpu", "cpu ns/msg");
    let bound = cpu.bound(Must::Ratio(3.0), Must::Ratio(2.0));
    let unbound = |scheme| Metric::new(scheme, "cpu", "cpu ns/msg");
    vec![
        one_way("tcp", bound),
        one_way("ws", unbound("ws")),
        one_way("unix", unbound("unix")),
        Case {
            // Nobody else counts over QUIC.
            reference: "",
            ..one_way("quic", unbound("quic"))
        },
    ]
}

fn one_way(scheme: &'static str, cpu: Metric) -> Case {
    let work = Work::Load {
        mode: "oneway",
        connections: 1,
        window: 0,
        payload: 64,
    };
    let name = format!("{scheme} 64 B one-way");
    Case {
        role: "sink",
        ..Case::new(name, scheme, work, vec![cpu])
    }
}
