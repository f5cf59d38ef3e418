//! The fuzz targets as plain functions: bytes in, a panic on a broken promise.
//!
//! `fuzz/` links each to libFuzzer; the tests of this crate run them over the committed corpus on a stable compiler.
//! Most compare the code with a second, slower reading of the same bytes: another split, or a model written from the
//! specification. A target that merely waited for a panic would miss a wrong answer.
#![forbid(unsafe_code)]

#[cfg(feature = "session")]
mod compression;
#[cfg(feature = "transport")]
mod endpoints;
mod fields;
mod frames;
mod input;
#[cfg(feature = "session")]
mod requests;
#[cfg(feature = "quic")]
mod streams;
#[cfg(feature = "websocket")]
mod upgrade;
mod versions;
#[cfg(feature = "websocket")]
mod websocket;

/// A fuzz target: its name, and what it does with one input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name of the target, of its corpus and of its program.
    pub name: &'static str,
    /// Runs one input.
    ///
    /// # Panics
    /// The code under test broke a promise.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("header", frames::header),
    target("decode", frames::decode),
    target("versions", versions::versions),
    target("control", fields::control),
    target("meta", fields::meta),
    #[cfg(feature = "session")]
    target("zstd", compression::zstd),
    #[cfg(feature = "session")]
    target("zlib", compression::zlib),
    #[cfg(feature = "websocket")]
    target("ws_frame", websocket::frame),
    #[cfg(feature = "websocket")]
    target("ws_message", websocket::message),
    #[cfg(feature = "websocket")]
    target("upgrade_server", upgrade::server),
    #[cfg(feature = "websocket")]
    target("upgrade_client", upgrade::client),
    #[cfg(feature = "quic")]
    target("quic_stream", streams::quic_stream),
    #[cfg(feature = "session")]
    target("requests", requests::requests),
    #[cfg(feature = "transport")]
    target("endpoint", endpoints::endpoint),
    #[cfg(feature = "config")]
    target("config", endpoints::config),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// Runs one input of the target called `name`.
///
/// # Panics
/// There is no such target, or the code under test broke a promise.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").run)(bytes);
}
