//! The servers that can be measured, and one of them as a running process.

use crate::suites::{self, Case, Work};
use bench_kit::process::ends_with_this_thread;
use std::io::{BufRead, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The name of the server under test in every table.
pub(crate) const OURS: &str = "ours";
/// What QUIC is compared with: quinn with our configuration, the frames of a batch in one write.
pub(crate) const QUINN: &str = "quinn-batched";
/// How long a server may take until it listens.
const START_MAX: Duration = Duration::from_secs(20);

/// Where the programs lie.
pub(crate) struct Programs {
    /// The folder of the programs of this workspace.
    pub(crate) folder: PathBuf,
    /// `msgtrans`, when there is one to measure.
    pub(crate) ours: Option<PathBuf>,
}

impl Programs {
    /// Names without programs, for telling who would take part.
    pub(crate) fn nowhere() -> Self {
        Self {
            folder: PathBuf::new(),
            ours: Some(PathBuf::from("msgtrans")),
        }
    }
}

/// A server that can be measured.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) name: String,
    /// What the load speaks with it.
    pub(crate) wire: String,
    pub(crate) program: PathBuf,
    /// Its arguments; {scheme}, {role}, {url} and {place} (a port or a path) are replaced.
    pub(crate) args: Vec<String>,
    /// Whether it can do the work of a case.
    pub(crate) fits: fn(&Case) -> bool,
    /// Asked for, and not only there as the reference of a case.
    pub(crate) asked: bool,
}

/// Those that `--peers` knows. One name may stand for several servers, each for cases of its own.
fn peers(programs: &Programs) -> Vec<Server> {
    let limit = programs.folder.join("limit");
    let program = programs.folder.join("peers");
    let tokio = |name: &str| Server::new(name, "v1", &limit, &[name, "0"]);
    let peer = |name: &str, wire| Server::new(name, wire, &program, &[name, "{url}"]);
    let stream: fn(&Case) -> bool = |case| compared(case) && matches!(case.scheme, "tcp" | "ws");
    let quic: fn(&Case) -> bool = |case| compared(case) && case.scheme == "quic";
    let tcp: fn(&Case) -> bool = |case| compared(case) && case.scheme == "tcp";
    let ws: fn(&Case) -> bool = |case| compared(case) && case.scheme == "ws";
    vec![
        tokio("tokio-raw").for_cases(|case| tcp_echo(case) && !needs_frames(case)),
        tokio("tokio-framed").for_cases(tcp_echo),
        // Idle it holds what the line above holds.
        tokio("tokio-framed-batched").for_cases(|case| tcp_echo(case) && compared(case)),
        peer("published", "v1").for_cases(stream),
        peer("published", "length4").for_cases(quic),
        // With one message under way there is nothing to queue: it would be the line above once more.
        peer("published-detached", "v1").for_cases(|case| {
            compared(case) && needs_frames(case) && matches!(case.scheme, "tcp" | "ws")
        }),
        peer("published-detached", "length4")
            .for_cases(|case| compared(case) && needs_frames(case) && case.scheme == "quic"),
        peer("message-io", "varint").for_cases(tcp),
        peer("zmq", "zmtp").for_cases(tcp),
        peer("tungstenite", "v1").for_cases(ws),
        peer("tungstenite-batched", "v1").for_cases(ws),
        peer("fastwebsockets", "v1").for_cases(ws),
        peer(QUINN, "v1").for_cases(quic),
        peer("quinn", "v1").for_cases(quic),
        peer("quinn-defaults", "v1").for_cases(quic),
    ]
}

/// Echoes of a load in which people's libraries have a turn beside the limit and ours.
fn compared(case: &Case) -> bool {
    case.role == "echo" && case.peers && matches!(case.work, Work::Load { .. })
}

fn tcp_echo(case: &Case) -> bool {
    case.scheme == "tcp" && case.role == "echo" && case.peers
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

/// The limit first, then ours, then the references and peers that were asked for, then what suites bring. `asked` is
/// what `--peers` says: nothing is nobody, `all` everybody.
pub(crate) fn all(
    programs: &Programs,
    ours_wire: &str,
    asked: &[String],
    others: &[String],
) -> Result<Vec<Server>, String> {
    let limit = programs.folder.join("limit");
    let mut servers = vec![
        Server::new("limit", "v1", &limit, &["{scheme}", "--{role}", "{place}"])
            .for_cases(|case| echo_or_sink(case) && matches!(case.scheme, "tcp" | "ws" | "unix")),
    ];
    if let Some(program) = &programs.ours {
        let args = ["serve", "--{role}", "{url}"];
        let fits: fn(&Case) -> bool = |case| echo_or_sink(case) && case.scheme != "inproc";
        servers.push(Server::new(OURS, ours_wire, program, &args).for_cases(fits));
    }
    let peers = peers(programs);
    let everybody = asked.iter().any(|name| name == "all");
    let unknown = |name: &&String| {
        let known = |peer: &Server| peer.name == **name;
        !matches!(name.as_str(), "all" | "none") && !peers.iter().any(known)
    };
    if let Some(unknown) = asked.iter().find(unknown) {
        let mut known: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
        known.dedup();
        let known = known.join(" ");
        return Err(format!("{unknown}: not one of {known}, all or none"));
    }
    servers.extend(peers.into_iter().map(|peer| Server {
        asked: everybody || asked.contains(&peer.name),
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
        let socket = (case.scheme == "unix").then(socket_path);
        let (url, place) = match &socket {
            Some(path) => (
                format!("unix://{}", path.display()),
                path.display().to_string(),
            ),
            None => {
                let options = case.mtu.map(|mtu| format!("?mtu={mtu}"));
                let options = options.unwrap_or_default();
                let url = format!("{}://127.0.0.1:0{options}", case.scheme);
                (url, "0".to_owned())
            }
        };
        command.args(self.args.iter().map(|arg| {
            arg.replace("{scheme}", case.scheme)
                .replace("{role}", case.role)
                .replace("{url}", &url)
                .replace("{place}", &place)
        }));
        let mut child = ends_with_this_thread(&mut command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                // What is built here and is not there did not build, which cargo has told at length.
                ErrorKind::NotFound => format!("{} was not built", self.program.display()),
                _ => format!("{}: {error}", self.program.display()),
            })?;
        let stdout = child.stdout.take();
        let said = LastLine::of(child.stderr.take());
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
            socket,
        };
        running.url = inbox.recv_timeout(START_MAX).map_err(|why| {
            let mut what = "it does not listen".to_owned();
            if why == RecvTimeoutError::Disconnected {
                // Its output is closed, so it is about to end, and then how it did can be told.
                soon(|| running.check().is_err());
                what = running.check().err().unwrap_or(what);
            }
            let said = said.take();
            match said.is_empty() {
                true => what,
                false => format!("{what}: {said}"),
            }
        })?;
        if let Some(mtu) = case.mtu {
            let bare = running.url.split('?').next().unwrap_or_default();
            running.url = format!("{bare}?mtu={mtu}");
        }
        Ok(running)
    }
}

/// How the names of Unix sockets begin; the process follows, then a number.
const SOCKET: &str = "msgtrans-bench-";

/// Where a Unix socket is made: a name that nobody has.
fn socket_path() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{SOCKET}{}-{number}.sock", std::process::id());
    std::env::temp_dir().join(name)
}

/// Removes the sockets of runs that were killed.
pub(crate) fn remove_sockets_of_the_dead(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name
            .to_str()
            .and_then(|name| name.strip_prefix(SOCKET)?.strip_suffix(".sock"))
            .and_then(|name| name.split_once('-')?.0.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            // Somebody else's, or gone by now: neither is in the way.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Waits for what is about to be, and no longer than that takes on a busy machine.
fn soon(mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() && begin.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The last line that a process has printed on standard error: why it failed.
pub(crate) struct LastLine(Arc<Mutex<String>>, Option<JoinHandle<()>>);

impl LastLine {
    /// Reads until the process closes its end.
    pub(crate) fn of(stderr: Option<ChildStderr>) -> Self {
        let last = Arc::new(Mutex::new(String::new()));
        let into = last.clone();
        let reader = stderr.map(|stderr| {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if let Ok(mut last) = into.lock()
                        && !line.trim().is_empty()
                    {
                        *last = line;
                    }
                }
            })
        });
        Self(last, reader)
    }

    /// The line; a process that is about to end is given a moment to say it.
    pub(crate) fn take(mut self) -> String {
        if let Some(reader) = self.1.take() {
            soon(|| reader.is_finished());
        }
        self.0
            .lock()
            .map_or_else(|_| String::new(), |line| line.clone())
    }
}

/// A started server; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) url: String,
    /// Removed with it.
    socket: Option<PathBuf>,
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
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_runs_that_are_gone_are_removed_and_others_stay() {
        let folder = std::env::temp_dir().join(format!("msgtrans-sockets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let own = format!("{SOCKET}{}-0.sock", std::process::id());
        // No process has a number that large.
        let dead = format!("{SOCKET}{}-0.sock", u32::MAX);
        let names = [dead.as_str(), &own, "msgtrans-bench-notes.sock", "other"];
        for name in names {
            std::fs::write(folder.join(name), "").expect("a file");
        }
        remove_sockets_of_the_dead(&folder);
        let left = names.map(|name| folder.join(name).exists());
        std::fs::remove_dir_all(&folder).expect("cleaned up");
        assert_eq!(left, [false, true, true, true]);
    }

    #[test]
    fn a_server_that_cannot_start_says_why_or_at_least_how_it_ended() {
        let case = suites::select(&["P2".to_owned()]).expect("a known suite")[0].clone();
        let sh = |script: &str| Server::new("sh", "v1", Path::new("/bin/sh"), &["-c", script]);
        let error = |server: Server| server.start(&case).err().expect("it listens nowhere");
        assert_eq!(
            error(sh("exit 3")),
            "the server ended by itself: exit status: 3"
        );
        assert_eq!(
            error(sh("echo the port is taken >&2; exit 1")),
            "the server ended by itself: exit status: 1: the port is taken"
        );
        let nowhere = Server::new("x", "v1", Path::new("/nowhere/x"), &[]);
        assert_eq!(error(nowhere), "/nowhere/x was not built");
    }

    #[test]
    fn a_server_does_not_outlive_the_thread_that_started_it() {
        // Told by the end of its standard output, which only the server holds: a wait, not a sleep.
        let (sender, output) = mpsc::channel();
        let starter = std::thread::spawn(move || {
            let mut command = Command::new("sleep");
            let child = ends_with_this_thread(command.arg("600"))
                .stdout(Stdio::piped())
                .spawn();
            let mut child = child.expect("sleep is everywhere");
            let _ = sender.send(child.stdout.take());
            child
        });
        let output = output.recv().expect("started").expect("piped");
        let mut child = starter.join().expect("the thread ends well");
        assert_eq!(BufReader::new(output).lines().count(), 0);
        let status = child.wait().expect("its end");
        assert!(!status.success(), "{status}");
    }
}
