//! A peer that means harm: raw sockets, frames encoded by hand, everything from a seed.
//!
//! Nothing here uses the product's codec, so that a mistake of the codec cannot cancel itself out. [`Frame`] puts any
//! number into any field; [`hostile`] draws frames from a [`Seed`]; [`websocket`] does the same for the layer below;
//! [`storm`] sends them by the thousand over any number of connections and expects that each fatal one ends its
//! connection. [`Harness`] watches the server meanwhile and asserts what must hold after every attack.

mod frame;
mod harness;
pub mod hostile;
mod ledger;
mod process;
mod seed;
pub mod storm;
pub mod websocket;
mod wire;

pub use frame::{Frame, kind, tlv};
pub use harness::{BoxFuture, Canary, Gauge, Harness, Probe, Report};
pub use ledger::Ledger;
pub use process::{cpu_time, descriptors, memory_bytes, panics, watch_panics};
pub use seed::Seed;
pub use wire::{Wire, tcp_from};
