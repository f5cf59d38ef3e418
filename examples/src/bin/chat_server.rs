//! `cargo run -p examples --bin chat_server [URL]`: a chat room until Ctrl-C.

use examples::{Outcome, announce, chat, endpoint_or};

#[tokio::main]
async fn main() -> Outcome {
    let server = chat::start(&endpoint_or("ws://127.0.0.1:8090")).await?;
    announce(&server);
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
