//! One resilient session: connect, request, reconnect.
//!
//! A [`TransportClient`] dials one endpoint and keeps one [`Session`](msgtrans_session::Session) there. A session that
//! the network takes is dialled again with full jitter; nothing is buffered meanwhile: what is sent without a session
//! fails at once and gives the packet back.
//!
//! From [`connect`](TransportClient::connect) to the end is a *run*. It ends with
//! [`disconnect`](TransportClient::disconnect), with the last handle, or when the server ends the session for good; its
//! event stream ends with it, and another `connect` begins another run.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod builder;
mod client;
mod dial;
mod inner;
mod supervisor;

pub use backoff::{ReconnectConfig, RetryConfig};
pub use builder::TransportClientBuilder;
pub use client::{Registered, TransportClient};
