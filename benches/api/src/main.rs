//! Programs on the product's public API, each beside the same written by hand.

mod broadcast;
mod hand_client;
mod in_process;
mod request;

use clap::{Parser, Subcommand, ValueEnum};
use std::process::ExitCode;
use std::time::Duration;

/// What a run is void for.
type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Measures one program and prints one JSON line, or serves.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Requests on one connection to an echo server that speaks wire version 2
    Request {
        /// Who asks
        #[arg(long)]
        who: Who,
        /// tcp://ADDRESS:PORT
        #[arg(long)]
        target: String,
        /// Requests under way at any time, each from a task of its own
        #[arg(long, default_value_t = 50)]
        concurrent: usize,
        #[command(flatten)]
        time: Time,
    },
    /// A server that sends each message to all its sessions; prints `listening URL`
    Broadcast {
        /// Where to listen
        #[arg(default_value = "tcp://127.0.0.1:0")]
        url: String,
    },
    /// Messages of 64 B between two tasks of one process, one at a time
    Tasks {
        /// What carries them
        #[arg(long)]
        who: Who,
        /// Requests instead of messages and events
        #[arg(long)]
        requests: bool,
        #[command(flatten)]
        time: Time,
    },
    /// Messages between two tasks of one process, many under way
    Pipelined {
        /// What carries them
        #[arg(long)]
        who: Who,
        /// Messages under way
        #[arg(long, default_value_t = 128)]
        window: usize,
        /// Bytes of each, 1 MiB at most
        #[arg(long, default_value_t = 64)]
        payload: usize,
        #[command(flatten)]
        time: Time,
    },
    /// Messages of 64 B between two tasks of one process that are counted and not answered
    Oneway {
        /// What carries them
        #[arg(long)]
        who: Who,
        #[command(flatten)]
        time: Time,
    },
    /// Messages of 1 MiB whose receiver reads every byte, in one process
    Bulk {
        /// Messages, or the reading alone
        #[arg(long)]
        who: Who,
        #[command(flatten)]
        time: Time,
    },
}

/// Whose work it is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Who {
    /// The product's public API
    Ours,
    /// What one writes by hand for this one purpose
    Hand,
}

#[derive(clap::Args, Clone)]
struct Time {
    /// Measured seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
}

impl Time {
    fn durations(&self) -> Result<(Duration, Duration), Trouble> {
        Ok((
            Duration::try_from_secs_f64(self.warm_up)?,
            Duration::try_from_secs_f64(self.seconds)?,
        ))
    }
}

fn run(mode: Mode) -> Result<(), Trouble> {
    // One thread, because a run is pinned to one core; the product's own default for a process on one core.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match mode {
            Mode::Request {
                who,
                target,
                concurrent,
                time,
            } => request::run(who, &target, concurrent.max(1), &time).await,
            Mode::Broadcast { url } => broadcast::serve(&url).await,
            Mode::Tasks {
                who,
                requests,
                time,
            } => in_process::tasks(who, requests, &time).await,
            Mode::Pipelined {
                who,
                window,
                payload,
                time,
            } => in_process::pipelined::echoes(who, window.max(1), payload, &time).await,
            Mode::Oneway { who, time } => in_process::pipelined::one_way(who, &time).await,
            Mode::Bulk { who, time } => in_process::bulk(who, &time).await,
        }
    })
}

fn main() -> ExitCode {
    bench_kit::process::raise_descriptor_limit();
    match run(Cli::parse().mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("api: {error}");
            ExitCode::FAILURE
        }
    }
}
