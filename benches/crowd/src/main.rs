//! Many sessions of any protocol, held and asked; and what their memory is compared with: raw tokio-rustls, raw quinn.

mod dial;
mod hold;
mod member;
mod raw;
mod tls;

use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// What a run is void for.
type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Holds sessions and prints JSON lines, or serves.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Opens sessions and holds them; commands on standard input: echo, ping COUNT, close
    Hold(Hold),
    /// Raw tokio-rustls: echoes bytes, no frames; prints `listening tls://ADDRESS`
    ServeTls {
        /// 0 takes a free one
        port: u16,
    },
    /// Raw quinn: echoes bytes of each connection's first stream; prints `listening quic://ADDRESS`
    ServeQuic {
        /// 0 takes a free one
        port: u16,
    },
}

#[derive(Args)]
struct Hold {
    /// tcp:// tls:// ws:// wss:// quic://ADDRESS:PORT or unix:///PATH
    #[arg(long)]
    target: String,
    /// Bytes that come back as they are, instead of MsgTrans wire version 2
    #[arg(long)]
    raw: bool,
    /// Sessions
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Handshakes at once, and answers awaited at once
    #[arg(long, default_value_t = 256)]
    at_once: usize,
    /// Source addresses from 127.0.0.2 on; with quic each has one socket. 0: let the system choose
    #[arg(long, default_value_t = 0)]
    sources: u8,
    /// heartbeat_ms in Hello; absent, the server's default holds
    #[arg(long)]
    heartbeat_ms: Option<u32>,
    /// Seconds that opening all, or asking all, may take
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

fn main() -> ExitCode {
    bench_kit::process::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let ended = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            match Cli::parse().mode {
                Mode::Hold(hold) => hold::run(&hold).await,
                Mode::ServeTls { port } => raw::serve_tls(port).await,
                Mode::ServeQuic { port } => raw::serve_quic(port).await,
            }
        })
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("crowd: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}
