//! Messages that nobody answers, as fast as they are taken (P4).

use super::{Case, Metric, Must, Suite, Work};

pub(super) const SUITE: Suite = Suite::of(|| vec![one_way("tcp")]);

fn one_way(scheme: &'static str) -> Case {
    let work = Work::Load {
        mode: "oneway",
        connections: 1,
        window: 0,
        payload: 64,
    };
    let cpu = Metric::new("P4", "cpu", "cpu ns/msg").bound(Must::Ratio(3.0), Must::Ratio(2.0));
    let name = format!("{scheme} 64 B one-way");
    Case {
        role: "sink",
        ..Case::new(name, scheme, work, vec![cpu])
    }
}
