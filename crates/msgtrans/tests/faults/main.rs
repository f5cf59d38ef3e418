//! The faults of the published crate, each shown not to be ours. See docs/FAULTS.md, which also names those of these
//! tests that live with the code they are about.

mod bounds;
mod defaults;
mod delivery;
mod settings;
mod support;
