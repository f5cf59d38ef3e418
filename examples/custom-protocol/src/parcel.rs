//! `parcel://name`: a protocol of messages, with a codec, compression and batches of its own.
//!
//! Below is a pipe whose messages arrive whole, in order and bounded in number, as a broker, a shared-memory ring or a
//! radio gives it. Nothing of the built-in wire format is used:
//!
//! | file | what |
//! |---|---|
//! | `codec.rs` | a packet's head as varints, 4 to 11 bytes for a plain one instead of 16 |
//! | `runs.rs` | run-length compression of whole batches |
//! | `packer.rs` | packets → messages: many small ones in one, a large one in many |
//! | `unpacker.rs` | messages → packets, every length checked before memory is given |
//! | `connection.rs` | the seam: polls, backpressure, confirmations, progress, close |
//! | `pipe.rs` | stands for the pipe |
//!
//! # Messages
//! At most 65 536 bytes each. The first byte says what it is:
//!
//! | | message | then |
//! |---|---|---|
//! | 0 | the end: nothing more will come | nothing |
//! | 1 | a batch | whole frames, back to back |
//! | 2 | a packed batch | its length as a varint, then its runs |
//! | 3 | a large packet | its head; the messages that follow are its body and nothing else, until it is complete |
//!
//! A large body goes unpacked and without a copy, as slices of the packet's own memory: the session compresses large
//! payloads already, where it is told to.

mod codec;
mod config;
mod connection;
mod listener;
mod packer;
mod pipe;
mod runs;
mod unpacker;

pub use config::ParcelConfig;

/// The URL scheme of this protocol.
pub const SCHEME: &str = "parcel";

/// No message is larger, whatever the sender's configuration says.
const MESSAGE_BYTES_MAX: usize = 65_536;

/// The first byte of a message.
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const BATCH: u8 = 1;
    pub(super) const PACKED: u8 = 2;
    pub(super) const LARGE: u8 = 3;
}

#[cfg(test)]
mod tests;
