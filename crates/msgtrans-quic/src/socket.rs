//! The one UDP socket of a listener or of a client configuration, and quinn's endpoint over it.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use msgtrans_mempool::heap;
use quinn::{Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};

use crate::UdpOffloads;
use crate::tuning::{DATAGRAM_MAX, Tuning};
use crate::udp::Udp;

/// quinn's endpoint, and what the system does for its socket where it tells.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    pub(crate) endpoint: Endpoint,
    pub(crate) offloads: Option<UdpOffloads>,
}

/// An endpoint that listens at `address`.
pub(crate) fn listen(
    address: SocketAddr,
    tuning: &Tuning,
    server: ServerConfig,
) -> io::Result<Bound> {
    let bound = bound(udp(address, tuning)?, Some(server))?;
    let address = bound.endpoint.local_addr().ok();
    match &bound.offloads {
        Some(offloads) => tracing::info!(?address, %offloads, "listens on a udp socket"),
        None => tracing::info!(?address, "listens on a udp socket, offloads unknown"),
    }
    Ok(bound)
}

/// An endpoint to dial from, over IPv6 and IPv4 where the system has both.
pub(crate) fn dial(tuning: &Tuning) -> io::Result<Bound> {
    let any = |ip| SocketAddr::new(ip, 0);
    let socket = udp(any(Ipv6Addr::UNSPECIFIED.into()), tuning)
        .or_else(|_| udp(any(Ipv4Addr::UNSPECIFIED.into()), tuning))?;
    let bound = bound(socket, None)?;
    if let Some(offloads) = &bound.offloads {
        tracing::debug!(%offloads, "dials from a udp socket");
    }
    Ok(bound)
}

/// What the system does for a socket of `tuning`.
pub(crate) fn probe(tuning: &Tuning) -> io::Result<UdpOffloads> {
    let socket = udp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0), tuning)?;
    UdpOffloads::of(&socket)
}

fn udp(address: SocketAddr, tuning: &Tuning) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // Whatever the system gives is fine: it is a hint, and systems differ in whether they refuse or cut it.
    let bytes = usize::try_from(tuning.path().udp_buffer).unwrap_or(usize::MAX);
    let given = socket
        .set_recv_buffer_size(bytes)
        .and_then(|()| socket.set_send_buffer_size(bytes));
    if let Err(error) = given {
        tracing::debug!(%error, bytes, "udp buffers stay as they are");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bound(socket: UdpSocket, server: Option<ServerConfig>) -> io::Result<Bound> {
    let offloads = UdpOffloads::of(&socket).ok();
    let mut config = EndpointConfig::default();
    config
        .max_udp_payload_size(DATAGRAM_MAX)
        .map_err(io::Error::other)?;
    // quinn makes a block of each batch of datagrams that it reads, and lets go of it when their last byte is read.
    heap::keep_bursts();
    let socket = Arc::new(Udp::new(socket)?);
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new_with_abstract_socket(config, server, socket, runtime)?;
    Ok(Bound { endpoint, offloads })
}
