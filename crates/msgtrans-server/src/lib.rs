//! Many sessions behind one handler: listeners, admission, broadcast, drain.
//!
//! [`TransportServer`] listens on any number of protocols at once and runs the same code behind all of them. It knows
//! no protocol: configurations come through [`Schemes`](msgtrans_transport::Schemes) and typed configs.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod accept;
mod admission;
mod broadcast;
mod builder;
mod control;
mod cores;
mod listening;
mod memory;
mod server;
mod shutdown;

pub use broadcast::BroadcastReport;
pub use builder::TransportServerBuilder;
pub use control::ProcessStats;
pub use cores::ThreadPerCore;
pub use server::{ListenerStats, Registered, TransportServer};
pub use shutdown::ShutdownReport;
