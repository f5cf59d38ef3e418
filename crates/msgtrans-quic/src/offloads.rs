//! [`UdpOffloads`]: what the system does for a UDP socket of ours.

use std::fmt;
use std::io;
use std::net::UdpSocket;

use quinn::udp::{UdpSockRef, UdpSocketState};
use socket2::SockRef;

/// What the system does for the UDP socket of a listener or of a client configuration, and how much room it gives.
///
/// Its `Display` is one line for a log:
/// `GSO 64 segments, GRO 64 segments, path MTU discovery on, ECN on, receive buffer 8388608, send buffer 8388608 bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpOffloads {
    /// Datagrams that the kernel takes in one call (generic segmentation offload); 1 where it has none. At most 10 are
    /// handed over at a time.
    pub send_segments: usize,
    /// Datagrams that the kernel hands over in one buffer (generic receive offload); 1 where it has none.
    pub receive_segments: usize,
    /// Whether datagrams that are too large for the path are dropped and not cut up, without which no larger ones than
    /// 1 200 bytes are tried.
    pub path_mtu_discovery: bool,
    /// Whether the marks of routers that are congested arrive (ECN).
    pub ecn: bool,
    /// Bytes of the kernel's receive buffer, as the kernel counts them: on Linux twice what it allows.
    pub receive_buffer: usize,
    /// Bytes of its send buffer.
    pub send_buffer: usize,
}

impl UdpOffloads {
    /// Sets `socket` up as quinn does, and looks.
    pub(crate) fn of(socket: &UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(socket))?;
        let options = SockRef::from(socket);
        let ecn = if socket.local_addr()?.is_ipv4() {
            options.recv_tos_v4()
        } else {
            options.recv_tclass_v6()
        };
        Ok(Self {
            send_segments: state.max_gso_segments(),
            receive_segments: state.gro_segments(),
            path_mtu_discovery: !state.may_fragment(),
            // A system that cannot tell has none.
            ecn: ecn.unwrap_or(false),
            receive_buffer: options.recv_buffer_size()?,
            send_buffer: options.send_buffer_size()?,
        })
    }
}

impl fmt::Display for UdpOffloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segments = |f: &mut fmt::Formatter<'_>, name, segments| match segments {
            0 | 1 => write!(f, "{name} off, "),
            more => write!(f, "{name} {more} segments, "),
        };
        let on = |on| if on { "on" } else { "off" };
        segments(f, "GSO", self.send_segments)?;
        segments(f, "GRO", self.receive_segments)?;
        write!(
            f,
            "path MTU discovery {}, ECN {}, receive buffer {}, send buffer {} bytes",
            on(self.path_mtu_discovery),
            on(self.ecn),
            self.receive_buffer,
            self.send_buffer
        )
    }
}
