//! `msgtrans request`: one request, its response on standard output.

use std::time::{Duration, Instant};

use msgtrans::Packet;
use serde_json::json;

use crate::connect::{self, Target};
use crate::failure::Failure;
use crate::output::{Output, packet_object};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// The request; `-` reads it from standard input
    text: String,
    /// The application's type of the request
    #[arg(long, value_name = "N", default_value_t = 0)]
    biz_type: u8,
    /// How long connecting, and then the response, may take
    #[arg(long, value_name = "SECONDS", value_parser = connect::seconds, default_value = "10")]
    timeout: Duration,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let url = &args.target.url;
    let packet = connect::packet(args.text, args.biz_type)?;
    let client = args.target.connect(args.timeout).await?;
    let start = Instant::now();
    let response = client.request_with(packet, args.timeout).await;
    let elapsed = start.elapsed();
    let response = response.map_err(|error| Failure::at(url, error))?;
    let printed = print(&response, elapsed, output);
    connect::leave(&client).await;
    printed
}

fn print(response: &Packet, elapsed: Duration, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        let mut object = packet_object(response);
        object["event"] = json!("response");
        object["elapsed_us"] = json!(elapsed.as_micros() as u64);
        output.object(&object)?;
    } else {
        output.payload(&response.payload)?;
    }
    Ok(())
}
