//! `cargo xtask fuzz`: libFuzzer with AddressSanitizer on every target, and the proof that it finds bugs.
//!
//! Builds the programs of `fuzz/` as cargo-fuzz would, with the nightly compiler; what the fuzzers collect stays in the
//! target directory until `--minimise` merges it into the committed corpus.

mod planted;

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::results;
use crate::workspace::{Workspace, forget_this_package, run as run_command};

/// How many fuzzers run beside each other.
const JOBS: usize = 2;
/// One input may take this long, in seconds of the clock on the wall, which other programs take from too; and the process
/// this much memory, in MiB.
const INPUT_SECONDS_MAX: u64 = 5;
const MEMORY_MIB_MAX: u64 = 512;
/// The longest input that is made up; what needs more bytes has filler of its own.
const INPUT_BYTES_MAX: u64 = 4096;
/// At most so many files of a corpus are committed, the smallest first.
const CORPUS_FILES_MAX: usize = 120;

const USAGE: &str =
    "usage: cargo xtask fuzz [--minutes N] [TARGET...] | --prove [N...] | --minimise [TARGET...]";

/// What SanitizerCoverage needs to be told; the same flags that cargo-fuzz gives.
const COVERAGE_FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg=fuzzing -Zsanitizer=address -Ccodegen-units=4";

/// Runs the fuzzers, or what an option asks for instead.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), String> {
    let mut minutes = 1.0_f64;
    let mut mode = None;
    let mut names = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--minutes" => {
                minutes = rest
                    .next()
                    .and_then(|text| text.parse().ok())
                    .filter(|minutes: &f64| *minutes > 0.0 && minutes.is_finite())
                    .ok_or("--minutes takes a number above 0")?;
            }
            "--prove" | "--minimise" => mode = Some(argument.as_str()),
            option if option.starts_with('-') => {
                return Err(format!("unknown option {option}\n{USAGE}"));
            }
            name => names.push(name.to_owned()),
        }
    }
    let fuzzers = Fuzzers::locate(workspace)?;
    match mode {
        Some("--prove") => planted::prove(&fuzzers, &names),
        Some(_) => fuzzers.minimise(&fuzzers.chosen(&names)?),
        None => fuzzers.fuzz(&fuzzers.chosen(&names)?, minutes),
    }
}

/// The programs of `fuzz/` and where they keep what they find.
pub(super) struct Fuzzers<'a> {
    workspace: &'a Workspace,
    host: String,
    /// For programs, inputs and artifacts.
    target_dir: PathBuf,
}

/// How one run of libFuzzer ended.
pub(super) struct Ended {
    executions: u64,
    edges: u64,
    took: Duration,
    /// The input that broke a promise, and what the program said about it.
    failure: Option<String>,
}

impl<'a> Fuzzers<'a> {
    fn locate(workspace: &'a Workspace) -> Result<Self, String> {
        let rustc = Command::new("rustup")
            .args(["run", "nightly", "rustc", "-vV"])
            .stderr(Stdio::null())
            .output();
        let described = rustc.ok().filter(|output| output.status.success()).ok_or(
            "there is no nightly toolchain here, and the sanitizers need one: `rustup toolchain \
             install nightly`. The corpus runs on any toolchain: `cargo test -p msgtrans-fuzz`",
        )?;
        let host = String::from_utf8_lossy(&described.stdout)
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .ok_or("rustc names no host")?
            .to_owned();
        let metadata = workspace.metadata()?;
        let target_dir = metadata
            .get("target_directory")
            .and_then(serde_json::Value::as_str)
            .ok_or("cargo metadata names no target directory")?;
        Ok(Self {
            workspace,
            host,
            target_dir: Path::new(target_dir).join("fuzz"),
        })
    }

    fn targets(&self) -> Result<Vec<String>, String> {
        let folder = self.workspace.root().join("fuzz/fuzz_targets");
        let mut targets: Vec<String> = files_of(&folder)?
            .iter()
            .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
            .collect();
        targets.sort_unstable();
        Ok(targets)
    }

    /// The targets of these names, or all.
    fn chosen(&self, names: &[String]) -> Result<Vec<String>, String> {
        let targets = self.targets()?;
        if names.is_empty() {
            return Ok(targets);
        }
        match names.iter().find(|name| !targets.contains(name)) {
            Some(name) => Err(format!(
                "no target `{name}`; the targets are {}",
                targets.join(", ")
            )),
            None => Ok(names.to_vec()),
        }
    }

    /// Builds the programs called `targets`; `configuration` goes to cargo. Each crate keeps several builds side by
    /// side, so that a planted bug costs that crate and those above it alone.
    fn build(&self, targets: &[String], configuration: &[String]) -> Result<(), String> {
        let mut command = Command::new("rustup");
        command
            .args(["run", "nightly", "cargo", "build", "--release"])
            .args(["--quiet", "--manifest-path", "fuzz/Cargo.toml"])
            .args(["--target", &self.host])
            .args(configuration)
            .current_dir(self.workspace.root())
            .env("CARGO_TARGET_DIR", self.target_dir.join("build"))
            .env("RUSTFLAGS", COVERAGE_FLAGS)
            .env("CARGO_INCREMENTAL", "0")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC")
            .env_remove("CARGO");
        forget_this_package(&mut command);
        for target in targets {
            command.args(["--bin", target]);
        }
        run_command(&mut command)
    }

    fn program(&self, target: &str) -> PathBuf {
        let build = self.target_dir.join("build").join(&self.host);
        build.join("release").join(target)
    }

    /// The committed inputs.
    fn committed(&self, target: &str) -> PathBuf {
        self.workspace.root().join("fuzz/corpus").join(target)
    }

    /// libFuzzer on `target`: inputs from `corpora`, what is new into the first of them.
    fn libfuzzer(&self, target: &str, seconds: u64, corpora: &[&Path]) -> Result<Ended, String> {
        let artifacts = self.target_dir.join("artifacts").join(target);
        make(&artifacts)?;
        let program = self.program(target);
        let start = Instant::now();
        let output = Command::new(&program)
            .args(corpora)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .args(["-print_final_stats=1", "-verbosity=1"])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            // The freed memory that the sanitizer keeps back would count as the program's.
            .env("ASAN_OPTIONS", "quarantine_size_mb=32:detect_leaks=1")
            .output()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let took = start.elapsed();
        let failure = (!output.status.success()).then(|| {
            let said = text
                .lines()
                .skip_while(|line| !line.contains("panicked at") && !line.contains("ERROR"))
                .take(3)
                .collect::<Vec<_>>()
                .join("; ");
            let input = text
                .lines()
                .find_map(|line| line.split_once("Test unit written to "));
            match input {
                Some((_, input)) => format!("{said} (input: {input})"),
                None => format!("{said} ({})", output.status),
            }
        });
        Ok(Ended {
            executions: executions(&text),
            edges: edges(&text),
            took,
            failure,
        })
    }

    fn fuzz(&self, targets: &[String], minutes: f64) -> Result<(), String> {
        println!("building {} programs with AddressSanitizer", targets.len());
        self.build(targets, &[])?;
        let seconds = (minutes * 60.0).ceil().max(1.0) as u64;
        let queue = Mutex::new(targets.iter().cloned().collect::<VecDeque<_>>());
        let ended = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..JOBS {
                scope.spawn(|| {
                    loop {
                        let Some(target) = lock(&queue).pop_front() else {
                            return;
                        };
                        let outcome = self.fuzz_one(&target, seconds);
                        if let Ok(ended) = &outcome {
                            println!("{}", line(&target, ended));
                        }
                        lock(&ended).push((target, outcome));
                    }
                });
            }
        });
        let mut ended = std::mem::take(&mut *lock(&ended));
        ended.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut table = String::from(
            "| target | seconds | executions | edges | failures |\n|---|---|---|---|---|\n",
        );
        let (mut executions, mut failures) = (0, Vec::new());
        for (target, outcome) in ended {
            let ended = outcome?;
            executions += ended.executions;
            let failed = usize::from(ended.failure.is_some());
            table.push_str(&format!(
                "| {target} | {} | {} | {} | {failed} |\n",
                ended.took.as_secs(),
                ended.executions,
                ended.edges
            ));
            failures.extend(ended.failure.map(|failure| format!("{target}: {failure}")));
        }
        println!(
            "{} targets, {executions} executions, {} failures",
            targets.len(),
            failures.len()
        );
        if !failures.is_empty() {
            return Err(failures.join("\n"));
        }
        if targets.len() == self.targets()?.len() {
            let summary = format!(
                "{} targets, {seconds} s each, {JOBS} at a time, AddressSanitizer and LeakSanitizer: \
                 {executions} executions, 0 failures.\n\n{table}",
                targets.len()
            );
            results::record(self.workspace, "cargo xtask fuzz", &summary)?;
        }
        Ok(())
    }

    fn fuzz_one(&self, target: &str, seconds: u64) -> Result<Ended, String> {
        let work = self.target_dir.join("corpus").join(target);
        make(&work)?;
        self.libfuzzer(target, seconds, &[&work, &self.committed(target)])
    }

    /// Replaces the committed corpus by the fewest inputs that reach what it and the collected ones reach.
    fn minimise(&self, targets: &[String]) -> Result<(), String> {
        self.build(targets, &[])?;
        for target in targets {
            let (work, merged) = (
                self.target_dir.join("corpus").join(target),
                self.target_dir.join("merged").join(target),
            );
            make(&work)?;
            let _ = fs::remove_dir_all(&merged);
            make(&merged)?;
            let committed = self.committed(target);
            run_command(
                Command::new(self.program(target))
                    .args([Path::new("-merge=1"), &merged, &committed, &work])
                    .stderr(Stdio::null()),
            )?;
            let mut inputs = Vec::new();
            for path in files_of(&merged)? {
                let bytes = fs::read(&path).map_err(|error| error.to_string())?;
                inputs.push((bytes.len(), path));
            }
            inputs.sort_unstable();
            inputs.truncate(CORPUS_FILES_MAX);
            for path in files_of(&committed)? {
                fs::remove_file(path).map_err(|error| error.to_string())?;
            }
            let mut bytes = 0;
            for (len, path) in &inputs {
                let name = path.file_name().ok_or("an input without a name")?;
                fs::copy(path, committed.join(name)).map_err(|error| error.to_string())?;
                bytes += len;
            }
            println!("{target}: {} inputs, {bytes} bytes", inputs.len());
        }
        Ok(())
    }
}

fn line(target: &str, ended: &Ended) -> String {
    let verdict = ended.failure.as_deref().unwrap_or("ok");
    format!(
        "{target:15} {:5} s {:>12} executions {:>6} edges  {verdict}",
        ended.took.as_secs(),
        ended.executions,
        ended.edges
    )
}

/// From the final statistics, or, where a failure came before them, from the last line of progress.
fn executions(text: &str) -> u64 {
    let last = text.lines().rev().find_map(|line| {
        let stat = line.strip_prefix("stat::number_of_executed_units:");
        stat.or_else(|| {
            let (number, rest) = line.strip_prefix('#')?.split_once(char::is_whitespace)?;
            rest.contains("cov:").then_some(number)
        })
    });
    last.and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

fn edges(text: &str) -> u64 {
    text.lines()
        .rev()
        .find_map(|line| line.split_once(" cov: "))
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("cannot list {}: {error}", folder.display());
    fs::read_dir(folder)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}

fn make(folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executions_come_from_the_end_of_what_libfuzzer_says() {
        let whole = "#2\tINITED cov: 5 ft: 6\nstat::number_of_executed_units: 1234\nstat::x: 9\n";
        assert_eq!((executions(whole), edges(whole)), (1234, 5));
        let cut =
            "#2\tINITED cov: 5 ft: 6\n#4096\tpulse  cov: 7 ft: 9 corp: 3/9b\n==1== ERROR: x\n";
        assert_eq!((executions(cut), edges(cut)), (4096, 7));
        assert_eq!((executions(""), edges("")), (0, 0));
    }
}
