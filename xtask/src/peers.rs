//! `cargo xtask peers`: independent implementations of WebSocket and QUIC as our clients and servers.
//!
//! The scripts of `interop/peers` speak our frames over PyPI `websockets`, npm `ws` and PyPI `aioquic`, in pinned versions
//! that are installed below the target directory; our side is the command as users have it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::results;
use crate::workspace::{Workspace, run as run_command, stdout_of};

/// Payloads of our client's requests, around every boundary of a WebSocket length with 16 bytes of header in front.
const SIZES: [usize; 10] = [
    1, 109, 110, 111, 1000, 4097, 65_519, 65_520, 65_521, 1_048_576,
];
/// What a peer's client exchanges: 13 sizes, a message and a request each; twice over WebSocket, once in fragments.
const EXCHANGES_WS: usize = 52;
const EXCHANGES_QUIC: usize = 26;

/// Runs every peer in both roles and both wire versions, and prints what was exchanged.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    run_command(&mut workspace.cargo(["build", "--locked", "-p", "msgtrans-cli"]))?;
    let metadata = workspace.metadata()?;
    let target_dir = metadata["target_directory"].as_str().map(Path::new);
    let target_dir = target_dir.ok_or("cargo metadata names no target directory")?;
    let ours = target_dir.join(format!("debug/msgtrans{}", std::env::consts::EXE_SUFFIX));
    let scripts = workspace.root().join("interop/peers");
    let folder = target_dir.join("peers");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let setup = Setup {
        python: install_python(&scripts, &folder)?,
        node_modules: install_node(&scripts, &folder)?,
        ours,
        scripts,
        folder,
    };
    let mut cert = Command::new(&setup.ours);
    run_command(
        cert.args(["cert", "--force", "--out"])
            .arg(&setup.folder)
            .stdout(Stdio::null()),
    )?;

    let mut table =
        String::from("| peer | its role | over | wire | exchanges |\n|---|---|---|---|---|\n");
    let mut total = 0;
    let served = setup.serve()?;
    for (peer, over, url) in [
        (Peer::Websockets, "ws", &served.ws),
        (Peer::Websockets, "wss", &served.wss),
        (Peer::Ws, "ws", &served.ws),
        (Peer::Ws, "wss", &served.wss),
        (Peer::Aioquic, "quic", &served.quic),
    ] {
        for wire in ["v1", "v2"] {
            let printed = stdout_of(setup.peer(peer).args(["client", url, wire]))?;
            let expected = match peer {
                Peer::Aioquic => EXCHANGES_QUIC,
                _ => EXCHANGES_WS,
            };
            if printed.trim() != expected.to_string() {
                return Err(format!(
                    "{peer:?} over {over}, {wire}: {printed} of {expected}"
                ));
            }
            total += report(&mut table, peer, "client", over, wire, expected);
        }
    }
    drop(served);
    for (peer, over) in [
        (Peer::Websockets, "ws"),
        (Peer::Websockets, "wss"),
        (Peer::Ws, "ws"),
        (Peer::Ws, "wss"),
        (Peer::Aioquic, "quic"),
    ] {
        let mut command = setup.peer(peer);
        command.arg("server");
        match over {
            "ws" => command.arg("plain"),
            _ => command.arg(&setup.folder),
        };
        let (server, address) = Running::start(&mut command)?;
        for wire in ["v1", "v2"] {
            let url = format!("{over}://{address}");
            for size in SIZES {
                setup.request(&url, wire, size)?;
            }
            total += report(&mut table, peer, "server", over, wire, SIZES.len());
        }
        drop(server);
    }
    println!("{total} exchanges, every one answered as it was sent");
    let summary = format!(
        "PyPI websockets 17.4, npm ws 8.23.0, PyPI aioquic 1.7.2: {total} exchanges, 0 failures.\n\n{table}"
    );
    results::record(workspace, "cargo xtask peers", &summary)
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    Websockets,
    Ws,
    Aioquic,
}

fn report(
    table: &mut String,
    peer: Peer,
    role: &str,
    over: &str,
    wire: &str,
    count: usize,
) -> usize {
    let name = match peer {
        Peer::Websockets => "websockets",
        Peer::Ws => "ws",
        Peer::Aioquic => "aioquic",
    };
    let line = format!("| {name} | {role} | {over} | {wire} | {count} |");
    println!("{line}");
    table.push_str(&line);
    table.push('\n');
    count
}

/// Programs and where they lie.
struct Setup {
    python: PathBuf,
    node_modules: PathBuf,
    ours: PathBuf,
    scripts: PathBuf,
    /// Has our certificate.
    folder: PathBuf,
}

/// Our server and what it listens on.
struct Served {
    _server: Running,
    ws: String,
    wss: String,
    quic: String,
}

/// A process that ends with its owner.
struct Running(Child);

impl Running {
    /// Starts a server; the first line that it prints.
    fn start(command: &mut Command) -> Result<(Self, String), String> {
        let mut this = Self(
            command
                .stdout(Stdio::piped())
                .spawn()
                .map_err(|error| error.to_string())?,
        );
        let stdout = this.0.stdout.take().ok_or("no output to read from")?;
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
        if line.is_empty() {
            return Err("a peer's server ended before it listened".to_owned());
        }
        Ok((this, line.trim().to_owned()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Setup {
    fn peer(&self, peer: Peer) -> Command {
        let (program, script) = match peer {
            Peer::Websockets => (self.python.as_path(), "websockets_peer.py"),
            Peer::Aioquic => (self.python.as_path(), "aioquic_peer.py"),
            Peer::Ws => (Path::new("node"), "ws_peer.mjs"),
        };
        let mut command = Command::new(program);
        command
            .arg(self.scripts.join(script))
            .env("PEERS_NODE", &self.node_modules)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    fn serve(&self) -> Result<Served, String> {
        let urls = ["ws", "wss", "quic"].map(|scheme| format!("{scheme}://127.0.0.1:0"));
        let mut child = Command::new(&self.ours)
            .args(["--json", "serve", "--echo", "--cert"])
            .arg(self.folder.join("cert.pem"))
            .arg("--key")
            .arg(self.folder.join("key.pem"))
            .args(urls)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let stdout = child.stdout.take().ok_or("no output to read from")?;
        let server = Running(child);
        let mut found = Vec::new();
        for line in BufReader::new(stdout).lines().take(3) {
            let line = line.map_err(|error| error.to_string())?;
            let event: Value = serde_json::from_str(&line).map_err(|error| error.to_string())?;
            let url = event["url"].as_str().ok_or("our server told no URL")?;
            // The options are for our own clients.
            found.push(url.split('?').next().unwrap_or(url).to_owned());
        }
        let [ws, wss, quic] = <[String; 3]>::try_from(found)
            .map_err(|found| format!("our server listens on {found:?} alone"))?;
        Ok(Served {
            _server: server,
            ws,
            wss,
            quic: quic.trim_start_matches("quic://").to_owned(),
        })
    }

    /// One request of our client; its response must be what was sent.
    fn request(&self, url: &str, wire: &str, size: usize) -> Result<(), String> {
        let payload: Vec<u8> = (b'a'..=b'z').cycle().take(size).collect();
        let mut command = Command::new(&self.ours);
        command.args(["request", url, "-", "--wire", wire]);
        if !url.starts_with("ws:") {
            command.arg("--insecure");
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(&payload)
                .map_err(|error| error.to_string())?;
        }
        let output = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        let answer = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
        if !output.status.success() || answer != payload {
            let status = output.status;
            let got = answer.len();
            return Err(format!(
                "{url}, {wire}: {got} bytes for a request of {size}, {status}"
            ));
        }
        Ok(())
    }
}

/// The interpreter of an environment with the pinned packages.
fn install_python(scripts: &Path, folder: &Path) -> Result<PathBuf, String> {
    let environment = folder.join("python");
    let python = environment.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    if !python.exists() {
        run_command(
            Command::new("python3")
                .args(["-m", "venv"])
                .arg(&environment),
        )?;
    }
    run_command(
        Command::new(&python)
            .args([
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(scripts.join("requirements.txt")),
    )?;
    Ok(python)
}

/// The folder with the pinned packages; `npm ci` wants the lock file beside them.
fn install_node(scripts: &Path, folder: &Path) -> Result<PathBuf, String> {
    let node = folder.join("node");
    fs::create_dir_all(&node).map_err(|error| error.to_string())?;
    let mut fresh = node.join("node_modules/ws").exists();
    for name in ["package.json", "package-lock.json"] {
        let text = fs::read(scripts.join(name)).map_err(|error| format!("{name}: {error}"))?;
        fresh &= fs::read(node.join(name)).is_ok_and(|known| known == text);
        fs::write(node.join(name), text).map_err(|error| error.to_string())?;
    }
    if !fresh {
        run_command(
            Command::new("npm")
                .args(["ci", "--silent"])
                .current_dir(&node),
        )?;
    }
    Ok(node)
}
