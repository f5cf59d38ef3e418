//! A client against a server made by hand: in process with paused time, and over real sockets.

mod broken_writes;
mod connecting;
mod direct;
mod ending;
mod packets;
mod reconnecting;
mod settings;
mod support;
mod wire;
