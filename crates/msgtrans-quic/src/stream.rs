//! [`Streams`]: the one bidirectional stream of a connection, also before it exists.
// A peer's bytes pass here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use quinn::{Connection, ConnectionError, RecvStream, SendStream};

/// Both directions of the stream.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

/// The stream, or the wait for it: a version 1 client shows its stream only once it writes.
#[derive(Debug)]
pub(crate) enum Streams {
    /// There it is.
    Open(Pair),
    /// The peer has not used it yet.
    Opening(Box<Opening>),
    /// The connection was lost before.
    Lost(ConnectionError),
}

/// Who asks for the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Reader,
    Writer,
}

type Accept = dyn Future<Output = Result<(SendStream, RecvStream), ConnectionError>> + Send;

pub(crate) struct Opening {
    accept: Pin<Box<Accept>>,
    /// The future keeps the last waker alone, but reader and writer wait independently.
    waiting: [Option<Waker>; 2],
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opening")
    }
}

impl Streams {
    /// The stream that the peer has opened or will open.
    pub(crate) fn accept(connection: &Connection) -> Self {
        let connection = connection.clone();
        Self::Opening(Box::new(Opening {
            accept: Box::pin(async move { connection.accept_bi().await }),
            waiting: [None, None],
        }))
    }

    /// Both directions, once they exist.
    pub(crate) fn poll_open(
        &mut self,
        cx: &mut Context<'_>,
        side: Side,
    ) -> Poll<Result<&mut Pair, ConnectionError>> {
        if let Self::Opening(opening) = self {
            let opened = match opening.accept.as_mut().poll(cx) {
                Poll::Ready(opened) => opened,
                Poll::Pending => {
                    let [reader, writer] = &mut opening.waiting;
                    let waiting = match side {
                        Side::Reader => reader,
                        Side::Writer => writer,
                    };
                    *waiting = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            };
            let waiting = std::mem::take(&mut opening.waiting);
            *self = match opened {
                Ok((send, recv)) => Self::Open(Pair { send, recv }),
                Err(error) => Self::Lost(error),
            };
            for waker in waiting.into_iter().flatten() {
                waker.wake();
            }
        }
        match self {
            Self::Open(pair) => Poll::Ready(Ok(pair)),
            Self::Opening(_) => Poll::Pending,
            Self::Lost(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

/// The future that says when the peer has everything that was written to a finished stream.
pub(crate) struct Delivered(Pin<Box<dyn Future<Output = ()> + Send>>);

impl Delivered {
    /// Finishes the stream.
    pub(crate) fn after(send: &mut SendStream) -> Self {
        // An error says that it was finished or stopped before, and the wait below ends at once.
        let _ = send.finish();
        let stopped = send.stopped();
        Self(Box::pin(async move {
            // Acknowledged, stopped by the peer or lost with the connection: nothing more can be done.
            let _ = stopped.await;
        }))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.0.as_mut().poll(cx));
        Poll::Ready(())
    }
}

impl std::fmt::Debug for Delivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Delivered")
    }
}
