//! `msgtrans serve`: a server that echoes or counts, until it is told to stop.

use std::future::pending;
use std::num::{NonZeroU16, ParseIntError};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use msgtrans::tls::{Identity, ServerTls, SpkiPin};
use msgtrans::{
    BuiltIn, ConfigError, Endpoint, Handler, HandlerError, Packet, QuicServerConfig, Schemes,
    Session, ShutdownReport, TcpServerConfig, ThreadPerCore, TransportServer,
    TransportServerBuilder, TransportStats, WebSocketServerConfig,
};
use msgtrans_lockfree::Counter;
use serde_json::json;
use tokio::sync::oneshot;

use crate::connect::{Wire, not_in_process};
use crate::failure::Failure;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    mode: Mode,
    /// Where to listen: tcp:// tls:// ws:// wss:// or quic://host:port, or unix:///path; port 0 is a free one
    #[arg(required = true, value_name = "URL")]
    urls: Vec<Endpoint>,
    /// The wire versions to accept
    #[arg(long, value_enum, default_value_t = Wire::Auto)]
    wire: Wire,
    /// The certificate chain for tls, wss and quic, a PEM file; without it a development certificate is made
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The private key of --cert, a PEM file
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Worker threads; one for each processor by default
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroU16>,
    /// A thread with a runtime of its own for each processor, or N of them, instead of worker threads that share one:
    /// each has its own listening socket on every tcp, tls, ws and wss port, and a session stays on its thread
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_parser = own_threads,
        conflicts_with = "threads"
    )]
    pub(crate) thread_per_core: Option<ThreadPerCore>,
}

/// What `--thread-per-core` is told; nothing is one for each processor.
fn own_threads(text: &str) -> Result<ThreadPerCore, ParseIntError> {
    if text.is_empty() {
        return Ok(ThreadPerCore::default());
    }
    let threads: NonZeroU16 = text.parse()?;
    Ok(ThreadPerCore::new(threads.get().into()))
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Mode {
    /// Send every message back as it came; answer requests with their payload
    #[arg(long)]
    echo: bool,
    /// Count messages; answer requests with the count as 8 bytes, big-endian
    #[arg(long)]
    sink: bool,
}

impl Args {
    /// Whether a protocol needs the runtime's timers. One that has none looks at the clock once less each time that it
    /// goes to sleep, and not at its wheel: every lone message is spared it.
    pub(crate) fn needs_timers(&self) -> bool {
        self.urls.iter().any(|url| url.scheme() == "quic")
    }
}

/// How long sessions may finish what they do, and how long all of stopping may take.
const DRAIN: Duration = Duration::from_secs(4);
const STOP: Duration = Duration::from_secs(5);

pub(crate) async fn run(args: Args, output: &Output) -> Result<(), Failure> {
    let mut builder = TransportServer::builder()
        .wire(args.wire.into())
        .graceful_shutdown(DRAIN);
    if let Some(threads) = args.thread_per_core {
        builder = builder.thread_per_core(if args.needs_timers() {
            threads
        } else {
            threads.without_timers()
        });
    }
    let mut told = Vec::new();
    for url in &args.urls {
        builder = listen_on(builder, url, &args, &mut told)?;
    }
    if args.cert.is_some() && !args.urls.iter().any(is_secure) {
        return Err(Failure::usage(
            "--cert and --key are for tls://, wss:// and quic:// URLs, and there is none",
        ));
    }
    builder = if args.mode.echo {
        builder.with_handler(Echo)
    } else {
        builder.with_handler(Sink::default())
    };
    let server = builder.build().await.map_err(Failure::of)?;
    // Before anybody learns that there is something to stop.
    let mut stop = Stop::new().map_err(Failure::failed)?;
    let start = Instant::now();
    server.start().map_err(Failure::of)?;
    for (endpoint, told) in server.local_endpoints().iter().zip(&told) {
        announce(endpoint, told, output);
    }
    stop.wait().await;
    let open = server.session_count();
    if open > 0 {
        output.chat(&format!(
            "closing {open} session{}; Ctrl-C stops at once",
            plural(open as u64)
        ));
    }
    let report = tokio::select! {
        report = server.shutdown() => report,
        () = after(STOP) => ShutdownReport::default(),
        () = stop.wait() => ShutdownReport::default(),
    };
    totals(&server.stats(), &report, start.elapsed(), output);
    Ok(())
}

/// The end of a wait that happens once in the command's life. A thread, because the runtime has no timers.
async fn after(wait: Duration) {
    let (over, waiting) = oneshot::channel();
    let thread = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(wait);
        // The command may have ended.
        let _ = over.send(());
    });
    if thread.is_err() || waiting.await.is_err() {
        // Without a thread there is nothing to wait with, and a shutdown has deadlines of its own.
        pending().await
    }
}

/// What there is to tell of a listener beside its URL.
#[derive(Default)]
struct Told {
    /// Of its development certificate.
    pin: Option<SpkiPin>,
    /// Knows what the system does for the UDP socket, once it is bound.
    quic: Option<QuicServerConfig>,
}

fn listen_on(
    builder: TransportServerBuilder,
    url: &Endpoint,
    args: &Args,
    told: &mut Vec<Told>,
) -> Result<TransportServerBuilder, Failure> {
    not_in_process(url)?;
    let mut url = url.clone();
    let cert = url.options().take::<String>("cert", "a PEM file");
    let mut identity = None;
    if is_secure(&url) && !matches!(cert, Ok(Some(_))) {
        if let (Some(cert), Some(key)) = (&args.cert, &args.key) {
            url = url
                .with_option("cert", cert.display())
                .with_option("key", key.display());
        } else {
            // Made here instead of by the listener, so that its pin can be told.
            identity = Some(Identity::development().map_err(Failure::failed)?);
        }
    }
    let mut this = Told {
        pin: identity.as_ref().map(Identity::spki_pin),
        quic: None,
    };
    // Checked here, so that an error names the URL.
    let checked = |error| Failure::at(&url, error);
    let builder = if url.scheme() == "quic" {
        let config = QuicServerConfig::from_endpoint(&url).map_err(checked)?;
        let config = identity.map_or(config.clone(), |identity| config.with_identity(identity));
        this.quic = Some(config.clone());
        builder.with_protocol(config)
    } else if let Some(identity) = identity {
        with_identity(builder, &url, identity).map_err(checked)?
    } else {
        BuiltIn::server(&url).map_err(checked)?;
        builder.with_protocol(url)
    };
    told.push(this);
    Ok(builder)
}

/// Whether the protocol needs a certificate.
fn is_secure(url: &Endpoint) -> bool {
    matches!(url.scheme(), "tls" | "wss" | "quic")
}

fn with_identity(
    builder: TransportServerBuilder,
    url: &Endpoint,
    identity: Identity,
) -> Result<TransportServerBuilder, ConfigError> {
    // The option makes the URL whole; the identity takes its place.
    let whole = url.clone().with_option("cert", "development");
    let tls = ServerTls::new(identity);
    Ok(match url.scheme() {
        "tls" => builder.with_protocol(TcpServerConfig::from_endpoint(&whole)?.tls(tls)),
        _ => builder.with_protocol(WebSocketServerConfig::from_endpoint(&whole)?.tls(tls)),
    })
}

/// Who started the server may have closed its standard output; it serves all the same.
fn announce(endpoint: &Endpoint, told: &Told, output: &Output) {
    let pin = told.pin.as_ref();
    // What a system does not tell is not worth an error.
    let offloads = told.quic.as_ref().and_then(|quic| quic.offloads().ok());
    let written = if output.is_json() {
        let mut object = json!({ "event": "listening", "url": endpoint.to_string() });
        if let Some(pin) = pin {
            object["pin"] = json!(pin.to_string());
        }
        if let Some(udp) = &offloads {
            object["udp"] = json!({
                "send_segments": udp.send_segments,
                "receive_segments": udp.receive_segments,
                "path_mtu_discovery": udp.path_mtu_discovery,
                "ecn": udp.ecn,
                "receive_buffer": udp.receive_buffer,
                "send_buffer": udp.send_buffer,
            });
        }
        output.object(&object)
    } else {
        output.line(&format!("listening {endpoint}"))
    };
    if let (Some(udp), false) = (&offloads, output.is_json()) {
        let url = endpoint.clone().without_options();
        output.note(&format!("{url}: {udp}"));
    }
    if let (Some(pin), false) = (pin, output.is_json()) {
        let url = endpoint.clone().without_options();
        output.note(&format!(
            "development certificate: clients use {url}?pin={pin} or --insecure"
        ));
    }
    drop(written);
}

fn totals(stats: &TransportStats, report: &ShutdownReport, time: Duration, output: &Output) {
    let TransportStats {
        packets_in,
        packets_out,
        bytes_in,
        bytes_out,
        ..
    } = stats;
    let sessions = stats.sessions_opened;
    let seconds = time.as_secs_f64();
    let written = if output.is_json() {
        output.object(&json!({
            "event": "stopped",
            "seconds": (seconds * 1e3).round() / 1e3,
            "sessions": sessions,
            "sessions_closed_at_work": report.closed,
            "messages_in": packets_in,
            "messages_out": packets_out,
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
        }))
    } else {
        output.line(&format!(
            "served {sessions} session{} in {seconds:.1} s: {packets_in} messages in, {packets_out} out, \
             {bytes_in} bytes in, {bytes_out} out",
            plural(sessions)
        ))
    };
    drop(written);
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Sends everything back.
#[derive(Debug)]
pub(crate) struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        // As it came: same id, biz_type, extended header and payload.
        session.send(packet).await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

/// Counts messages, each thread into a cache line of its own.
#[derive(Debug, Default)]
struct Sink {
    count: Counter,
}

impl Handler for Sink {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        self.count.add(1);
        Ok(())
    }

    async fn on_request(&self, _: &Session, _: Packet) -> Result<Packet, HandlerError> {
        // A session's request comes after its messages in the same task, so they are in it.
        Ok(Packet::response(self.count.get().to_be_bytes().to_vec()))
    }
}

/// SIGTERM and Ctrl-C, from now on.
#[cfg(unix)]
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Stop {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Ctrl-C, from the first wait on.
#[cfg(not(unix))]
struct Stop;

#[cfg(not(unix))]
impl Stop {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn wait(&mut self) {
        // An error means that there is no such thing here: then nothing but the end of the process stops it.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
