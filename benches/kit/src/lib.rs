//! What the load, the limit servers and the harness share: frame layout, WebSocket layer, buffers, process figures.

pub mod buffer;
pub mod frame;
pub mod listen;
pub mod process;
pub mod websocket;
