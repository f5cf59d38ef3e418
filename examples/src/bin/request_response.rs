//! `cargo run -p examples --bin request_response`: a server and a client in one program, asking each other.
#![expect(clippy::print_stdout, reason = "examples talk to their terminal")]

use examples::{Outcome, endpoint_or, request_response};

#[tokio::main]
async fn main() -> Outcome {
    let server = request_response::start(&endpoint_or("tcp://127.0.0.1:0")).await?;
    for endpoint in server.local_endpoints() {
        let client = request_response::connect(&endpoint.to_string(), "Ada").await?;
        for answer in request_response::ask(&client).await? {
            println!("{answer}");
        }
        client.disconnect().await?;
    }
    server.shutdown().await;
    Ok(())
}
