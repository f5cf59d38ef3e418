//! Both protocols against the conformance suite, through the facade, and as the documentation shows them.

mod conformance;
mod documentation;
mod facade;
mod names;
mod parcels;
