//! The servers that can be measured, and one of them as a running process.

use crate::suites::{Case, Work};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The name of the server under test in every table.
pub(crate) const OURS: &str = "ours";
/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// How a server is started for a case.
enum Kind {
    Limit,
    /// A subcommand of the limit program that takes only a port: TCP echo.
    TokioEcho,
    Ours,
    /// A command line with {scheme} and {role}.
    Other(Vec<String>),
}

/// A server that can be measured.
pub(crate) struct Server {
    pub(crate) name: String,
    /// What the load speaks with it.
    pub(crate) wire: String,
    program: PathBuf,
    kind: Kind,
    /// Asked for, and not only there as the reference of a case.
    asked: bool,
}

/// The limit first, then the references, ours, and whoever else was asked for.
pub(crate) fn all(
    programs: &Path,
    ours: Option<&Path>,
    ours_wire: &str,
    peers: &[String],
    others: &[String],
) -> Result<Vec<Server>, String> {
    let limit = programs.join("limit");
    let mut servers = vec![Server {
        name: "limit".into(),
        wire: "v1".into(),
        program: limit.clone(),
        kind: Kind::Limit,
        asked: true,
    }];
    const TOKIO: [&str; 3] = ["tokio-raw", "tokio-framed", "tokio-framed-batched"];
    if let Some(unknown) = peers.iter().find(|name| !TOKIO.contains(&name.as_str())) {
        return Err(format!("{unknown}: not one of {}", TOKIO.join(" ")));
    }
    for name in TOKIO {
        servers.push(Server {
            name: name.into(),
            wire: "v1".into(),
            program: limit.clone(),
            kind: Kind::TokioEcho,
            asked: peers.iter().any(|peer| peer == name),
        });
    }
    if let Some(program) = ours {
        let program = program
            .canonicalize()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let wire = ours_wire.to_owned();
        servers.insert(
            2,
            Server {
                name: OURS.into(),
                wire,
                program,
                kind: Kind::Ours,
                asked: true,
            },
        );
    }
    for text in others {
        let form = || format!("{text}: not NAME=WIRE:COMMAND");
        let (name, rest) = text.split_once('=').ok_or_else(form)?;
        let (wire, command) = rest.split_once(':').ok_or_else(form)?;
        let mut words = command.split_whitespace().map(str::to_owned);
        let program = words.next().ok_or_else(form)?.into();
        let (name, wire) = (name.to_owned(), wire.to_owned());
        servers.push(Server {
            name,
            wire,
            program,
            kind: Kind::Other(words.collect()),
            asked: true,
        });
    }
    Ok(servers)
}

impl Server {
    /// Whether this server has a turn in this case.
    pub(crate) fn runs(&self, case: &Case) -> bool {
        match self.kind {
            // Raw tokio is the reference of the WebSocket round trip too; there it speaks TCP all the same.
            Kind::TokioEcho if case.reference == self.name => true,
            Kind::TokioEcho => self.asked && self.fits(case),
            _ => self.asked,
        }
    }

    fn fits(&self, case: &Case) -> bool {
        // Raw tokio knows no frames, so only round trips and idle connections are the same work for it.
        let frames = matches!(
            case.work,
            Work::Load { window: 2.., .. } | Work::OpenHalf { .. }
        );
        case.scheme == "tcp" && case.role == "echo" && !(self.name == "tokio-raw" && frames)
    }

    /// Starts it; it runs where the calling thread may run.
    pub(crate) fn start(&self, case: &Case) -> Result<Running, String> {
        let mut command = Command::new(&self.program);
        match &self.kind {
            Kind::Limit => command.args([case.scheme, &format!("--{}", case.role), "0"]),
            Kind::TokioEcho => command.args([self.name.as_str(), "0"]),
            Kind::Ours => command.args([
                "serve",
                &format!("--{}", case.role),
                &format!("{}://127.0.0.1:0", case.scheme),
            ]),
            Kind::Other(words) => command.args(words.iter().map(|word| {
                word.replace("{scheme}", case.scheme)
                    .replace("{role}", case.role)
            })),
        };
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
