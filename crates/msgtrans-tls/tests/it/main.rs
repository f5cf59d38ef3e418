//! TLS between two connections in memory: who is believed, who is refused, and why.

mod alpn;
mod auth;
mod authority;
mod development;
mod files;
mod pump;
mod reload;
mod resumption;
mod trust;
mod versions;
