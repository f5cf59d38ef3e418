//! The servers that can be measured, and one of them as a running process.

use crate::suites::{self, Case, Work};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The name of the server under test in every table.
pub(crate) const OURS: &str = "ours";
/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// Where the programs lie.
pub(crate) struct Programs {
    /// The folder of the programs of this workspace.
    pub(crate) folder: PathBuf,
    /// `msgtrans`, when there is one to measure.
    pub(crate) ours: Option<PathBuf>,
}

/// A server that can be measured.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) name: String,
    /// What the load speaks with it.
    pub(crate) wire: String,
    pub(crate) program: PathBuf,
    /// Its arguments; {scheme} and {role} are replaced.
    pub(crate) args: Vec<String>,
    /// Whether it can do the work of a case.
    pub(crate) fits: fn(&Case) -> bool,
    /// Asked for, and not only there as the reference of a case.
    pub(crate) asked: bool,
}

/// Those that `--peers` knows.
fn peers(programs: &Programs) -> Vec<Server> {
    let limit = programs.folder.join("limit");
    let tokio = |name: &str| Server::new(name, "v1", &limit, &[name, "0"]);
    vec![
        tokio("tokio-raw").for_cases(|case| tcp_echo(case) && !needs_frames(case)),
        tokio("tokio-framed").for_cases(tcp_echo),
        tokio("tokio-framed-batched").for_cases(tcp_echo),
    ]
}

fn tcp_echo(case: &Case) -> bool {
    case.scheme == "tcp" && case.role == "echo"
}

/// Raw tokio knows no frames, so only round trips and idle connections are the same work for it.
fn needs_frames(case: &Case) -> bool {
    matches!(
        case.work,
        Work::Load { window: 2.., .. } | Work::OpenHalf { .. }
    )
}

/// What the limit and ours do; a suite that wants other servers gives its cases another role.
fn echo_or_sink(case: &Case) -> bool {
    matches!(case.role, "echo" | "sink")
}

/// The limit first, then ours, then the references and peers that were asked for, then what suites bring.
pub(crate) fn all(
    programs: &Programs,
    ours_wire: &str,
    asked: &[String],
    others: &[String],
) -> Result<Vec<Server>, String> {
    let limit = programs.folder.join("limit");
    let mut servers = vec![
        Server::new("limit", "v1", &limit, &["{scheme}", "--{role}", "0"])
            .for_cases(|case| echo_or_sink(case) && matches!(case.scheme, "tcp" | "ws")),
    ];
    if let Some(program) = &programs.ours {
        let args = ["serve", "--{role}", "{scheme}://127.0.0.1:0"];
        servers.push(Server::new(OURS, ours_wire, program, &args).for_cases(echo_or_sink));
    }
    let peers = peers(programs);
    let unknown = |name: &&String| !peers.iter().any(|peer| peer.name == **name);
    if let Some(unknown) = asked.iter().find(unknown) {
        let known: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        return Err(format!("{unknown}: not one of {}", known.join(" ")));
    }
    servers.extend(peers.into_iter().map(|peer| Server {
        asked: asked.contains(&peer.name),
        ..peer
    }));
    for text in others {
        let form = || format!("{text}: not NAME=WIRE:COMMAND");
        let (name, rest) = text.split_once('=').ok_or_else(form)?;
        let (wire, command) = rest.split_once(':').ok_or_else(form)?;
        let mut words = command.split_whitespace();
        let program = Path::new(words.next().ok_or_else(form)?);
        let args: Vec<&str> = words.collect();
        servers.push(Server::new(name, wire, program, &args).for_cases(echo_or_sink));
    }
    servers.extend(suites::servers(programs));
    Ok(servers)
}

impl Server {
    /// A server that takes a turn in no case yet.
    pub(crate) fn new(name: &str, wire: &str, program: &Path, args: &[&str]) -> Self {
        Self {
            name: name.into(),
            wire: wire.into(),
            program: program.into(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            fits: |_| false,
            asked: true,
        }
    }

    /// The same for the cases that `fits` names.
    pub(crate) fn for_cases(self, fits: fn(&Case) -> bool) -> Self {
        Self { fits, ..self }
    }

    /// Whether this server has a turn in this case.
    pub(crate) fn runs(&self, case: &Case) -> bool {
        // Raw tokio is the reference of the WebSocket round trip too; there it speaks TCP all the same.
        case.reference == self.name || self.asked && (self.fits)(case)
    }

    /// Starts it; it runs where the calling thread may run.
    pub(crate) fn start(&self, case: &Case) -> Result<Running, String> {
        let mut command = Command::new(&self.program);
        command.args(self.args.iter().map(|arg| {
            arg.replace("{scheme}", case.scheme)
                .replace("{role}", case.role)
        }));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let stdout = child.stdout.take();
        let (lines, inbox) = mpsc::channel();
        std::thread::spawn(move || {
            // Reads on after the line that matters, so that a server that prints more never blocks on a full pipe.
            for line in stdout
                .into_iter()
                .flat_map(|out| BufReader::new(out).lines())
                .map_while(Result::ok)
            {
                if let Some(url) = line.strip_prefix("listening ") {
                    let _ =
                        lines.send(url.split_whitespace().next().unwrap_or_default().to_owned());
                }
            }
        });
        let mut running = Running {
            child,
            url: String::new(),
        };
        running.url = inbox.recv_timeout(START_MAX).map_err(|_| {
            format!(
                "{} did not print `listening SCHEME://ADDRESS`",
                self.program.display()
            )
        })?;
        Ok(running)
    }
}

/// A started server; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) url: String,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error when it is no longer there.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(format!("the server ended by itself: {status}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
