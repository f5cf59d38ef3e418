//! [`Shortcut`] and [`Inlet`]: the ways past the two tasks of a session, where both ends are in one process.

use std::io;
use std::task::Waker;

use msgtrans_core::Packet;

/// The way from any task into the peer's queue, past the task of the session that sends.
///
/// A session gives it a packet only while its own task has nothing to write and nothing is queued for it, so that what
/// goes this way overtakes nothing.
pub trait Shortcut: Send + Sync {
    /// Leaves a packet that is fit for the wire with the peer, within the bounds of its queue, and wakes it. `counted`:
    /// [`sent`](Self::sent) tells of it; otherwise who calls counts.
    ///
    /// # Errors
    /// The packet comes back: no room, the connection ends, or the way is sealed.
    fn try_send(&self, packet: Packet, counted: bool) -> Result<(), Packet>;

    /// Nothing goes this way any more: what was taken before is in front of whatever the connection writes from here on.
    fn seal(&self);

    /// Packets and bytes that went this way so far and were to be counted.
    fn sent(&self) -> (u64, u64);
}

/// Where a connection may leave a plain packet while all that came before it has been handed to the session: the way
/// past the task of the session that receives.
pub trait Inlet: Send + Sync {
    /// Hands `packet` to whoever waits for it; returns whom to wake once the caller holds no lock. One call at a time.
    ///
    /// # Errors
    /// The packet comes back: it is for the session's task.
    fn deliver(&self, packet: Packet) -> Result<Option<Waker>, Packet>;

    /// Whether it may take a one-way message; always the same. Of the others it takes nothing but responses, so that
    /// what it would give back need not be handed to it.
    fn takes_messages(&self) -> bool;
}

/// The way onto a connection's socket for others than the session's task.
///
/// A session lets one writer at a time take it, and only while everything that it wrote itself has been taken by the
/// socket; what a write did not take is for the session to write next.
pub trait ByteWay: Send + Sync {
    /// Writes what the socket takes now.
    ///
    /// # Errors
    /// The socket's own; [`WouldBlock`](io::ErrorKind::WouldBlock) where it takes nothing.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}
