//! `cargo run -p examples --bin echo_server`: echoes messages over TCP, WebSocket and QUIC until Ctrl-C.

use examples::{Outcome, announce, echo_server, stop_on_ctrl_c};

#[tokio::main]
async fn main() -> Outcome {
    let server = echo_server::build("0.0.0.0:8080", "0.0.0.0:8081", "0.0.0.0:8082").await?;
    announce(&server);
    stop_on_ctrl_c(&server);
    echo_server::serve(&server).await?;
    Ok(())
}
