//! Bad networks: what sessions make of resets, silence, slices, loss and narrow paths.

mod path;

mod delivery;
mod resets;
mod silence;
mod slow_consumer;
