//! Both protocols against the conformance suites, as the documentation shows them, and in use.

mod conformance;
mod demo;
mod documentation;
mod names;
mod parcels;
