//! TCP sockets for every protocol that runs over TCP: options, listening, dialling.
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

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_core::{BindError, ConfigError, ConnectError};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{Interest, Ready};
use tokio::net::{TcpListener, TcpStream, lookup_host};

use crate::endpoint::{Endpoint, EndpointOptions};

/// Whether an accepted socket begins with the options of the one that listens: a system call less for each peer.
const INHERITED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Waits until the peer has said something or has gone, and is pending at least once: for a handshake that can read
/// nothing by itself before it holds much.
///
/// # Cancel safety
/// Nothing is read.
pub async fn first_bytes(stream: &TcpStream) {
    // A look and not `readable`, which takes every new socket for readable. An error says that the peer has gone, which
    // the handshake finds out.
    let _ = stream.peek(&mut [0]).await;
    poll_again().await;
}

/// Is pending once, and polled again at once: so whoever polls a handshake tells a peer that has begun, and will take
/// longer than this poll, from a silent one; see [`Incoming::Handshake`](crate::Incoming::Handshake).
pub async fn poll_again() {
    let mut told = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut told, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Whether the peer of `stream` has ended its side, however much of what it sent lies unread. Costs no system call: the
/// kernel has said so already, or has not.
pub fn tcp_peer_gone(stream: &TcpStream) -> bool {
    read_closed(stream.ready(Interest::READABLE))
}

/// The same for sockets of other kinds: `ready` is theirs, for reading.
pub fn read_closed(ready: impl Future<Output = io::Result<Ready>>) -> bool {
    match pin!(ready).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(ready)) => ready.is_read_closed(),
        Poll::Ready(Err(_)) => true,
        Poll::Pending => false,
    }
}

/// Options of a TCP socket, the same for every protocol over TCP. In a URL: `nodelay`, `keepalive`, `send_buffer`,
/// `recv_buffer`, and for listeners `backlog`, `reuse_port`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpOptions {
    /// Send at once instead of waiting for an acknowledgement; on by default.
    pub nodelay: bool,
    /// Probe a silent peer after this long, 1 s to 9 h; off by default, because sessions have a heartbeat.
    pub keepalive: Option<Duration>,
    /// The kernel's send buffer in bytes; the kernel's own choice by default.
    pub send_buffer: Option<usize>,
    /// The kernel's receive buffer in bytes; the kernel's own choice by default.
    pub recv_buffer: Option<usize>,
    /// Connections that may wait to be accepted, 4 096 by default: a burst beyond it costs each loser a second.
    pub backlog: u32,
    /// Several sockets on one port, the kernel spreading connections over them; off by default.
    pub reuse_port: bool,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: None,
            send_buffer: None,
            recv_buffer: None,
            backlog: 4096,
            reuse_port: false,
        }
    }
}

impl TcpOptions {
    /// Takes the options of a URL that a listening socket has.
    ///
    /// # Errors
    /// Names the option, its value and what it must be.
    pub fn take_server(options: &mut EndpointOptions<'_>) -> Result<Self, ConfigError> {
        let mut this = Self::take_client(options)?;
        if let Some(backlog) = options.take("backlog", "a number of connections")? {
            this.backlog = backlog;
        }
        if let Some(reuse_port) = options.take("reuse_port", "true or false")? {
            this.reuse_port = reuse_port;
        }
        Ok(this)
    }

    /// Takes the options of a URL that a dialling socket has.
    ///
    /// # Errors
    /// Names the option, its value and what it must be.
    pub fn take_client(options: &mut EndpointOptions<'_>) -> Result<Self, ConfigError> {
        let mut this = Self::default();
        if let Some(nodelay) = options.take("nodelay", "true or false")? {
            this.nodelay = nodelay;
        }
        this.keepalive = options.take_duration("keepalive")?;
        this.send_buffer = options.take("send_buffer", "a number of bytes")?;
        this.recv_buffer = options.take("recv_buffer", "a number of bytes")?;
        Ok(this)
    }

    /// Writes what differs from the default of a listening socket into a URL.
    #[must_use]
    pub fn put_server(&self, endpoint: Endpoint) -> Endpoint {
        let mut endpoint = self.put_client(endpoint);
        let default = Self::default();
        if self.backlog != default.backlog {
            endpoint = endpoint.with_option("backlog", self.backlog);
        }
        if self.reuse_port != default.reuse_port {
            endpoint = endpoint.with_option("reuse_port", self.reuse_port);
        }
        endpoint
    }

    /// Writes what differs from the default of a dialling socket into a URL.
    #[must_use]
    pub fn put_client(&self, mut endpoint: Endpoint) -> Endpoint {
        if self.nodelay != Self::default().nodelay {
            endpoint = endpoint.with_option("nodelay", self.nodelay);
        }
        if let Some(keepalive) = self.keepalive {
            let ms = keepalive.as_millis();
            endpoint = endpoint.with_option("keepalive", format_args!("{ms}ms"));
        }
        for (name, bytes) in [
            ("send_buffer", self.send_buffer),
            ("recv_buffer", self.recv_buffer),
        ] {
            if let Some(bytes) = bytes {
                endpoint = endpoint.with_option(name, bytes);
            }
        }
        endpoint
    }

    /// Checks every option.
    ///
    /// # Errors
    /// Names the field, its value and its bound.
    pub fn validate(&self) -> Result<(), ConfigError> {
        // Linux refuses more than 32 767 s: every connection would be lost as soon as it was accepted.
        let times = Duration::from_secs(1)..=Duration::from_secs(9 * 3600);
        if let Some(keepalive) = self.keepalive.filter(|time| !times.contains(time)) {
            return Err(ConfigError::new(
                "keepalive",
                format_args!("{keepalive:?}"),
                "must be from 1 s to 9 h",
            ));
        }
        for (field, value) in [
            ("send_buffer", self.send_buffer),
            ("recv_buffer", self.recv_buffer),
        ] {
            if let Some(bytes) = value.filter(|bytes| !(4096..=1 << 30).contains(bytes)) {
                return Err(ConfigError::new(
                    field,
                    bytes,
                    "must be from 4096 to 1073741824 bytes",
                ));
            }
        }
        if self.backlog == 0 || self.backlog > 65_535 {
            return Err(ConfigError::new(
                "backlog",
                self.backlog,
                "must be from 1 to 65535",
            ));
        }
        if self.reuse_port && cfg!(not(unix)) {
            return Err(ConfigError::new(
                "reuse_port",
                true,
                "must be false: this system has no such option",
            ));
        }
        Ok(())
    }

    /// Sets the options of a connected socket. A peer that is gone already shows at the first read.
    pub fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        self.set(&SockRef::from(stream))
    }

    /// Sets the options of an accepted socket of [`listen`], as far as it has not got them from there.
    pub fn apply_accepted(&self, stream: &TcpStream) -> io::Result<()> {
        if INHERITED {
            Ok(())
        } else {
            self.apply(stream)
        }
    }

    fn set(&self, socket: &Socket) -> io::Result<()> {
        if self.nodelay {
            socket.set_tcp_nodelay(true)?;
        }
        if let Some(keepalive) = self.keepalive {
            socket.set_tcp_keepalive(
                &TcpKeepalive::new()
                    .with_time(keepalive)
                    .with_interval(keepalive),
            )?;
        }
        if let Some(bytes) = self.send_buffer {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = self.recv_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        Ok(())
    }
}

/// Binds and listens at the first address of `endpoint` that can be had. With `shared`, [`listen_beside`] may listen there
/// too, and nobody else: a port that is used is an error as ever.
///
/// # Errors
/// The name does not resolve, the port is used or forbidden; names the endpoint. `shared` on a system where no port can
/// be.
pub async fn listen(
    endpoint: &Endpoint,
    options: &TcpOptions,
    shared: bool,
) -> Result<TcpListener, BindError> {
    let fail = |source| BindError {
        endpoint: endpoint.to_string(),
        source,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolve(endpoint).await.map_err(fail)? {
        match listen_at(address, options, options.reuse_port, shared) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(fail(last))
}

/// One more socket where `listener` listens, which was made shared: the system spreads the peers over them.
///
/// # Errors
/// The system has no more sockets, or cannot share a port.
pub fn listen_beside(listener: &TcpListener, options: &TcpOptions) -> io::Result<TcpListener> {
    listen_at(listener.local_addr()?, options, true, true)
}

/// Whether a socket shares its port is looked at when the next one is bound. So `shared` alone is set behind the bind:
/// who is there already is not shared with, whoever it is.
fn listen_at(
    address: SocketAddr,
    options: &TcpOptions,
    joins: bool,
    shared: bool,
) -> io::Result<TcpListener> {
    if (joins || shared) && cfg!(not(unix)) {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system spreads no peers over several sockets of a port",
        ));
    }
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A server that restarts must not wait for the old connections' TIME_WAIT. On Windows the same option would let
    // another process take the port over.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    if joins {
        socket.set_reuse_port(true)?;
    }
    if INHERITED {
        // Before `listen`, so that the window scale of accepted sockets allows for the receive buffer.
        options.set(&socket)?;
    } else if let Some(bytes) = options.recv_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    #[cfg(unix)]
    if shared {
        socket.set_reuse_port(true)?;
    }
    #[cfg(unix)]
    msgtrans_mempool::descriptors::reserve(std::os::fd::AsFd::as_fd(&socket));
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Connects to the first address of `endpoint` that answers, and sets the options.
///
/// # Errors
/// The name does not resolve, or the last address tried refused.
pub async fn dial(endpoint: &Endpoint, options: &TcpOptions) -> Result<TcpStream, ConnectError> {
    let addresses = resolve(endpoint)
        .await
        .map_err(|source| ConnectError::Resolve {
            host: endpoint.host().to_owned(),
            source,
        })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address)
            .await
            .and_then(|stream| options.apply(&stream).map(|()| stream))
        {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Io {
        endpoint: endpoint.to_string(),
        source: last,
    })
}

/// Every address of an endpoint's host and port.
///
/// # Errors
/// No port, or the name does not resolve.
pub async fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let authority = endpoint
        .authority()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Ok(lookup_host(authority).await?.collect())
}
