//! The limit: what one thread, one epoll and no library between make of the same frames; and raw tokio beside it.

mod fan_out;
mod inbox;
mod server;
mod tcp;
mod tokio_servers;
mod ws;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// Hand-written servers to measure against. Each prints `listening SCHEME://ADDRESS` once it accepts.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    server: Kind,
}

#[derive(Subcommand)]
enum Kind {
    /// Frames with a 16-byte header over TCP: whole frames are parsed, one write answers a batch
    Tcp(Work),
    /// The same frames inside WebSocket messages
    Ws(Work),
    /// Frames over TCP: each message goes to every connection, one write for each
    Fan(Port),
    /// Raw tokio: read, write back what was read; no frames
    TokioRaw(Port),
    /// tokio and Framed, one `send` per message
    TokioFramed(Port),
    /// tokio and Framed, `feed` per message and one `flush` per batch
    TokioFramedBatched(Port),
}

#[derive(Args)]
struct Work {
    /// Answer each message with itself
    #[arg(long, conflicts_with = "sink", required_unless_present = "sink")]
    echo: bool,
    /// Count one-way messages, answer each Request with the count (8 bytes, big-endian)
    #[arg(long)]
    sink: bool,
    #[command(flatten)]
    port: Port,
}

#[derive(Args)]
struct Port {
    /// 0 takes a free one
    port: u16,
}

fn main() -> ExitCode {
    bench_kit::process::raise_descriptor_limit();
    let ended = match Cli::parse().server {
        Kind::Tcp(Work {
            sink: false, port, ..
        }) => server::run("tcp", port.port, tcp::Echo),
        Kind::Tcp(Work {
            sink: true, port, ..
        }) => server::run("tcp", port.port, tcp::Sink),
        Kind::Ws(Work {
            sink: false, port, ..
        }) => server::run("ws", port.port, ws::Ws { sink: false }),
        Kind::Ws(Work {
            sink: true, port, ..
        }) => server::run("ws", port.port, ws::Ws { sink: true }),
        Kind::Fan(Port { port }) => fan_out::run(port),
        Kind::TokioRaw(Port { port }) => tokio_servers::raw(port),
        Kind::TokioFramed(Port { port }) => tokio_servers::framed(port, false),
        Kind::TokioFramedBatched(Port { port }) => tokio_servers::framed(port, true),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limit: {error}");
            ExitCode::FAILURE
        }
    }
}
