//! `cargo xtask autobahn`: the Autobahn test suite against our WebSocket layer, both roles, ws and wss.
//!
//! The suite runs on CPython 2.7 alone. An installed one is used where `--wstest` or WSTEST names it; otherwise it is
//! installed once, below the target directory, from PyPI, with the interpreter that `--python` or PYTHON27 names.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::results;
use crate::workspace::{Workspace, run as run_command};

const USAGE: &str = "usage: cargo xtask autobahn [--wstest FILE] [--python FILE] [--quick | --case NAME,...] (--quick: without 9.*)";

/// The two groups of cases: name, cases, how many there are.
const GROUPS: [(&str, &[&str], usize); 2] = [
    (
        "1-7, 10",
        &["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"],
        247,
    ),
    ("9", &["9.*"], 54),
];

/// The suite and what it needs, in versions that go together on CPython 2.7; some only exist as wheels there.
const WHEELS: &str = "Twisted,zope.interface,cryptography,cffi,MarkupSafe";
const REQUIREMENTS: &[&str] = &[
    "Twisted==19.10.0",
    "zope.interface==4.6.0",
    "cryptography==3.3.2",
    "cffi==1.15.1",
    "MarkupSafe==1.1.1",
    "incremental==16.10.1",
    "pyOpenSSL==19.1.0",
    "txaio==2.1.0",
    "six==1.16.0",
    "jinja2==2.11.3",
    "Werkzeug==1.0.1",
    "klein==17.10.0",
    "service_identity==18.1.0",
    "unittest2==1.1.0",
    "autobahn==0.10.9",
];
const SUITE: &str = "autobahntestsuite==25.10.1";

/// How long the suite's server may take to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);

/// Runs both roles over ws and wss and checks every verdict.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let mut wstest = std::env::var_os("WSTEST").map(PathBuf::from);
    let mut python = std::env::var_os("PYTHON27").map(PathBuf::from);
    let mut quick = false;
    let mut named: Vec<&str> = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--wstest" => wstest = Some(rest.next().ok_or(USAGE)?.into()),
            "--python" => python = Some(rest.next().ok_or(USAGE)?.into()),
            "--quick" => quick = true,
            "--case" => named.extend(rest.next().ok_or(USAGE)?.split(',')),
            _ => return Err(USAGE.to_owned()),
        }
    }
    if let Some(pattern) = named.iter().find(|name| name.contains('*')) {
        return Err(format!(
            "{pattern}: a case is named in full, as 9.1.6\n{USAGE}"
        ));
    }
    let folder = target_dir(workspace)?.join("autobahn");
    fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let wstest = match wstest {
        Some(wstest) => wstest,
        None => install(&folder.join("suite"), python)?,
    };
    let endpoint = build(workspace, &folder)?;
    run_command(Command::new(&endpoint).arg("identity").arg(&folder))?;

    let bench = Bench {
        wstest,
        endpoint,
        folder,
    };
    let asked = [("named", named.as_slice(), named.len())];
    let groups = match (quick, named.is_empty()) {
        (_, false) => &asked[..],
        (true, true) => &GROUPS[..1],
        (false, true) => &GROUPS[..],
    };
    let mut table = String::from(
        "| our role | over | cases | passed | OK | INFORMATIONAL | NON-STRICT | seconds |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut failed = Vec::new();
    for (name, cases, count) in groups {
        for role in [Role::Server, Role::Client] {
            for tls in [false, true] {
                let over = if tls { "wss" } else { "ws" };
                let start = Instant::now();
                let verdicts = bench.run(role, tls, cases)?;
                let row = Row::of(&verdicts);
                let line = format!(
                    "| {role:?} | {over} | {name} | {} of {count} | {} | {} | {} | {} |",
                    row.passed,
                    row.ok,
                    row.informational,
                    row.non_strict,
                    start.elapsed().as_secs()
                );
                println!("{line}");
                table.push_str(&line);
                table.push('\n');
                if row.passed != *count || !row.failed.is_empty() {
                    failed.push(format!(
                        "{role:?} over {over}, cases {name}: {} of {count} passed; {}",
                        row.passed,
                        row.failed.join(", ")
                    ));
                }
            }
        }
    }
    if !failed.is_empty() {
        return Err(failed.join("\n"));
    }
    if !quick && named.is_empty() {
        let summary = format!(
            "Suite {SUITE}. A case passes when its behaviour and its way of closing are OK or INFORMATIONAL.\n\n{table}"
        );
        results::record(workspace, "cargo xtask autobahn", &summary)?;
    }
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Role {
    Server,
    Client,
}

/// What the suite says about one case: behaviour, and closing.
type Verdicts = BTreeMap<String, [String; 2]>;

#[derive(Debug, Default)]
struct Row {
    passed: usize,
    ok: usize,
    informational: usize,
    non_strict: usize,
    failed: Vec<String>,
}

impl Row {
    fn of(verdicts: &Verdicts) -> Self {
        let mut row = Self::default();
        for (case, verdict) in verdicts {
            let [behaviour, closing] = verdict.each_ref().map(String::as_str);
            let passes = |verdict: &str| matches!(verdict, "OK" | "INFORMATIONAL");
            if passes(behaviour) && passes(closing) {
                row.passed += 1;
            } else {
                row.failed.push(format!("{case} {behaviour}/{closing}"));
            }
            match behaviour {
                "OK" => row.ok += 1,
                "INFORMATIONAL" => row.informational += 1,
                "NON-STRICT" => row.non_strict += 1,
                _ => {}
            }
        }
        row
    }
}

/// The two programs, and the folder of certificate, specifications and reports.
struct Bench {
    wstest: PathBuf,
    endpoint: PathBuf,
    folder: PathBuf,
}

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bench {
    fn run(&self, role: Role, tls: bool, cases: &[&str]) -> Result<Verdicts, String> {
        let reports = self.folder.join("reports");
        let _ = fs::remove_dir_all(&reports);
        match role {
            Role::Server => self.serve(tls, cases, &reports)?,
            Role::Client => self.dial(tls, cases, &reports)?,
        }
        verdicts(&reports.join("index.json"))
    }

    /// Our server, the suite's client.
    fn serve(&self, tls: bool, cases: &[&str], reports: &Path) -> Result<(), String> {
        let mut command = Command::new(&self.endpoint);
        command.arg("server").stdout(Stdio::piped());
        if tls {
            command.arg(&self.folder);
        }
        let mut server = Running(command.spawn().map_err(|error| error.to_string())?);
        let stdout = server.0.stdout.take().ok_or("no output to read from")?;
        let mut address = String::new();
        BufReader::new(stdout)
            .read_line(&mut address)
            .map_err(|error| error.to_string())?;
        let scheme = if tls { "wss" } else { "ws" };
        let url = format!("{scheme}://{}", address.trim());
        let specification = json!({
            "outdir": reports,
            "servers": [{ "agent": "msgtrans", "url": url }],
            "cases": cases,
            "exclude-agent-cases": {},
        });
        let mut suite = self.suite("fuzzingclient", &specification)?;
        run_command(&mut suite)
    }

    /// Our client, the suite's server.
    fn dial(&self, tls: bool, cases: &[&str], reports: &Path) -> Result<(), String> {
        let port = free_port()?;
        let scheme = if tls { "wss" } else { "ws" };
        let url = format!("{scheme}://127.0.0.1:{port}");
        let mut specification = json!({
            "url": url,
            "outdir": reports,
            "cases": cases,
            "exclude-agent-cases": {},
        });
        if tls {
            specification["key"] = json!(self.folder.join("key.pem"));
            specification["cert"] = json!(self.folder.join("cert.pem"));
        }
        let mut suite = self.suite("fuzzingserver", &specification)?;
        // Its web pages would take a fixed port.
        suite.args(["-u", "0"]);
        let mut suite = Running(suite.spawn().map_err(|error| error.to_string())?);
        let deadline = Instant::now() + LISTENS_WITHIN;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = suite.0.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || Instant::now() > deadline {
                return Err("the suite's server does not listen; see suite.log".to_owned());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let mut client = Command::new(&self.endpoint);
        client.arg("client").arg(&url);
        if tls {
            client.arg(&self.folder);
        }
        run_command(&mut client)
    }

    fn suite(&self, mode: &str, specification: &Value) -> Result<Command, String> {
        let file = self.folder.join("specification.json");
        fs::write(&file, specification.to_string()).map_err(|error| error.to_string())?;
        let log = fs::File::create(self.folder.join("suite.log")).map_err(|e| e.to_string())?;
        let mut command = Command::new(&self.wstest);
        command
            .args(["-m", mode, "-s"])
            .arg(file)
            .current_dir(&self.folder)
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log);
        if let Some(site) = self.wstest.parent().and_then(Path::parent) {
            command.env("PYTHONUSERBASE", site);
        }
        Ok(command)
    }
}

fn verdicts(index: &Path) -> Result<Verdicts, String> {
    let text = fs::read_to_string(index)
        .map_err(|error| format!("the suite left no report at {}: {error}", index.display()))?;
    let index: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let cases = index
        .as_object()
        .and_then(|agents| agents.values().next())
        .and_then(Value::as_object)
        .ok_or("the report names no agent")?;
    let word = |case: &Value, name| case[name].as_str().unwrap_or("MISSING").to_owned();
    Ok(cases
        .iter()
        .map(|(name, case)| {
            let verdict = [word(case, "behavior"), word(case, "behaviorClose")];
            (name.clone(), verdict)
        })
        .collect())
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener
        .map(|address| address.port())
        .map_err(|error| format!("no free port: {error}"))
}

/// The endpoint, optimised but without the product's whole-program step, which would take minutes.
fn build(workspace: &Workspace, folder: &Path) -> Result<PathBuf, String> {
    let build = "build --release --locked -p msgtrans-websocket --features tls --example autobahn";
    run_command(
        workspace
            .cargo(build.split(' '))
            .arg("--target-dir")
            .arg(folder)
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "4"),
    )?;
    let name = format!("autobahn{}", std::env::consts::EXE_SUFFIX);
    Ok(folder.join("release/examples").join(name))
}

fn install(site: &Path, python: Option<PathBuf>) -> Result<PathBuf, String> {
    let wstest = site.join("bin/wstest");
    if wstest.exists() {
        return Ok(wstest);
    }
    let python = python
        .or_else(|| {
            ["python2.7", "python2"].map(PathBuf::from).into_iter().find(|name| is_python27(name))
        })
        .filter(|name| is_python27(name))
        .ok_or(
            "the suite needs CPython 2.7 with pip: name it by `--python FILE`, or an installed suite by `--wstest FILE`",
        )?;
    println!("installing {SUITE} into {}", site.display());
    let pip = |arguments: &[&str]| {
        run_command(
            Command::new(&python)
                .args(["-m", "pip", "install", "-q", "--user"])
                .args(arguments)
                .env("PYTHONUSERBASE", site)
                .env("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        )
    };
    pip(&[&["--only-binary", WHEELS], REQUIREMENTS].concat())?;
    pip(&["--no-deps", SUITE])?;
    Ok(wstest)
}

fn is_python27(python: &Path) -> bool {
    let version = "import sys, pip; sys.exit(sys.version_info[:2] != (2, 7))";
    Command::new(python)
        .args(["-c", version])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn target_dir(workspace: &Workspace) -> Result<PathBuf, String> {
    let metadata = workspace.metadata()?;
    let folder = metadata["target_directory"].as_str();
    folder
        .map(PathBuf::from)
        .ok_or_else(|| "cargo metadata names no target directory".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_passes_with_its_close_or_not_at_all() {
        let verdicts = [
            ("1.1.1", "OK", "OK"),
            ("1.1.2", "OK", "UNCLEAN"),
            ("6.4.3", "NON-STRICT", "OK"),
            ("7.1.6", "INFORMATIONAL", "INFORMATIONAL"),
        ]
        .map(|(case, one, other)| (case.to_owned(), [one.to_owned(), other.to_owned()]));
        let row = Row::of(&Verdicts::from(verdicts));
        assert_eq!(
            (row.passed, row.ok, row.informational, row.non_strict),
            (2, 2, 1, 1)
        );
        assert_eq!(row.failed, ["1.1.2 OK/UNCLEAN", "6.4.3 NON-STRICT/OK"]);
    }
}
