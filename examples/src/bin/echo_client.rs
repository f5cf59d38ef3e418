//! `cargo run -p examples --bin echo_client [URL]`: sends a message and prints what comes back.
#![expect(clippy::print_stdout, reason = "examples talk to their terminal")]

use examples::{Outcome, echo_client, endpoint_or};

#[tokio::main]
async fn main() -> Outcome {
    let client = echo_client::client(&endpoint_or("tcp://localhost:8080")).await?;
    match echo_client::echo(&client, "Hello").await? {
        Some(answer) => println!("{answer}"),
        None => println!("no answer"),
    }
    Ok(())
}
