//! `cargo run -p examples --bin chat [URL]`: joins the chat; what is typed is said, an empty end of input leaves.
#![expect(clippy::print_stdout, reason = "examples talk to their terminal")]

use examples::{Outcome, chat, endpoint_or};
use msgtrans::Packet;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[tokio::main]
async fn main() -> Outcome {
    let (client, mut events) = chat::join(&endpoint_or("ws://127.0.0.1:8090")).await?;
    let mut typed = BufReader::new(stdin()).lines();
    loop {
        tokio::select! {
            line = chat::next_line(&mut events) => match line {
                Some(line) => println!("{line}"),
                None => break,
            },
            line = typed.next_line() => match line? {
                Some(line) => {
                    // Without a session nothing is kept for later: the packet comes back with the error.
                    if let Err(error) = client.send(Packet::text(line)).await {
                        println!("* not said: {error}");
                    }
                }
                None => break,
            },
        }
    }
    client.disconnect().await?;
    Ok(())
}
