//! The load: epoll threads that speak the wire formats by themselves and check every answer to the byte. QUIC alone is
//! spoken by a library.

mod connection;
mod fan;
mod hold;
mod outbox;
mod quic;
mod report;
mod session;
mod shape;
mod steady;
mod zmtp;

use clap::{Args, Parser, Subcommand, ValueEnum};
use shape::{Envelope, Kind, Shape};
use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Loads one server and prints one JSON line.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Closed loop: each connection keeps a window of messages in flight
    Echo {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        time: Time,
        /// Messages in flight on each connection
        #[arg(long, default_value_t = 32)]
        window: u32,
        /// Send Requests and expect Responses instead of one-way messages that come back
        #[arg(long)]
        requests: bool,
    },
    /// One message in flight on one connection
    Rtt {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        time: Time,
    },
    /// One-way messages as fast as they are taken; now and then a Request whose Response carries the count
    Oneway {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        time: Time,
        /// Every so many messages one is a Request
        #[arg(long, default_value_t = 4096)]
        every: u32,
    },
    /// Open loop: a fixed rate; latency counts from the time a message was meant to leave
    Open {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        time: Time,
        /// Messages per second over all connections
        #[arg(long)]
        rate: f64,
        /// Messages that are meant to leave at one moment, on one connection
        #[arg(long, default_value_t = 1)]
        burst: u32,
    },
    /// Opens connections and holds them; commands on standard input: ping, echo, close
    Idle {
        #[command(flatten)]
        target: Target,
        /// Handshakes at once
        #[arg(long, default_value_t = 10_000)]
        at_once: usize,
    },
    /// Broadcasts: a message of the first connection has to reach every connection before the next one leaves
    Fan {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        time: Time,
    },
    /// Opens and closes connections as fast as the server accepts them
    Connect {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        time: Time,
    },
}

#[derive(Args, Clone)]
struct Target {
    /// tcp://ADDRESS:PORT, ws://ADDRESS:PORT, unix:///PATH or quic://ADDRESS:PORT?mtu=BYTES
    #[arg(long)]
    target: String,
    /// What is spoken there
    #[arg(long, default_value = "v2")]
    wire: WireName,
    /// Connections; for `connect` how many are opened at once
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Bytes of payload in each message
    #[arg(long, default_value_t = 64)]
    payload: usize,
    /// Epoll threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Spread the connections over so many addresses from 127.0.0.2 on (0: let the system choose)
    #[arg(long, default_value_t = 0)]
    sources: u8,
    /// heartbeat_ms in Hello; absent, the server's default holds
    #[arg(long)]
    heartbeat_ms: Option<u32>,
    /// Process whose CPU time and context switches are read at both ends of the measured time
    #[arg(long)]
    watch: Option<u32>,
}

#[derive(Args, Clone)]
struct Time {
    /// Measured seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds before them
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum WireName {
    /// MsgTrans wire version 2, with its handshake
    V2,
    /// MsgTrans wire version 1: the same frames, no handshake; what the limit servers speak
    V1,
    /// Version 1 frames behind a 4-byte length, for peers that frame like that
    Length4,
    /// Version 1 frames as message-io frames them
    Varint,
    /// Version 1 frames in ZMTP messages, for libzmq
    Zmtp,
}

/// Why a run is void: what the peer did, or what the system refused.
#[derive(Debug)]
struct Trouble(String);

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

fn trouble<T>(text: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble(text.into()))
}

/// Where a server is.
#[derive(Clone, Debug)]
enum Address {
    Tcp(SocketAddrV4),
    Unix(PathBuf),
    /// With the largest UDP payload that the path is to carry, where that is told.
    Quic(SocketAddrV4, Option<u16>),
}

impl Target {
    fn parse(&self) -> Result<(Address, bool), Trouble> {
        let bad = || Trouble(format!("{}: no address of a server", self.target));
        if self.connections == 0 || self.threads == 0 {
            return trouble("at least one connection and one thread");
        }
        let (scheme, rest) = self.target.split_once("://").ok_or_else(bad)?;
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let socket = || rest.trim_end_matches('/').parse().map_err(|_| bad());
        let address = match scheme {
            "tcp" | "ws" => Address::Tcp(socket()?),
            "unix" => Address::Unix(rest.into()),
            "quic" => {
                let mtu = options.strip_prefix("mtu=").map(str::parse).transpose();
                Address::Quic(socket()?, mtu.map_err(|_| bad())?)
            }
            _ => return Err(bad()),
        };
        Ok((address, scheme == "ws"))
    }

    fn shape(&self, kind: Kind) -> Result<(Address, Shape), Trouble> {
        let (address, websocket) = self.parse()?;
        let envelope = match (websocket, self.wire) {
            (true, WireName::V1 | WireName::V2) => Envelope::WebSocket,
            (true, _) => return trouble("a WebSocket message has its length already"),
            (false, WireName::Length4) => Envelope::Length4,
            (false, WireName::Varint) => Envelope::Varint,
            (false, WireName::Zmtp) => Envelope::Zmtp,
            (false, _) => Envelope::Bare,
        };
        let version = if self.wire == WireName::V2 { 2 } else { 1 };
        Ok((
            address,
            Shape::new(version, envelope, kind, self.payload, self.heartbeat_ms),
        ))
    }
}

impl Time {
    fn durations(&self) -> Result<(Duration, Duration), Trouble> {
        let parse = |seconds| {
            Duration::try_from_secs_f64(seconds).map_err(|error| Trouble(error.to_string()))
        };
        Ok((parse(self.warm_up)?, parse(self.seconds)?))
    }
}

fn run(mode: Mode) -> Result<(), Trouble> {
    use steady::Pace;
    match mode {
        Mode::Echo {
            target,
            time,
            window,
            requests,
        } => {
            let kind = if requests { Kind::Request } else { Kind::Echo };
            steady::run(
                "echo",
                &target,
                &time,
                kind,
                Pace::Closed {
                    window: window.max(1),
                },
            )
        }
        Mode::Rtt { target, time } => {
            let target = Target {
                connections: 1,
                threads: 1,
                ..target
            };
            steady::run(
                "rtt",
                &target,
                &time,
                Kind::Echo,
                Pace::Closed { window: 1 },
            )
        }
        Mode::Oneway {
            target,
            time,
            every,
        } => {
            let every = every.max(1);
            steady::run(
                "oneway",
                &target,
                &time,
                Kind::Sink { every },
                Pace::Closed { window: every * 8 },
            )
        }
        Mode::Open {
            target,
            time,
            rate,
            burst,
        } => {
            if !(rate > 0.0 && rate.is_finite()) {
                return trouble("a rate has to be above zero");
            }
            steady::run(
                "open",
                &target,
                &time,
                Kind::Echo,
                Pace::Open {
                    rate,
                    burst: burst.max(1),
                },
            )
        }
        Mode::Idle { target, at_once } => hold::idle(&target, at_once.max(1)),
        Mode::Fan { target, time } => fan::run(&target, &time),
        Mode::Connect { target, time } => hold::connect(&target, &time),
    }
}

fn main() -> ExitCode {
    bench_kit::process::raise_descriptor_limit();
    match run(Cli::parse().mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}
