//! TCP, plain and under TLS, against the conformance suite, and its own options.

mod conformance;
mod cut;
mod options;
#[cfg(feature = "tls")]
mod tls;
