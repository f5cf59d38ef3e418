//! Who may come in: sessions in all, connections of one address, and the rate that its sessions share.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use msgtrans_core::PeerAddress;
use msgtrans_session::{RateLimiter, RateLimiterConfig};
use tokio::time::Instant;

/// Connections by address. Loopback and local peers are not in it.
#[derive(Debug)]
pub(crate) struct Addresses {
    max: usize,
    rate: Option<RateLimiterConfig>,
    by_ip: Mutex<HashMap<IpAddr, Entry>>,
}

#[derive(Debug)]
struct Entry {
    connections: usize,
    limiter: Option<Arc<RateLimiter>>,
}

/// A place among the connections of one address.
#[derive(Debug)]
pub(crate) struct Place {
    addresses: Arc<Addresses>,
    ip: IpAddr,
}

/// Every address of one subscriber counts as one: IPv6 hands out whole /64 networks.
fn subscriber(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6([a, b, c, d, 0, 0, 0, 0].into())
        }
    }
}

impl Addresses {
    pub(crate) fn new(max: usize, rate: Option<RateLimiterConfig>) -> Self {
        Self {
            max,
            rate,
            by_ip: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Entry>> {
        self.by_ip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for `peer`; `Err` when its address has enough connections. `None` for peers that are not counted.
    pub(crate) fn enter(self: &Arc<Self>, peer: &PeerAddress) -> Result<Option<Place>, usize> {
        let Some(ip) = peer.capped_ip().map(subscriber) else {
            return Ok(None);
        };
        let mut by_ip = self.lock();
        let entry = by_ip.entry(ip).or_insert_with(|| Entry {
            connections: 0,
            limiter: self
                .rate
                .and_then(|rate| rate.address_limiter(Instant::now()))
                .map(Arc::new),
        });
        if entry.connections >= self.max {
            return Err(self.max);
        }
        entry.connections = entry.connections.saturating_add(1);
        Ok(Some(Place {
            addresses: self.clone(),
            ip,
        }))
    }

    /// The limiter that the sessions of `peer`'s address share.
    pub(crate) fn limiter(&self, peer: &PeerAddress) -> Option<Arc<RateLimiter>> {
        let ip = subscriber(peer.capped_ip()?);
        self.lock().get(&ip)?.limiter.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_ip = self.addresses.lock();
        if let Some(entry) = by_ip.get_mut(&self.ip) {
            entry.connections = entry.connections.saturating_sub(1);
            // The limiter goes too: who reconnects has waited at least for a handshake.
            if entry.connections == 0 {
                by_ip.remove(&self.ip);
            }
        }
    }
}
