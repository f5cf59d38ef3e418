//! `msgtrans demo`: one server on every protocol, one handler, a client over each; checked and measured.

mod report;
mod steps;

use std::time::Duration;

use msgtrans::tls::{Identity, ServerTls};
use msgtrans::{
    Endpoint, QuicServerConfig, TcpServerConfig, TransportServer, WebSocketServerConfig,
};
use tokio::time::{Instant, timeout};

use self::report::{Report, Row};
use self::steps::{Lane, StepError, broadcast};
use crate::failure::Failure;
use crate::output::Output;
use crate::serve::Echo;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// All of it, whatever hangs; the promise is 15 s, with starting and stopping.
const TIME: Duration = Duration::from_secs(12);

pub(crate) async fn run(_: Args, output: &Output) -> Result<(), Failure> {
    let deadline = Instant::now() + TIME;
    let (server, endpoints) = start().await?;
    let mut report = Report::default();
    let mut lanes = Vec::new();
    for endpoint in endpoints {
        output.progress(&format!("{}: connect", endpoint.scheme()));
        let row = Row::new(&endpoint);
        match Lane::connect(endpoint, deadline).await {
            Ok(lane) => lanes.push((lane, row)),
            Err(error) => report.fail(row, error),
        }
    }
    let mut verified = Vec::new();
    for (mut lane, mut row) in lanes {
        match measure(&mut lane, &mut row, &server, deadline, output).await {
            Ok(()) => verified.push((lane, row)),
            Err(error) => report.fail(row, error),
        }
    }
    // Last and over all at once: that is what a broadcast is.
    output.progress("broadcast");
    let mut lanes: Vec<_> = verified.iter_mut().map(|(lane, _)| lane).collect();
    let failed = broadcast(&server, &mut lanes, deadline).await;
    for ((lane, row), outcome) in verified.into_iter().zip(failed) {
        match outcome {
            Ok(()) => report.pass(row),
            Err(error) => report.fail(row, error),
        }
        let _ = timeout(Duration::from_secs(1), lane.client.disconnect()).await;
    }
    let _ = timeout(Duration::from_secs(1), server.shutdown()).await;
    output.progress("");
    report.print(output)
}

/// The server, and where its clients find it.
async fn start() -> Result<(TransportServer, Vec<Endpoint>), Failure> {
    let identity = Identity::development().map_err(Failure::failed)?;
    let pin = identity.spki_pin();
    let tls = ServerTls::new(identity.clone());
    let builder = TransportServer::builder()
        .with_protocol("tcp://127.0.0.1:0")
        .with_protocol(TcpServerConfig::new("127.0.0.1:0").tls(tls.clone()))
        .with_protocol("ws://127.0.0.1:0")
        .with_protocol(WebSocketServerConfig::new("127.0.0.1:0").tls(tls))
        .with_protocol(QuicServerConfig::new("127.0.0.1:0").with_identity(identity));
    #[cfg(unix)]
    let builder = builder.with_protocol(msgtrans::UnixServerConfig::new(socket_path()));
    let server = builder
        .with_protocol("inproc://msgtrans-demo")
        .with_handler(Echo)
        .graceful_shutdown(Duration::from_secs(1))
        .build()
        .await
        .map_err(Failure::of)?;
    server.start().map_err(Failure::of)?;
    let known = |endpoint: Endpoint| match endpoint.scheme() {
        // The client knows the server by its key, as it should.
        "tls" | "wss" | "quic" => endpoint.with_option("pin", pin),
        _ => endpoint,
    };
    let endpoints = server.local_endpoints().into_iter().map(known).collect();
    Ok((server, endpoints))
}

/// A name of this process alone; the listener removes the file when it ends.
#[cfg(unix)]
fn socket_path() -> String {
    let name = format!("msgtrans-demo-{}.sock", std::process::id());
    std::env::temp_dir().join(name).display().to_string()
}

/// Everything that one protocol does by itself.
async fn measure(
    lane: &mut Lane,
    row: &mut Row,
    server: &TransportServer,
    deadline: Instant,
    output: &Output,
) -> Result<(), StepError> {
    let show = |step| output.progress(&format!("{}: {step}", row.protocol));
    show("echo");
    row.echo = lane.echo(deadline).await?;
    show("request/response");
    row.round_trips = lane.round_trips(deadline).await?;
    lane.concurrent_requests(deadline).await?;
    show("server push");
    lane.push(server, deadline).await
}
