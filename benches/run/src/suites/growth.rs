//! How the cost grows with connections and with sizes (P18).

use super::{Case, Suite, echo::echo};

pub(super) const SUITE: Suite = Suite::of(cases);

fn cases() -> Vec<Case> {
    let connections = [(1, 128), (10, 32), (100, 16), (1_000, 4), (10_000, 1)];
    let sizes = [16, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576];
    let grow = |payload, connections, window| {
        let mut case = echo("P18", "tcp", payload, connections, window, 1.4, 1.2);
        case.name = format!("{}, growth", case.name);
        Case {
            peers: false,
            slow: true,
            ..case
        }
    };
    let by_connections = connections.map(|(connections, window)| grow(64, connections, window));
    let by_size = sizes.map(|payload| grow(payload, 10, 8));
    by_connections.into_iter().chain(by_size).collect()
}
