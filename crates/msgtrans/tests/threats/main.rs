//! The threat table, row by row, over real sockets; after every row the invariants hold. See docs/THREAT_MODEL.md.

mod application;
mod compression;
mod crowd;
mod dawdle;
mod frames;
mod handshake;
mod logs;
mod memory;
mod process;
mod quic;
mod stage;
mod storm;
mod upgrade;
