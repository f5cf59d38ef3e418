//! [`Udp`]: the UDP socket under quinn's endpoint, with no system call that finds nothing.
//!
//! quinn's own reads until there is nothing left, so that a wake-up costs two reads where one has brought everything.
//! Here a read that was not filled is the last one, because the kernel would have given more.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit, UdpSocketState};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::io::Interest;

#[derive(Debug)]
pub(crate) struct Udp {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
}

impl Udp {
    /// Inside a runtime alone.
    pub(crate) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        Ok(Self {
            state: UdpSocketState::new((&socket).into())?,
            io: tokio::net::UdpSocket::from_std(socket)?,
        })
    }
}

impl AsyncUdpSocket for Udp {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable {
            socket: self,
            waiting: None,
        })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.io.try_io(Interest::WRITABLE, || {
            self.state.send((&self.io).into(), transmit)
        })
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            let mut filled = 0;
            // Both at once: what comes after this read is a new event, which is not forgotten with the old one.
            let tried = self.io.try_io(Interest::READABLE, || {
                filled = self.state.recv((&self.io).into(), buffers, meta)?;
                if filled < buffers.len() {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            // Errors of a UDP socket are those of one datagram, and gone once they were told: quinn's reads on too.
            if filled > 0 || tried.is_ok() {
                return Poll::Ready(Ok(filled));
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    fn max_transmit_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.state.gro_segments()
    }
}

/// One connection's wait for room in the socket's buffer. There nearly always is, and then it is asked for by a look.
struct Writable {
    socket: Arc<Udp>,
    waiting: Option<Wait>,
}

type Wait = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

impl UdpPoller for Writable {
    fn poll_writable(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            if this.socket.io.try_io(Interest::WRITABLE, || Ok(())).is_ok() {
                return Poll::Ready(Ok(()));
            }
            let socket = this.socket.clone();
            this.waiting = Some(Box::pin(async move { socket.io.writable().await }));
        }
        if let Some(waiting) = &mut this.waiting {
            let writable = ready!(waiting.as_mut().poll(cx));
            this.waiting = None;
            return Poll::Ready(writable);
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writable")
    }
}
