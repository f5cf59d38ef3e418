//! [`Network`]: the bad network of one client, whichever kind its protocol needs.

use std::io;

use msgtrans_testkit::chaos::{
    DatagramFaults, DatagramProxy, Direction, End, StreamFaults, StreamProxy,
};

use crate::protocol::Protocol;

/// What lies between a client and the server.
pub(crate) enum Network {
    Stream(StreamProxy),
    Datagram(DatagramProxy),
    /// A socket file: there is no network.
    None(String),
}

impl Network {
    pub(crate) async fn to(protocol: Protocol, address: &str, seed: u64) -> io::Result<Self> {
        if protocol == Protocol::Unix {
            return Ok(Self::None(address.to_owned()));
        }
        let target = address.parse().map_err(io::Error::other)?;
        Ok(if protocol == Protocol::Quic {
            Self::Datagram(DatagramProxy::start(target, seed).await?)
        } else {
            Self::Stream(StreamProxy::start(target, seed).await?)
        })
    }

    /// Where the client dials.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Stream(proxy) => proxy.address().to_string(),
            Self::Datagram(proxy) => proxy.address().to_string(),
            Self::None(path) => path.clone(),
        }
    }

    /// A good network again; what is open stays open.
    pub(crate) fn heal(&self) {
        match self {
            Self::Stream(proxy) => {
                proxy.set(Direction::Both, StreamFaults::default());
                proxy.refuse(false);
            }
            Self::Datagram(proxy) => proxy.set(Direction::Both, DatagramFaults::default()),
            Self::None(_) => {}
        }
    }

    /// Ends what is open, where a network can do that.
    pub(crate) fn end_all(&self, how: End) {
        if let Self::Stream(proxy) = self {
            proxy.end_all(how);
        }
    }

    /// Ends every connection after so many bytes of one direction, where a network can do that.
    pub(crate) fn end_at(&self, direction: Direction, bytes: u64, how: End) {
        if let Self::Stream(proxy) = self {
            proxy.change(direction, |faults| faults.end_at = Some((bytes, how)));
        }
    }

    /// Nothing passes, and nobody is told.
    pub(crate) fn blackhole(&self, on: bool) {
        match self {
            Self::Stream(proxy) => {
                proxy.change(Direction::Both, |faults| faults.blackhole = on);
            }
            Self::Datagram(proxy) => {
                proxy.change(Direction::Both, |faults| faults.blackhole = on);
            }
            Self::None(_) => {}
        }
    }
}
