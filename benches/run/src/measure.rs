//! One turn of one server: start it, load it, read what it cost, end it.

use crate::servers::{LastLine, Running, Server};
use crate::suites::{Case, Pin, Work};
use bench_kit::process::{self, pin};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Figures of one turn by name.
pub(crate) type Sample = BTreeMap<String, f64>;

/// The figure that says how much of the machine other processes had, 0 to 1.
pub(crate) const OTHERS: &str = "others_share";
/// `/proc` counts in these.
const TICKS_PER_S: f64 = 100.0;
/// What a load may take beyond the time it was asked for: opening, draining.
pub(crate) const LOAD_SLACK: Duration = Duration::from_secs(75);
/// Memory and CPU are read after the server has been left alone for this long.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);
/// How long a server may take to give closed connections back.
const CLOSE_MAX: Duration = Duration::from_secs(15);
/// An open loop's quantiles need more messages than the cost of one does: a single pause of the machine is in the p99 of
/// a shorter turn.
const OPEN_SECONDS_MIN: f64 = 1.0;
/// Idle connections come from so many loopback addresses, or waves would run out of ports.
const SOURCES: &str = "16";

/// How turns are measured.
pub(crate) struct Bench {
    pub(crate) load: PathBuf,
    pub(crate) seconds: f64,
    /// Seconds before them.
    pub(crate) warm_up: f64,
    /// Of this process while it is not pinned.
    pub(crate) cores: usize,
}

impl Bench {
    /// One turn, and how much of the machine others took meanwhile. `rate` is the reference's rate that an open loop
    /// halves.
    pub(crate) fn measure(
        &self,
        case: &Case,
        server: &Server,
        rate: Option<f64>,
    ) -> Result<Sample, String> {
        let ticks = || process::ticks_of_all_and_own().map_err(|error| error.to_string());
        let ((all, own), begin) = (ticks()?, Instant::now());
        let mut sample = self.turn(case, server, rate)?;
        // Server and load have ended by now, so their time is among this process's own.
        let (all_after, own_after) = ticks()?;
        let others = (all_after - all).saturating_sub(own_after - own) as f64 / TICKS_PER_S;
        sample.insert(
            OTHERS.into(),
            others / begin.elapsed().as_secs_f64() / self.cores as f64,
        );
        Ok(sample)
    }

    fn turn(&self, case: &Case, server: &Server, rate: Option<f64>) -> Result<Sample, String> {
        let unpin = || {
            let cores: Vec<usize> = (0..self.cores).collect();
            pin(&cores).map_err(|error| error.to_string())
        };
        if let Work::Own(turn) = case.work {
            let sample = turn(self, server, case);
            return unpin().and(sample);
        }
        let mut running = self.start(server, case)?;
        let sample = match &case.work {
            Work::Load {
                mode,
                connections,
                window,
                payload,
            } => {
                let mut args = vec![
                    (*mode).to_owned(),
                    format!("--connections={connections}"),
                    format!("--payload={payload}"),
                ];
                if *mode == "echo" {
                    args.push(format!("--window={window}"));
                }
                self.steady(server, &running, args, self.seconds)
            }
            Work::OpenHalf {
                connections, burst, ..
            } => {
                let rate = rate.ok_or("the reference has no rate to halve")? / 2.0;
                let open = ["open".to_owned(), format!("--connections={connections}")];
                let mut args = open.to_vec();
                args.extend([format!("--rate={rate:.0}"), format!("--burst={burst}")]);
                self.steady(server, &running, args, self.seconds.max(OPEN_SECONDS_MIN))
            }
            Work::Idle { connections, waves } => self.idle(server, &running, *connections, *waves),
            Work::Own(_) => return Err("its own turn is taken above".into()),
        };
        let unpinned = unpin();
        running.check()?;
        unpinned.and(sample)
    }

    /// Starts the server on its core and leaves this thread, and so what it starts next, on the core of the load.
    pub(crate) fn start(&self, server: &Server, case: &Case) -> Result<Running, String> {
        let load_core = usize::from(case.pin == Pin::Split && self.cores > 1);
        // The pin of this thread is inherited by what it starts, which has no moment of running elsewhere.
        let at = |core: usize| pin(&[core]).map_err(|error| format!("core {core}: {error}"));
        at(0)?;
        let running = server.start(case)?;
        at(load_core)?;
        Ok(running)
    }

    /// The load against a running server; `args` begin with its mode.
    pub(crate) fn load(&self, server: &Server, running: &Running, args: &[String]) -> Command {
        let mut command = Command::new(&self.load);
        command
            .args(args)
            .args(["--target", &running.url, "--wire", &server.wire]);
        command
    }

    /// A steady run of the load of so many seconds, with its figures under the names that metrics use.
    pub(crate) fn steady(
        &self,
        server: &Server,
        running: &Running,
        args: Vec<String>,
        seconds: f64,
    ) -> Result<Sample, String> {
        let mut command = self.load(server, running, &args);
        command.args([
            "--watch",
            &running.pid().to_string(),
            "--seconds",
            &seconds.to_string(),
            "--warm-up",
            &self.warm_up.to_string(),
        ]);
        let mut talk = Talk::start(command)?;
        let line = talk.line(Duration::from_secs_f64(seconds) + LOAD_SLACK)?;
        talk.end()?;
        Ok(figures(&line))
    }

    /// A program of this workspace.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.load.with_file_name(name)
    }

    fn idle(
        &self,
        server: &Server,
        running: &Running,
        connections: usize,
        waves: usize,
    ) -> Result<Sample, String> {
        let gone = |error: std::io::Error| format!("the server: {error}");
        let pid = running.pid();
        std::thread::sleep(SETTLE);
        let start_bytes = process::resident_bytes(pid).map_err(gone)? as f64;
        let descriptors = process::descriptors(pid).map_err(gone)?;
        let mut sample = Sample::from([("start_bytes".to_owned(), start_bytes)]);
        for wave in 1..=waves {
            let cpu = process::cpu_ns(pid).map_err(gone)?;
            let args = [
                "idle".to_owned(),
                format!("--connections={connections}"),
                format!("--sources={SOURCES}"),
            ];
            let mut talk = Talk::start(self.load(server, running, &args))?;
            let up = talk.line(LOAD_SLACK)?;
            wait_for(|| {
                process::descriptors(pid).is_ok_and(|now| now >= descriptors + connections)
            });
            let used = process::cpu_ns(pid).map_err(gone)? - cpu;
            std::thread::sleep(SETTLE);
            if wave == 1 {
                let bytes = process::resident_bytes(pid).map_err(gone)? as f64;
                sample.insert(
                    "session_bytes".into(),
                    (bytes - start_bytes) / connections as f64,
                );
                sample.insert("accept_us".into(), used as f64 / 1e3 / connections as f64);
                sample.extend(number(&up, "seconds").map(|value| ("open_s".to_owned(), value)));
                sample.extend(
                    number(&up, "syn_retransmits")
                        .map(|value| ("syn_retransmits".to_owned(), value)),
                );
            }
            // Every connection answers: none of them was accepted only in name.
            talk.say("echo")?;
            talk.line(LOAD_SLACK)?;
            talk.say("close")?;
            talk.line(LOAD_SLACK)?;
            talk.end()?;
            if !wait_for(|| process::descriptors(pid).is_ok_and(|now| now <= descriptors)) {
                return Err(format!(
                    "wave {wave}: closed connections keep their descriptors"
                ));
            }
            std::thread::sleep(SETTLE);
            let left = process::resident_bytes(pid).map_err(gone)? as f64 - start_bytes;
            sample.insert(format!("left_bytes_{wave}"), left);
        }
        Ok(sample)
    }
}

/// A program that measures itself for as long as a turn takes and prints one line. It runs where this thread may run.
pub(crate) fn program(bench: &Bench, mut command: Command) -> Result<Sample, String> {
    command.arg(format!("--seconds={}", bench.seconds));
    let mut talk = Talk::start(command)?;
    let line = talk.line(Duration::from_secs_f64(bench.seconds) + LOAD_SLACK)?;
    talk.end()?;
    Ok(figures(&line))
}

/// What a load or a program has printed, under the names that metrics use.
fn figures(line: &Value) -> Sample {
    let mut sample = Sample::new();
    let messages = number(line, "messages").unwrap_or(1.0);
    for (key, name) in [
        ("cpu", "server_cpu_ns_per_message"),
        ("cpu", "cpu_ns_per_message"),
        ("cpu_share", "server_cpu_share"),
        ("rate", "messages_per_s"),
        ("load_cpu", "load_cpu_ns_per_message"),
        ("load_cpu_share", "load_cpu_share"),
        ("messages_per_read", "messages_per_read"),
        ("switches_per_1000", "switches_per_1000"),
        ("bytes_per_s", "bytes_per_s"),
    ] {
        sample.extend(number(line, name).map(|value| (key.to_owned(), value)));
    }
    for key in ["p50", "p90", "p99", "p999", "max"] {
        let value = line
            .get("latency_us")
            .and_then(|latency| number(latency, key));
        sample.extend(value.map(|value| (key.to_owned(), value)));
    }
    let switches = ["server_voluntary_switches", "server_involuntary_switches"];
    let switches: Vec<f64> = switches
        .iter()
        .filter_map(|name| number(line, name))
        .collect();
    if !switches.is_empty() {
        let all: f64 = switches.iter().sum();
        sample.insert("switches_per_1000".into(), all * 1e3 / messages);
    }
    sample
}

/// A number of a line that the load printed.
pub(crate) fn number(line: &Value, name: &str) -> Option<f64> {
    line.get(name)?.as_f64()
}

/// Polls until `done`, and says whether that came to be.
pub(crate) fn wait_for(done: impl Fn() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < CLOSE_MAX {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// A load process: JSON lines from it, commands to it. Killed when dropped.
pub(crate) struct Talk {
    child: Child,
    said: Option<LastLine>,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Talk {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        let mut child = process::ends_with_this_thread(&mut command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("load: {error}"))?;
        let said = LastLine::of(child.stderr.take());
        let (input, stdout) = (child.stdin.take(), child.stdout.take());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout
                .into_iter()
                .flat_map(|out| BufReader::new(out).lines())
                .map_while(Result::ok)
            {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            said: Some(said),
            input,
            lines,
        })
    }

    /// Its next line.
    pub(crate) fn line(&mut self, patience: Duration) -> Result<Value, String> {
        let line = self.lines.recv_timeout(patience).map_err(|_| {
            let why = self.said.take().map(LastLine::take).unwrap_or_default();
            if why.is_empty() {
                "the load hangs".to_owned()
            } else {
                why.trim_start_matches("load: ").to_owned()
            }
        })?;
        serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))
    }

    /// Gives it a line.
    pub(crate) fn say(&mut self, command: &str) -> Result<(), String> {
        let input = self.input.as_mut().ok_or("the load has no input")?;
        writeln!(input, "{command}").map_err(|error| format!("load: {error}"))
    }

    /// Waits for its end, which has to be a good one.
    pub(crate) fn end(mut self) -> Result<(), String> {
        self.input = None;
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("the load ended with {status}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        // Both fail only for a process that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
