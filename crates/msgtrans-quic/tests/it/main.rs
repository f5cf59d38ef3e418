//! QUIC over real loopback sockets: handshakes, packets, ends, and version 1 byte by byte.

mod closing;
mod config;
mod confirmation;
mod conformance;
mod datagrams;
mod end;
mod handshake;
mod preset;
mod relay;
mod transfer;
mod version1;
