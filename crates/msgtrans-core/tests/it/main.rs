//! The wire format as outsiders meet it: golden frames, any split of any stream, hostile headers, errors.

mod errors;
mod golden;
mod headers;
#[cfg(feature = "serde")]
mod json;
mod packets;
mod splits;
