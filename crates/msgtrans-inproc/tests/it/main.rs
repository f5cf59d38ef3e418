//! In-process connections against the conformance suite, and what is their own.

mod conformance;
mod names;
mod queue;
