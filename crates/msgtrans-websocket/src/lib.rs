//! MsgTrans over WebSocket, with a frame codec of its own.

pub mod frame;
pub mod handshake;
pub mod mask;
pub mod message;
mod utf8;
