//! The limit: what one thread, one epoll and no library between make of the same frames; and raw tokio beside it.

mod fan_out;
mod inbox;
mod server;
mod tcp;
mod tokio_servers;
mod ws;

use clap::{Args, Parser, Subcommand};
use rustix::fd::OwnedFd;
use std::io;
use std::path::PathBuf;
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
    /// The same over a Unix socket
    Unix(UnixWork),
    /// The same frames inside WebSocket messages
    Ws(Greets<Work>),
    /// Frames over TCP: each message goes to every connection, one write for each
    Fan(Port),
    /// Raw tokio: read, write back what was read; no frames
    TokioRaw(Greets<Port>),
    /// tokio and Framed, one `send` per message
    TokioFramed(Port),
    /// tokio and Framed, `feed` per message and one `flush` per batch
    TokioFramedBatched(Port),
}

#[derive(Args)]
struct Role {
    /// Answer each message with itself
    #[arg(long, conflicts_with = "sink", required_unless_present = "sink")]
    echo: bool,
    /// Count one-way messages, answer each Request with the count (8 bytes, big-endian)
    #[arg(long)]
    sink: bool,
}

#[derive(Args)]
struct Greets<A: Args> {
    /// Answer a Hello, which is what a peer says first, with a Welcome
    #[arg(long)]
    greet: bool,
    #[command(flatten)]
    rest: A,
}

#[derive(Args)]
struct Work {
    #[command(flatten)]
    role: Role,
    #[command(flatten)]
    port: Port,
}

#[derive(Args)]
struct UnixWork {
    #[command(flatten)]
    role: Role,
    /// Where the socket is made
    path: PathBuf,
}

#[derive(Args)]
struct Port {
    /// 0 takes a free one
    port: u16,
}

fn frames(listener: OwnedFd, role: &Role) -> io::Result<()> {
    if role.sink {
        server::run(listener, tcp::Sink)
    } else {
        server::run(listener, tcp::Echo)
    }
}

fn main() -> ExitCode {
    bench_kit::process::raise_descriptor_limit();
    let ended = match Cli::parse().server {
        Kind::Tcp(Work { role, port }) => {
            server::tcp("tcp", port.port).and_then(|listener| frames(listener, &role))
        }
        Kind::Unix(UnixWork { role, path }) => {
            server::unix(&path).and_then(|listener| frames(listener, &role))
        }
        Kind::Ws(Greets { greet, rest }) => {
            server::tcp("ws", rest.port.port).and_then(|listener| {
                let sink = rest.role.sink;
                server::run(
                    listener,
                    ws::Ws {
                        sink,
                        greet,
                        sessions: 0,
                    },
                )
            })
        }
        Kind::Fan(Port { port }) => fan_out::run(port),
        Kind::TokioRaw(Greets { greet, rest }) => tokio_servers::raw(rest.port, greet),
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
