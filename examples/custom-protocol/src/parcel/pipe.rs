//! [`Pipe`]: what stands for the pipe of messages, and the one file that another pipe replaces.

use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use msgtrans_transport::BoxFuture;
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{self, OwnedPermit};

/// Messages on the way in one direction; the writer waits beyond it. At 64 KiB each, 1 MiB.
const MESSAGES_MAX: usize = 16;

/// One end. Messages arrive whole and in order; those on the way survive the sender.
pub(super) struct Pipe {
    outgoing: mpsc::Sender<Bytes>,
    incoming: mpsc::Receiver<Bytes>,
    /// The wait for room, which lives from poll to poll so that it keeps its place and its waker.
    room: Option<BoxFuture<'static, Result<OwnedPermit<Bytes>, SendError<()>>>>,
}

/// Room for one message.
pub(super) struct Room(OwnedPermit<Bytes>);

impl Pipe {
    /// Both ends.
    pub(super) fn pair() -> (Self, Self) {
        let (there, theirs) = mpsc::channel(MESSAGES_MAX);
        let (back, ours) = mpsc::channel(MESSAGES_MAX);
        let end = |outgoing, incoming| Self {
            outgoing,
            incoming,
            room: None,
        };
        (end(there, ours), end(back, theirs))
    }

    /// Waits for room. Fails once the other end is gone.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Room>> {
        let outgoing = &self.outgoing;
        let room = self
            .room
            .get_or_insert_with(|| Box::pin(outgoing.clone().reserve_owned()));
        let room = ready!(room.as_mut().poll(cx));
        self.room = None;
        Poll::Ready(match room {
            Ok(permit) => Ok(Room(permit)),
            Err(_) => Err(io::ErrorKind::BrokenPipe.into()),
        })
    }

    /// The next message; `None` when the other end is gone and everything has been read.
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.incoming.poll_recv(cx)
    }
}

impl Room {
    /// Sends a message.
    pub(super) fn send(self, message: Bytes) {
        self.0.send(message);
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}
