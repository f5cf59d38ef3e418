//! TCP against the conformance suite, and its own options.

mod conformance;
mod cut;
mod options;
