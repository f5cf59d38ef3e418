//! Conformance suites for MsgTrans protocols, and the peers that they are made of.
//!
//! A protocol proves itself with one call in its tests:
//!
//! ```no_run
//! # use msgtrans_testkit::{Capabilities, conformance};
//! # use msgtrans_transport::{Connector, Endpoint, ServerProtocol};
//! # async fn example(server: fn() -> Box<dyn ServerProtocol>, connector: fn(&Endpoint) -> Box<dyn Connector>) {
//! let report = conformance::seam(Capabilities::byte_stream(), server, connector).run().await;
//! assert!(report.passed(), "{report}");
//! # }
//! ```
//!
//! [`Capabilities`] say what the protocol claims; a case that needs more than that is skipped and says why. Every case
//! has a deadline, uses fresh listeners and connections, and never sleeps.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bell;
mod capabilities;
pub mod chaos;
pub mod conformance;
mod failure;
mod peer;
pub mod sessions;

pub use bell::Bell;
pub use capabilities::Capabilities;
pub use failure::Failure;
pub use peer::{Peer, accept};
