//! Conformance suites for MsgTrans protocols, and the peers that they are made of.
//!
//! A protocol proves itself with two calls in its tests: one for its connections, one for what sessions do over them.
//!
//! ```no_run
//! # use msgtrans::BuiltIn as AppSchemes;
//! # use msgtrans_testkit::{Capabilities, conformance};
//! # use msgtrans_transport::{Connector, Endpoint, ServerProtocol};
//! # async fn example(server: fn() -> Box<dyn ServerProtocol>, connector: fn(&Endpoint) -> Box<dyn Connector>) {
//! let can = Capabilities::byte_stream();
//! conformance::seam(can, server, connector).run().await.expect_passed();
//!
//! let listen = || "tcp://127.0.0.1:0".to_owned();
//! conformance::facade::<AppSchemes>(can, listen).run().await.expect_passed();
//! # }
//! ```
//!
//! [`Capabilities`] say what the protocol claims; a case that needs more than that is skipped and says why. Every case
//! has a deadline and uses fresh listeners and connections. [`sessions`] has what tests of one's own need beside them.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod adversary;
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
