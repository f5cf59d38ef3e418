//! The harness: starts servers one at a time, loads them in alternating rounds, and compares within each round.

mod machine;
mod measure;
mod servers;
mod suites;
mod table;

use clap::Parser;
use measure::{Bench, Sample};
use serde_json::json;
use servers::{Programs, Server};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use suites::Case;

/// Above this the figures say more about the neighbours.
const OTHERS_MAX_PERCENT: f64 = 5.0;

/// Compares servers with the hand-written limit: server CPU per message, rates, latencies, memory.
#[derive(Parser)]
struct Cli {
    /// Protocols or rows of the table of figures to run, as `tcp,P6`; all when absent
    #[arg(long, value_delimiter = ',')]
    suite: Vec<String>,
    /// Only cases whose name contains this
    #[arg(long)]
    case: Option<String>,
    /// Rounds; in each every server has its turn
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Measured seconds of one turn
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Three rounds of one second: a first look
    #[arg(long)]
    quick: bool,
    /// The msgtrans program
    #[arg(long)]
    ours: Option<PathBuf>,
    /// What is spoken with ours: v2 or v1
    #[arg(long, default_value = "v2")]
    ours_wire: String,
    /// Built-in peers: tokio-raw, tokio-framed, tokio-framed-batched
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Any other server: NAME=WIRE:COMMAND, where {scheme} and {role} stand for tcp or ws and for echo or sink
    #[arg(long, value_name = "NAME=WIRE:COMMAND")]
    server: Vec<String>,
    /// Fail when ours misses a figure that it must reach
    #[arg(long)]
    gate: bool,
    /// Where machine, commit, command and all rounds are written
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool, String> {
    if cfg!(debug_assertions) {
        return Err("figures of a debug build mean nothing: run with --release".into());
    }
    let (rounds, seconds) = if cli.quick {
        (3, 1.0)
    } else {
        (cli.rounds.max(1), cli.seconds)
    };
    let cases: Vec<Case> = suites::select(&cli.suite)?
        .into_iter()
        .filter(|case| {
            cli.case
                .as_ref()
                .is_none_or(|part| case.name.contains(part.as_str()))
        })
        .filter(|case| !(case.slow && cli.quick && cli.suite.is_empty()))
        .collect();
    if cases.is_empty() {
        return Err("no case has that name".into());
    }
    let ours = cli.ours.as_ref().map(|program| {
        let found = program.canonicalize();
        found.map_err(|error| format!("{}: {error}", program.display()))
    });
    let programs = Programs {
        folder: build(&cases)?,
        ours: ours.transpose()?,
    };
    let servers = servers::all(&programs, &cli.ours_wire, &cli.peers, &cli.server)?;
    let bench = Bench {
        load: programs.folder.join("load"),
        seconds,
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
    };
    bench_kit::process::raise_descriptor_limit();

    let takes = |case: &Case| servers.iter().filter(|server| server.runs(case)).count();
    let turns = cases
        .iter()
        .map(|case| takes(case) * rounds.min(case.rounds_max));
    let mut progress = Progress {
        turn: 0,
        turns: turns.sum(),
        terminal: std::io::stderr().is_terminal(),
    };
    let (mut results, mut sound) = (Vec::new(), true);
    for case in &cases {
        let taking: Vec<&Server> = servers.iter().filter(|server| server.runs(case)).collect();
        let mut samples: Vec<Vec<Option<Sample>>> = vec![Vec::new(); taking.len()];
        let rounds = rounds.min(case.rounds_max);
        for round in 0..rounds {
            for (index, server) in taking.iter().enumerate() {
                progress.next(&format!(
                    "{} {} round {} of {rounds}: {}",
                    case.suite,
                    case.name,
                    round + 1,
                    server.name
                ));
                let rate = table::rate_for(case, &results);
                let sample = bench.measure(case, server, rate).map_err(|error| {
                    sound = false;
                    eprintln!(
                        "\nrun: {} {} {}: {error}",
                        case.suite, case.name, server.name
                    );
                });
                samples[index].push(sample.ok());
            }
        }
        let names = taking.iter().map(|server| server.name.clone());
        results.push(table::CaseResult {
            case: case.clone(),
            servers: names.zip(samples).collect(),
        });
    }
    progress.end();

    let rows = table::rows(&results);
    let machine = machine::describe();
    println!("{}", machine::line(&machine));
    println!("{rounds} rounds of {seconds} s, median (min-max), ratios paired within a round");
    if let Some(others) = table::others(&results) {
        let (median, max) = (others.median * 100.0, others.max * 100.0);
        let advice = if median > OTHERS_MAX_PERCENT {
            "; that is too much, run again on a quiet machine"
        } else {
            ""
        };
        println!("other processes took {median:.1} % of the machine, {max:.0} % at most{advice}");
    }
    println!();
    print!("{}", table::render(&rows));
    if let Some(path) = &cli.json {
        let record = json!({
            "machine": machine,
            "command": std::env::args().skip(1).collect::<Vec<_>>(),
            "rounds": rounds,
            "seconds": seconds,
            "results": table::to_json(&results),
            "rows": rows.iter().map(table::Row::to_json).collect::<Vec<_>>(),
        });
        write_json(path, &record).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let missed = rows
        .iter()
        .filter(|row| row.server == servers::OURS && row.kept == Some(false))
        .count();
    if missed > 0 {
        println!("\n{missed} figures of ours miss what they must reach");
    }
    Ok(sound && !(cli.gate && missed > 0))
}

fn write_json(path: &Path, record: &serde_json::Value) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, format!("{record:#}\n"))
}

/// Builds the load, the limit servers and what these cases need besides, and says where they are: beside this very
/// program.
fn build(cases: &[Case]) -> Result<PathBuf, String> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut packages = vec!["load", "limit"];
    for package in cases.iter().flat_map(|case| case.packages) {
        if !packages.contains(package) {
            packages.push(package);
        }
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--manifest-path", manifest])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err(format!("{} do not build", packages.join(" ")));
    }
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    me.parent()
        .map(Path::to_path_buf)
        .ok_or_else(|| "this program lies nowhere".into())
}

/// One line on standard error, rewritten where that is a terminal.
struct Progress {
    turn: usize,
    turns: usize,
    terminal: bool,
}

impl Progress {
    fn next(&mut self, what: &str) {
        self.turn += 1;
        let mut err = std::io::stderr().lock();
        let (begin, end) = if self.terminal {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        // Progress that cannot be shown is no reason to stop measuring.
        let _ = write!(err, "{begin}[{}/{}] {what}{end}", self.turn, self.turns);
        let _ = err.flush();
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
