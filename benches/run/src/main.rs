//! The harness: starts servers one at a time, loads them in alternating rounds, and compares within each round.

mod baseline;
mod build;
mod detail;
mod docs;
mod html;
mod machine;
mod measure;
mod plot;
mod rounds;
mod servers;
mod suites;
mod table;

use baseline::Baseline;
use clap::Parser;
use measure::Bench;
use serde_json::json;
use servers::Programs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
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
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// A first look: three rounds of a fifth of a second, without the slow cases and without peers unless named
    #[arg(long)]
    quick: bool,
    /// The msgtrans program
    #[arg(long)]
    ours: Option<PathBuf>,
    /// What is spoken with ours: v2 or v1
    #[arg(long, default_value = "v2")]
    ours_wire: String,
    /// Other people's servers by name, or `none`, or `all`, which is the default except with --quick
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
    /// Where the report with plots is written; both lie beside this program when nothing is said
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// An earlier JSON: fail when a figure of ours is worse than there by more than the noise of both
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write docs/BENCHMARKS.md; its head names the command, and so the suites where not all ran
    #[arg(long, conflicts_with_all = ["case", "quick"])]
    write_docs: bool,
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
    let (rounds, seconds, warm_up) = if cli.quick {
        (3, 0.2, 0.1)
    } else {
        (cli.rounds.max(1), cli.seconds, 0.15)
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
    let asked = match cli.peers.as_slice() {
        [] if cli.quick => vec!["none".to_owned()],
        [] => vec!["all".to_owned()],
        named => named.to_vec(),
    };
    let ours = cli.ours.as_ref().map(|program| {
        let found = program.canonicalize();
        found.map_err(|error| format!("{}: {error}", program.display()))
    });
    let baseline = cli.baseline.as_deref().map(Baseline::read).transpose()?;
    let programs = Programs {
        folder: build::programs(&cases)?,
        ours: ours.transpose()?,
    };
    let servers = servers::all(&programs, &cli.ours_wire, &asked, &cli.server)?;
    let peers = programs.folder.join("peers");
    let takes_peer = |case: &Case| {
        servers
            .iter()
            .any(|it| it.program == peers && it.runs(case))
    };
    if cases.iter().any(takes_peer) {
        build::peers(&peers);
    }
    let bench = Bench {
        load: programs.folder.join("load"),
        seconds,
        warm_up,
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
    };
    bench_kit::process::raise_descriptor_limit();

    let begin = Instant::now();
    let results = rounds::run(&cases, &servers, &bench, rounds);
    let rows = table::rows(&results);
    let machine = machine::describe();
    let mut head = vec![
        machine::line(&machine),
        format!(
            "{rounds} rounds of {seconds} s in {:.0} min, median (min-max), ratios paired within a round",
            begin.elapsed().as_secs_f64() / 60.0
        ),
    ];
    if let Some(others) = table::others(&results) {
        let (median, max) = (others.median * 100.0, others.max * 100.0);
        let advice = if median > OTHERS_MAX_PERCENT {
            "; that is too much, run again on a quiet machine"
        } else {
            ""
        };
        head.push(format!(
            "other processes took {median:.1} % of the machine, {max:.0} % at most{advice}"
        ));
    }
    println!("{}\n\n{}", head.join("\n"), table::render(&rows));

    let command: Vec<String> = std::env::args().skip(1).collect();
    let record = json!({
        "machine": machine,
        "command": command,
        "rounds": rounds,
        "seconds": seconds,
        "results": table::to_json(&results),
        "rows": rows.iter().map(table::Row::to_json).collect::<Vec<_>>(),
    });
    let beside = |name: &str| programs.folder.join(name);
    let json = cli.json.clone().unwrap_or_else(|| beside("bench.json"));
    let html = cli.html.clone().unwrap_or_else(|| beside("bench.html"));
    write(&json, &format!("{record:#}\n"))?;
    write(&html, &html::page(&head, &results, &rows))?;
    if cli.write_docs {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/BENCHMARKS.md");
        write(&path, &docs::page(&head, &results, &rows))?;
    }

    let missed = rows
        .iter()
        .filter(|row| row.server == servers::OURS && row.kept == Some(false))
        .count();
    if missed > 0 {
        println!("{missed} figures of ours miss what they must reach");
    }
    let mut worse = 0;
    if let Some(baseline) = baseline {
        let compared = baseline.compare(&rows);
        print!("{}", compared.text);
        worse = compared.worse;
    }
    let sound = results.iter().all(|result| result.sound);
    Ok(sound && worse == 0 && !(cli.gate && missed > 0))
}

/// Writes a file and says so.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let parent = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    parent
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    eprintln!("run: {}", path.display());
    Ok(())
}
