//! `msgtrans send`: one message, confirmed by the protocol.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::connect::{self, Target};
use crate::failure::Failure;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The message; `-` reads it from standard input
    text: String,
    /// The application's type of the message
    #[arg(long, value_name = "N", default_value_t = 0)]
    biz_type: u8,
    /// How long connecting, and then sending, may take
    #[arg(long, value_name = "SECONDS", value_parser = connect::seconds, default_value = "10")]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let url = &args.target.url;
    let packet = connect::packet(args.text, args.biz_type)?;
    let bytes = packet.payload.len();
    let client = args.target.connect(args.timeout).await?;
    let start = Instant::now();
    let sent = tokio::time::timeout(args.timeout, client.send_confirmed(packet)).await;
    let elapsed = start.elapsed();
    let result = match sent {
        Ok(sent) => sent.map_err(|error| Failure::at(url, error)),
        Err(_) => Err(Failure::failed(format!(
            "{url}: the message was not confirmed within {:?}",
            args.timeout
        ))
        .hint("the server may not read; --timeout SECONDS waits longer")),
    };
    // Says Goodbye, so that the server does not take the end for a lost connection. Nothing of it can fail the send.
    let _ = tokio::time::timeout(connect::TIMEOUT, client.disconnect()).await;
    result?;
    if output.is_json() {
        output.object(&json!({
            "event": "sent",
            "url": url.to_string(),
            "bytes": bytes,
            "elapsed_us": elapsed.as_micros() as u64,
        }))?;
    }
    Ok(())
}
