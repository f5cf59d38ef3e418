//! `cargo run -p examples --bin many_protocols`: one handler, four protocols, a client over each.
#![expect(clippy::print_stdout, reason = "examples talk to their terminal")]

use examples::{Outcome, many_protocols};

#[tokio::main]
async fn main() -> Outcome {
    let (server, urls) = many_protocols::start("many-protocols").await?;
    for url in &urls {
        println!("{url}\n    {}", many_protocols::ask(url, "Ada").await?);
    }
    server.shutdown().await;
    Ok(())
}
