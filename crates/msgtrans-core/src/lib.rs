//! What a packet is: [`Packet`], its codec, identifiers, limits and errors.
//!
//! This crate does no I/O, reads no clock, runs nothing asynchronously and holds no unsafe code. Everything above
//! it speaks in these types; `docs/WIRE_FORMAT.md` is the law of the bytes that [`codec`] reads and writes.
//!
//! ```
//! use msgtrans_core::{Decoder, Limits, OutBuffer, Packet, PacketBatch, WireVersion, WireVersions, encode};
//! use bytes::{Buf, Bytes};
//!
//! let mut out = OutBuffer::new();
//! encode(&Packet::text("hello").with_message_id(7), WireVersion::V2, &mut out)?;
//! let bytes = Bytes::copy_from_slice(out.chunk());
//!
//! let mut decoder = Decoder::new(WireVersions::V2, Limits::default());
//! decoder.set_wire(WireVersion::V2, Limits::default());
//! let mut batch = PacketBatch::new();
//! decoder.push(bytes);
//! decoder.decode(usize::MAX, &mut batch)?;
//! assert_eq!(batch.pop().expect("one packet").payload_as_string().as_deref(), Some("hello"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! - `serde`: typed payloads as JSON, [`Packet::json`](Packet#method.json) and
//!   [`Packet::payload_as_json`](Packet#method.payload_as_json).
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod close_reason;
pub mod codec;
mod connection_info;
mod control;
mod decoder;
mod error;
mod ext_header;
mod header;
#[cfg(feature = "serde")]
mod json;
mod limits;
mod meta;
mod out_buffer;
mod packet;
mod packet_batch;
mod plain;
mod session_id;
mod tlv;

pub use close_reason::{CloseReason, Code, Initiator};
pub use codec::{encode, encoded_len};
pub use connection_info::{ConnectionInfo, PeerAddress};
pub use control::{Features, Goodbye, Hello, Resume, Welcome};
pub use decoder::{Decoded, Decoder, MakeRoom, ReadTarget};
pub use error::{
    BindError, ConfigError, ConnectError, DecodeError, EncodeError, HandlerError, RequestError,
    SendError, SendErrorKind, Severity, TransportError,
};
pub use ext_header::ExtHeader;
pub use header::{HEADER_LEN, Header, WireVersion, WireVersions};
pub use limits::Limits;
pub use meta::Meta;
pub use out_buffer::{OutBuffer, SHARED_PAYLOAD_MIN};
pub use packet::{Compression, Flags, Packet, PacketType};
pub use packet_batch::PacketBatch;
pub use plain::PlainHeader;
pub use session_id::SessionId;
