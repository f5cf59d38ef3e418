//! The harness: starts servers one at a time, loads them in alternating rounds, and compares within each round.

mod baseline;
mod build;
mod detail;
mod docs;
mod html;
mod machine;
mod measure;
mod output;
mod plot;
mod progress;
mod rounds;
mod servers;
mod suites;
mod table;

use baseline::Baseline;
use clap::Parser;
use measure::Bench;
use output::Output;
use serde_json::json;
use servers::{Programs, Server};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use suites::Case;

/// Above this the figures say more about the neighbours.
const OTHERS_MAX_PERCENT: f64 = 5.0;
/// A figure that looks worse than the baseline is measured again in at least so many rounds.
const AGAIN_ROUNDS_MIN: usize = 7;

/// What is not said of an option.
const AFTER_HELP: &str = "\
`cargo xtask bench` builds `msgtrans`, which is then --ours, and whatever else takes part. benches/README.md says what each
figure is. The exit code is 1 when ours or a reference failed, and for what --gate and --baseline say.";

/// Compares servers with the hand-written limit: server CPU per message, rates, latencies, memory.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench", after_help = AFTER_HELP)]
struct Cli {
    /// Protocols or rows of the table of figures to run, as `tcp,P6`; all when absent, and --list tells them
    #[arg(long, value_delimiter = ',')]
    suite: Vec<String>,
    /// Only cases whose name contains this
    #[arg(long)]
    case: Option<String>,
    /// Print the cases that these options choose, with who takes part, and measure nothing
    #[arg(long)]
    list: bool,
    /// Rounds, at least one; in each every server has its turn
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Measured seconds of one turn, 0.05 to 60
    #[arg(long, default_value_t = 0.3, value_parser = seconds)]
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
    #[arg(long, requires = "ours")]
    gate: bool,
    /// Where machine, commit, command and all rounds are written
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the report with plots is written; both lie beside this program when nothing is said
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// An earlier JSON: fail when a figure of ours is worse than there by more than the noise of both, twice in a row
    #[arg(long, value_name = "FILE", requires = "ours")]
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

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    match (0.05..=60.0).contains(&seconds) {
        true => Ok(seconds),
        false => Err("not within 0.05 and 60".to_owned()),
    }
}

fn run(cli: &Cli) -> Result<bool, String> {
    // Whatever can be wrong is found now, before minutes of building and measuring.
    let cases = chosen(cli)?;
    let machine = machine::describe();
    let baseline = cli.baseline.as_deref();
    let baseline = baseline.map(|path| Baseline::read(path, &machine));
    let baseline = baseline.transpose()?;
    let outputs = Outputs::of(cli)?;
    if cli.list {
        print!("{}", list(&cases, &servers(cli, &Programs::nowhere())?));
        return Ok(true);
    }
    if cfg!(debug_assertions) {
        return Err("figures of a debug build mean nothing: run with --release".into());
    }
    let ours = cli.ours.as_ref().map(|program| {
        let found = program.canonicalize();
        found.map_err(|error| format!("{}: {error}", program.display()))
    });
    let programs = Programs {
        ours: ours.transpose()?,
        folder: beside_this()?,
    };
    let servers = servers(cli, &programs)?;

    build::programs(&cases, &programs.folder)?;
    let peers = programs.folder.join("peers");
    let takes_peer = |case: &Case| {
        let mut servers = servers.iter();
        servers.any(|it| it.program == peers && it.runs(case))
    };
    if cases.iter().any(takes_peer) {
        build::peers(&peers);
    }
    let (rounds, seconds, warm_up) = if cli.quick {
        (3, 0.2, 0.1)
    } else {
        (usize::from(cli.rounds), cli.seconds, 0.15)
    };
    let bench = Bench {
        load: programs.folder.join("load"),
        seconds,
        warm_up,
        cores: std::thread::available_parallelism().map_or(1, |cores| cores.get()),
    };
    bench_kit::process::raise_descriptor_limit();
    servers::remove_sockets_of_the_dead(&std::env::temp_dir());

    let command = command(std::env::args().skip(1));
    let begin = Instant::now();
    let results = rounds::run(&cases, &servers, &bench, rounds);
    let rows = table::rows(&results);
    let mut head = vec![
        machine::line(&machine),
        format!("cargo xtask bench {}", command.join(" ")),
        format!(
            "{rounds} rounds of {seconds} s in {:.1} min, median (min-max), ratios paired within a round",
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

    let record = json!({
        "machine": machine,
        "command": command,
        "rounds": rounds,
        "seconds": seconds,
        "results": table::to_json(&results),
        "rows": rows.iter().map(table::Row::to_json).collect::<Vec<_>>(),
    });
    let mut sound = true;
    let mut written = vec![
        outputs.json.write(&format!("{record:#}\n")),
        outputs.html.write(&html::page(&head, &results, &rows)),
    ];
    written.extend(
        outputs
            .docs
            .map(|docs| docs.write(&docs::page(&head, &results, &rows))),
    );
    // A disk that is full by now takes nothing from what is told below.
    for error in written.into_iter().filter_map(Result::err) {
        eprintln!("run: {error}");
        sound = false;
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
        let mut compared = baseline.compare(&rows)?;
        if compared.worse() > 0 {
            let suspects = compared.suspects(&cases);
            eprintln!("run: {} figures look worse, once more", compared.worse());
            let again = rounds::run(&suspects, &servers, &bench, rounds.max(AGAIN_ROUNDS_MIN));
            compared.confirm(&baseline.compare(&table::rows(&again))?);
        }
        print!("{}", compared.text());
        worse = compared.worse();
    }
    for result in results.iter().filter(|result| !result.sound) {
        sound = false;
        print!("{}", table::unsound(result));
    }
    Ok(sound && worse == 0 && !(cli.gate && missed > 0))
}

/// The cases that the command line asks for.
fn chosen(cli: &Cli) -> Result<Vec<Case>, String> {
    let asked = suites::select(&cli.suite)?.into_iter();
    let cases: Vec<Case> = asked
        .filter(|case| {
            let part = cli.case.as_deref();
            part.is_none_or(|part| case.name.contains(part))
        })
        .filter(|case| !(case.slow && cli.quick && cli.suite.is_empty()))
        .collect();
    match cases.is_empty() {
        true => Err("no case has that name; --list prints the names".into()),
        false => Ok(cases),
    }
}

fn servers(cli: &Cli, programs: &Programs) -> Result<Vec<Server>, String> {
    let asked = match cli.peers.as_slice() {
        [] if cli.quick => vec!["none".to_owned()],
        [] => vec!["all".to_owned()],
        named => named.to_vec(),
    };
    servers::all(programs, &cli.ours_wire, &asked, &cli.server)
}

/// A line for each case: what asks for it, its name, who takes part.
fn list(cases: &[Case], servers: &[Server]) -> String {
    let longest = |text: fn(&Case) -> &str| cases.iter().map(|case| text(case).len()).max();
    let suite = longest(|case| &case.suite).unwrap_or(0);
    let name = longest(|case| &case.name).unwrap_or(0);
    let line = |case: &Case| {
        let taking = servers.iter().filter(|server| server.runs(case));
        let taking: Vec<&str> = taking.map(|server| server.name.as_str()).collect();
        let taking = taking.join(" ");
        format!("{:suite$}  {:name$}  {taking}\n", case.suite, case.name)
    };
    cases.iter().map(line).collect()
}

/// What was asked for, without the places of files: they say nothing of how it was measured, and are of one machine.
fn command(words: impl Iterator<Item = String>) -> Vec<String> {
    const FILES: [&str; 4] = ["--ours", "--json", "--html", "--baseline"];
    let mut words = words;
    let mut command = Vec::new();
    while let Some(word) = words.next() {
        match word.split_once('=') {
            Some((option, _)) if FILES.contains(&option) => {}
            None if FILES.contains(&word.as_str()) => drop(words.next()),
            _ => command.push(word),
        }
    }
    command
}

/// The folder of this program, where cargo puts those that it starts.
fn beside_this() -> Result<PathBuf, String> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = me.parent().map(Path::to_path_buf);
    folder.ok_or_else(|| "this program lies nowhere".into())
}

/// The files to write.
struct Outputs {
    json: Output,
    html: Output,
    docs: Option<Output>,
}

impl Outputs {
    fn of(cli: &Cli) -> Result<Self, String> {
        let folder = beside_this()?;
        let at = |asked: &Option<PathBuf>, name: &str| {
            Output::at(asked.clone().unwrap_or_else(|| folder.join(name)))
        };
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/BENCHMARKS.md");
        Ok(Self {
            json: at(&cli.json, "bench.json")?,
            html: at(&cli.html, "bench.html")?,
            docs: cli.write_docs.then(|| Output::at(docs)).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_told_without_places_of_one_machine() {
        let words = "--ours /a/msgtrans --suite P1 --json=/b/c.json --html /d --rounds=9 --gate";
        let told = command(words.split(' ').map(str::to_owned));
        assert_eq!(told.join(" "), "--suite P1 --rounds=9 --gate");
    }
}
