//! Two protocols of one's own, made of what msgtrans publishes and nothing else.
//!
//! | | what it is made from | what it shows |
//! |---|---|---|
//! | [`duplex`] | any `AsyncRead + AsyncWrite` | `StreamConnection` does everything; where streams come from is left |
//! | [`parcel`] | a pipe of messages | a `Connection` with a codec, compression and batches of its own |
//!
//! [`AppSchemes`] gives both their URLs beside the built-in ones. [`demo`] serves one handler on TCP and both. The tests
//! run both conformance suites over each. `docs/ADDING_A_PROTOCOL.md` walks through all of it.
#![forbid(unsafe_code)]

pub mod demo;
pub mod duplex;
mod names;
pub mod parcel;
mod schemes;

pub use duplex::DuplexConfig;
pub use parcel::ParcelConfig;
pub use schemes::{AppSchemes, TransportClient, TransportServer};
