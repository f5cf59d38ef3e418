//! A loopback listener with room for a burst, and the line that tells the harness where it is.

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

/// Connections that may wait for `accept`: what `somaxconn` allows. With 1 024 a burst of 10 000 loses SYNs.
const BACKLOG: i32 = 4096;

/// Listens on 127.0.0.1; port 0 takes a free one. The socket does not block.
///
/// # Errors
/// What the system says, for one when the port is taken.
pub fn loopback(port: u16) -> std::io::Result<TcpListener> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Prints `listening SCHEME://ADDRESS`, the line that the harness waits for.
///
/// # Errors
/// When standard output is closed.
pub fn announce(scheme: &str, listener: &TcpListener) -> std::io::Result<()> {
    say(&format!("{scheme}://{}", listener.local_addr()?))
}

/// Prints `listening URL`.
///
/// # Errors
/// When standard output is closed.
pub fn say(url: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening {url}")?;
    out.flush()
}
