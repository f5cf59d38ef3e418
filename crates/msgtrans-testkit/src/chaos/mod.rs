//! Bad networks in a test: proxies between a client and a server that delay, slice, cut, lose and reorder.
//!
//! [`StreamProxy`] stands in front of a TCP server (so of tcp, tls, ws and wss), [`DatagramProxy`] in front of a UDP
//! one (so of quic). A client dials the proxy's address instead of the server's. Each direction has faults of its own,
//! [`StreamFaults`] or [`DatagramFaults`], which begin as none and may be changed at any time; what is on its way keeps
//! the delay that it was given.
//!
//! ```
//! use msgtrans_testkit::chaos::{Direction, End, StreamFaults, StreamProxy};
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let server = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let proxy = StreamProxy::start(server.local_addr()?, 1).await?;
//! // Every write is of 1 to 7 bytes, and byte 1000 towards the server never arrives.
//! proxy.change(Direction::Both, |faults| faults.slice_bytes_max = 7.try_into().ok());
//! proxy.change(Direction::ToServer, |faults| faults.end_at = Some((1_000, End::Reset)));
//! // A good network again.
//! proxy.set(Direction::Both, StreamFaults::default());
//! # std::io::Result::Ok(()) })?;
//! # std::io::Result::Ok(())
//! ```
//!
//! What is random is drawn from the seed, for each connection and direction its own sequence: the same seed and the
//! same reads meet the same faults. Sockets and schedulers still have a will of their own.
//!
//! # Cost
//! A proxy holds at most [`HELD_BYTES_MAX`] in each direction of a connection, and has one task a connection.

mod datagram;
mod delay_line;
mod faults;
mod random;
mod stream;

pub use datagram::{DatagramProxy, DatagramStats};
pub use faults::{DatagramFaults, Direction, End, StreamFaults};
pub use random::Random;
pub use stream::{StreamProxy, StreamStats};

/// Bytes that a proxy keeps in one direction of a connection. A stream is not read while it holds as many, which its
/// sender feels; a datagram that does not fit is dropped, as by a router.
pub const HELD_BYTES_MAX: usize = 256 * 1024;

/// What keeping a piece costs beside its bytes, so that tiny ones are bounded too.
const OVERHEAD_BYTES: usize = 64;
