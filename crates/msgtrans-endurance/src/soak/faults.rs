//! Faults: what happens to a network for a while, drawn from a list.

use std::time::Duration;

use msgtrans_testkit::chaos::{Direction, End, Random};

use crate::network::Network;

/// Does something bad to a network and says what. What lasts is taken back by [`Network::heal`].
pub(crate) fn strike(network: &Network, random: &mut Random) -> &'static str {
    match network {
        Network::Stream(proxy) => match random.below(9) {
            0 => {
                proxy.end_all(End::Reset);
                "reset"
            }
            1 => {
                proxy.end_all(End::Cut);
                "cut"
            }
            2 => {
                // Somewhere in what comes, and again for those that come back.
                let at = random.below(300_000);
                let direction = match random.below(2) {
                    0 => Direction::ToServer,
                    _ => Direction::ToClient,
                };
                proxy.change(direction, |faults| faults.end_at = Some((at, End::Reset)));
                "reset at a byte"
            }
            3 => {
                proxy.change(Direction::Both, |faults| {
                    faults.slice_bytes_max = 50.try_into().ok();
                });
                "slices"
            }
            4 => {
                proxy.change(Direction::Both, |faults| {
                    faults.bytes_per_second = 200_000.try_into().ok();
                });
                "narrow"
            }
            5 => {
                proxy.change(Direction::Both, |faults| {
                    faults.latency = Duration::from_millis(20);
                    faults.jitter = Duration::from_millis(10);
                });
                "late"
            }
            6 => {
                proxy.change(Direction::Both, |faults| faults.blackhole = true);
                "blackhole"
            }
            7 => {
                proxy.change(Direction::ToClient, |faults| faults.blackhole = true);
                "deaf client"
            }
            _ => {
                proxy.refuse(true);
                proxy.end_all(End::Reset);
                "refused"
            }
        },
        Network::Datagram(proxy) => match random.below(5) {
            0 => {
                proxy.change(Direction::Both, |faults| faults.loss = 0.05);
                "loss"
            }
            1 => {
                proxy.change(Direction::Both, |faults| {
                    (faults.duplication, faults.reordering) = (0.1, 0.1);
                });
                "repeated and reordered"
            }
            2 => {
                proxy.change(Direction::Both, |faults| {
                    faults.latency = Duration::from_millis(20);
                    faults.jitter = Duration::from_millis(10);
                    faults.loss = 0.01;
                });
                "late"
            }
            3 => {
                proxy.change(Direction::Both, |faults| faults.blackhole = true);
                "blackhole"
            }
            _ => {
                proxy.rebind();
                "rebound"
            }
        },
        Network::None(_) => "none",
    }
}
