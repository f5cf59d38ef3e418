//! Other people's libraries as echo servers, each in the words of its own documentation.
//!
//! All speak version 1 frames inside whatever framing is theirs, and print `listening URL` once they accept.

mod message_io;
mod published;
mod quic;
mod websocket;
#[cfg(feature = "zmq")]
mod zmq;

use clap::Parser;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;

/// One echo server.
#[derive(Parser)]
struct Cli {
    /// Whose: published, published-detached, message-io, tungstenite, tungstenite-batched, fastwebsockets, quinn,
    /// quinn-batched, quinn-defaults, zmq
    peer: String,
    /// tcp://127.0.0.1:0, ws://127.0.0.1:0 or quic://127.0.0.1:0?mtu=N, whatever that peer speaks
    url: String,
}

fn main() -> ExitCode {
    bench_kit::process::raise_descriptor_limit();
    let cli = Cli::parse();
    match serve(&cli.peer, &cli.url) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {}: {error}", cli.peer);
            ExitCode::FAILURE
        }
    }
}

fn serve(peer: &str, url: &str) -> io::Result<()> {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let mtu = rest.split_once("?mtu=").map(|(_, mtu)| mtu.parse());
    let mtu = mtu.transpose().map_err(io::Error::other)?;
    match (peer, scheme) {
        ("published", "tcp" | "ws" | "quic") => {
            published::serve(scheme, published::Tier::Confirmed)
        }
        ("published-detached", "tcp" | "ws" | "quic") => {
            published::serve(scheme, published::Tier::Detached)
        }
        ("message-io", "tcp") => message_io::serve(),
        ("tungstenite", "ws") => websocket::tungstenite(false),
        ("tungstenite-batched", "ws") => websocket::tungstenite(true),
        ("fastwebsockets", "ws") => websocket::fastwebsockets(),
        ("quinn", "quic") => quic::serve(quic::Writes::Each, quic::Transport::Ours, mtu),
        ("quinn-batched", "quic") => quic::serve(quic::Writes::Batch, quic::Transport::Ours, mtu),
        ("quinn-defaults", "quic") => {
            quic::serve(quic::Writes::Batch, quic::Transport::Defaults, mtu)
        }
        #[cfg(feature = "zmq")]
        ("zmq", "tcp") => zmq::serve(),
        #[cfg(not(feature = "zmq"))]
        ("zmq", _) => Err(io::Error::other("built without libzmq")),
        _ => Err(io::Error::other(format!("{url}: not for this peer"))),
    }
}

/// Tells the harness where the server is.
fn announce(scheme: &str, address: impl Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening {scheme}://{address}")?;
    out.flush()
}

/// An address that nobody listens on, for servers that do not say which one they got.
fn free_address(scheme: &str) -> io::Result<SocketAddr> {
    let any = (Ipv4Addr::LOCALHOST, 0);
    match scheme {
        "quic" => UdpSocket::bind(any)?.local_addr(),
        _ => TcpListener::bind(any)?.local_addr(),
    }
}

/// What `#[tokio::main]` makes: a worker for each core that this process may use.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new()
}
