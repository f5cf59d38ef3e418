//! What a connection becomes once it has an identity.
//!
//! A session is one task: handshake, lanes, requests, compression, heartbeat, closing. [`Session`] is its cheap handle,
//! [`Handler`] the user's code inside it. Servers and clients build on [`accept`] and [`connect`].
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod actor;
mod arriving;
mod closures;
mod compress;
mod config;
mod direct;
mod events;
mod handler;
mod middleware;
mod opening;
mod pass;
mod rate_limit;
mod rejections;
mod request;
mod runtime;
mod service;
mod session;
mod stats;
mod turn;

pub use actor::{Accepted, SessionActor, SessionTask, accept, connect};
pub use arriving::Arriving;
pub use closures::{MessageFn, RequestFn};
pub use compress::CompressionConfig;
pub use config::SessionConfig;
pub use events::{EventSink, EventStream, Responder, TransportEvent};
pub use handler::{ConnectRequest, Handler, Refusal};
pub use middleware::{LoggingMiddleware, Middleware};
pub use msgtrans_core::{CloseReason, Code, HandlerError, Packet, SessionId};
pub use opening::OpenError;
pub use pass::in_handler;
pub use rate_limit::{RateLimiter, RateLimiterConfig};
pub use rejections::{Rejection, Rejections};
pub use request::RequestFuture;
pub use runtime::{Handlers, SessionHooks, SessionRuntime};
pub use service::{BoxFuture, LaneFuture, Service, service};
pub use session::{Session, held_bytes, ring_when_held};
pub use stats::{LatencyStats, RuntimeStats, SessionStats, TransportStats};
pub use turn::Moment;

/// Parts that fuzzers reach without a session around them. Not part of the interface.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::compress::{compress, decompress};
    pub use crate::request::RequestTable;
}
