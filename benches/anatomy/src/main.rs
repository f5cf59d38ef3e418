//! What an idle session of the server holds, allocation by allocation, beside the measured resident memory.
//!
//! The program serves; `crowd`, which has to lie beside it, opens the sessions from a process of its own. It runs
//! itself once more for the resident memory, because remembering allocations takes memory too.

mod ledger;
mod sites;

use bench_kit::process;
use clap::Parser;
use msgtrans::tls::Identity;
use msgtrans::{
    Endpoint, Handler, HandlerError, Packet, QuicServerConfig, Session, TransportServer,
    TransportServerBuilder,
};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

#[global_allocator]
static LEDGER: ledger::Ledger = ledger::Ledger;

type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// What is shared grows in steps; sessions from here on are counted, so that the first steps are not theirs.
const BEFORE: usize = 200;
/// After the last session has opened and before anything is counted.
const SETTLE: Duration = Duration::from_millis(500);

/// Prints a table of what each idle session holds.
#[derive(Parser)]
struct Cli {
    /// tcp, ws, unix, tls, wss or quic
    #[arg(default_value = "tcp")]
    scheme: String,
    /// Sessions that are counted
    #[arg(long, default_value_t = 2_000)]
    sessions: usize,
    /// Only the resident bytes of a session
    #[arg(long)]
    resident: bool,
    /// Print the whole backtrace of every item
    #[arg(long)]
    backtraces: bool,
}

struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session.send(packet).await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

/// Listens on a free port, with a development certificate where the protocol needs one.
fn listen(
    builder: TransportServerBuilder,
    scheme: &str,
) -> Result<TransportServerBuilder, Trouble> {
    let url = match scheme {
        "tcp" | "ws" | "quic" => format!("{scheme}://127.0.0.1:0"),
        "tls" | "wss" => format!("{scheme}://127.0.0.1:0?cert=development"),
        "unix" => {
            let name = format!("anatomy-{}", std::process::id());
            format!("unix://{}", std::env::temp_dir().join(name).display())
        }
        other => return Err(format!("{other}: no such protocol here").into()),
    };
    if scheme == "quic" {
        let config = QuicServerConfig::from_endpoint(&Endpoint::parse(&url)?)?;
        return Ok(builder.with_protocol(config.with_identity(Identity::development()?)));
    }
    Ok(builder.with_protocol(url.as_str()))
}

/// Sessions of another process.
struct Crowd(Child);

impl Crowd {
    fn open(url: &str, sessions: usize) -> Result<Self, Trouble> {
        let program = std::env::current_exe()?.with_file_name("crowd");
        let mut child = Command::new(&program)
            .args(["hold", "--sources=16", "--target", url])
            .arg(format!("--connections={sessions}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let out = child.stdout.take().ok_or("no output")?;
        let this = Self(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        if line.is_empty() {
            return Err("the crowd did not get in".into());
        }
        Ok(this)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Resident bytes of each of the counted sessions, and what is allocated for them.
fn run(cli: &Cli) -> Result<(f64, Vec<ledger::Entry>), Trouble> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let server = runtime.block_on(async {
        let server = listen(TransportServer::builder(), &cli.scheme)?
            .with_handler(Echo)
            .build()
            .await?;
        server.start()?;
        Ok::<_, Trouble>(server)
    })?;
    let target = server
        .local_endpoints()
        .first()
        .ok_or("nothing is served")?
        .to_string();
    let before = Crowd::open(&target, BEFORE)?;
    let resident = || process::resident_bytes(std::process::id());
    std::thread::sleep(SETTLE);
    let bytes = resident()?;
    if !cli.resident {
        ledger::start();
    }
    let counted = Crowd::open(&target, cli.sessions)?;
    std::thread::sleep(SETTLE);
    let entries = ledger::stop();
    let bytes = resident()?.saturating_sub(bytes);
    let open = server.session_count();
    if open != BEFORE + cli.sessions {
        return Err(format!("{open} sessions are open").into());
    }
    drop((before, counted));
    Ok((bytes as f64 / cli.sessions as f64, entries))
}

fn report(cli: &Cli) -> Result<(), Trouble> {
    if cli.resident {
        println!("{}", run(cli)?.0);
        return Ok(());
    }
    let again = Command::new(std::env::current_exe()?)
        .args([cli.scheme.as_str(), "--resident"])
        .arg(format!("--sessions={}", cli.sessions))
        .stderr(Stdio::inherit())
        .output()?;
    let resident: f64 = String::from_utf8_lossy(&again.stdout).trim().parse()?;
    let (_, entries) = run(cli)?;
    sites::print(&entries, cli.sessions, cli.backtraces);
    println!(
        "\nresident memory of {} sessions, over their number: {resident:.0} bytes",
        cli.sessions
    );
    Ok(())
}

fn main() -> ExitCode {
    process::raise_descriptor_limit();
    match report(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("anatomy: {error}");
            ExitCode::FAILURE
        }
    }
}
