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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::UdpSocket;

    use quinn::udp::BATCH_SIZE;

    use super::*;

    const LEN: usize = 100;

    fn pair() -> (UdpSocket, Udp) {
        let bound = || UdpSocket::bind("127.0.0.1:0").expect("binds");
        let (sender, receiver) = (bound(), bound());
        sender
            .connect(receiver.local_addr().expect("bound"))
            .expect("connects");
        receiver.set_nonblocking(true).expect("a socket");
        (sender, Udp::new(receiver).expect("a socket"))
    }

    /// Bytes of one read; `None` where there is nothing yet.
    fn read(udp: &Udp, cx: &mut Context<'_>) -> Option<usize> {
        let mut memory = vec![vec![0; 65_536]; BATCH_SIZE];
        let mut buffers: Vec<IoSliceMut<'_>> =
            memory.iter_mut().map(|m| IoSliceMut::new(m)).collect();
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        match udp.poll_recv(cx, &mut buffers, &mut meta) {
            Poll::Pending => None,
            Poll::Ready(count) => {
                let read = meta.iter().take(count.expect("a read"));
                Some(read.map(|meta| meta.len).sum())
            }
        }
    }

    async fn received(udp: &Udp) -> usize {
        poll_fn(|cx| read(udp, cx).map_or(Poll::Pending, Poll::Ready)).await
    }

    #[tokio::test]
    async fn what_comes_after_a_read_that_was_not_filled_is_noticed() {
        let (sender, udp) = pair();
        for _ in 0..50 {
            sender.send(&[7; LEN]).expect("sent");
            assert_eq!(received(&udp).await, LEN);
        }
        assert!(poll_fn(|cx| Poll::Ready(read(&udp, cx))).await.is_none());
    }

    #[tokio::test]
    async fn more_than_fits_one_read_is_read_to_its_end() {
        let (sender, udp) = pair();
        let sent = 3 * BATCH_SIZE + 5;
        for _ in 0..sent {
            sender.send(&[7; LEN]).expect("sent");
        }
        let mut bytes = 0;
        while bytes < sent * LEN {
            bytes += received(&udp).await;
        }
        assert_eq!(bytes, sent * LEN);
    }
}
