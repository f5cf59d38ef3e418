//! What the example programs do, as functions that take their endpoints, so that tests run them on free ports.
//!
//! Each program in `src/bin/` is its module here with fixed addresses and a terminal. Read them in the order of
//! `README.md`.
#![expect(clippy::print_stdout, reason = "examples talk to their terminal")]

pub mod chat;
pub mod echo_client;
pub mod echo_server;
pub mod many_protocols;
pub mod request_response;

use msgtrans::TransportServer;

/// What `main` returns: whatever went wrong.
pub type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The first argument of the program, or `default`: where to listen or dial.
pub fn endpoint_or(default: &str) -> String {
    std::env::args()
        .nth(1)
        .unwrap_or_else(|| default.to_owned())
}

/// Shuts `server` down on Ctrl-C: peers are told, work at hand is finished, and `serve` returns.
pub fn stop_on_ctrl_c(server: &TransportServer) {
    let server = server.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            server.shutdown().await;
        }
    });
}

/// Shows what is being listened on; a port 0 has become the one that was given.
pub fn announce(server: &TransportServer) {
    for endpoint in server.local_endpoints() {
        println!("listening {endpoint}");
    }
}
