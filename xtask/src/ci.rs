//! `cargo xtask ci`: every check a change must pass, in one summary.
//!
//! The order is from cheap to dear, and no step stops the next. All steps but loom share one
//! target directory and the same compiler flags (`-D warnings` reaches clippy as an argument,
//! not through RUSTFLAGS), so that each dependency is built as seldom as possible.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::workspace::{Workspace, describe, run as run_command};
use crate::{counts, crate_counts, endurance, layers, lists, shuttle, tidy};

/// The crate whose features users choose.
const FACADE: &str = "msgtrans";

/// How many preemptions a loom model explores unless it sets a bound of its own, or the caller
/// sets LOOM_MAX_PREEMPTIONS. Without a bound the models of three threads do not end in CI's time.
const LOOM_PREEMPTIONS_MAX: &str = "3";

enum Outcome {
    Ok,
    Failed(String),
    NotRun(&'static str),
}

struct Step<'a> {
    /// A group and a member, as in `features: tcp`, or a single word.
    name: String,
    action: Box<dyn Fn() -> Outcome + 'a>,
}

struct Report {
    name: String,
    outcome: Outcome,
    took: Duration,
}

/// Runs all steps, or those whose name or group is in `chosen`, and prints the summary.
pub(crate) fn run(workspace: &Workspace, chosen: &[String]) -> Result<(), String> {
    let mut steps = steps(workspace);
    for name in chosen {
        if !steps.iter().any(|step| step.answers_to(name)) {
            let known: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
            return Err(format!(
                "no step `{name}`; the steps are {}",
                known.join(", ")
            ));
        }
    }
    if !chosen.is_empty() {
        steps.retain(|step| chosen.iter().any(|name| step.answers_to(name)));
    }

    let mut reports = Vec::with_capacity(steps.len());
    for step in steps {
        println!("\n==> {}", step.name);
        let start = Instant::now();
        let outcome = (step.action)();
        let took = start.elapsed();
        let verdict = match &outcome {
            Outcome::Failed(reason) => format!("FAILED: {reason}"),
            Outcome::NotRun(reason) => format!("NOT RUN: {reason}"),
            Outcome::Ok => "ok".to_owned(),
        };
        println!("<== {}: {verdict} ({:.1} s)", step.name, took.as_secs_f64());
        reports.push(Report {
            name: step.name,
            outcome,
            took,
        });
    }
    print!("\n{}", summary(&reports));
    let failed = reports
        .iter()
        .filter(|report| matches!(report.outcome, Outcome::Failed(_)))
        .count();
    match failed {
        0 => Ok(()),
        1 => Err("1 step failed".to_owned()),
        _ => Err(format!("{failed} steps failed")),
    }
}

fn steps(workspace: &Workspace) -> Vec<Step<'_>> {
    let mut steps = vec![
        Step::of("fmt", || {
            run_command(&mut cargo(workspace, "fmt --all --check"))
        }),
        Step::of("layers", || layers::run(workspace)),
        Step::of("tidy", || tidy::run(workspace)),
        Step::of("lists", || lists::run(workspace)),
        Step::of("crate-counts", || crate_counts::run(workspace)),
        Step::of("clippy", || {
            let clippy = "clippy --workspace --all-targets --locked -- -D warnings";
            run_command(&mut cargo(workspace, clippy))
        }),
        Step::of("tests", || {
            let test = "test --workspace --locked --no-fail-fast";
            run_command(&mut cargo(workspace, test))
        }),
        Step::of("docs", || {
            // Libraries alone: the command is called `msgtrans` like the facade, and its pages
            // would overwrite the facade's.
            let mut doc = cargo(workspace, "doc --workspace --lib --no-deps --locked");
            run_command(doc.env("RUSTDOCFLAGS", "-D warnings"))
        }),
    ];
    steps.push(Step::of("churn", || endurance::churn_short(workspace)));
    steps.push(Step::of("soak", || endurance::soak_short(workspace)));
    match workspace.metadata().and_then(|it| facade_features(&it)) {
        Ok(features) => steps.extend(feature_steps(workspace, features)),
        Err(reason) => steps.push(Step::of("features", move || Err(reason.clone()))),
    }
    steps.push(Step::of("loom", || loom(workspace)));
    steps.push(Step::of("shuttle", || shuttle::short(workspace)));
    steps.push(Step::of("benches", || {
        // Without --locked, as in `counts`. The harness and what it shares: what judges a regression has to be right.
        let manifest = "--manifest-path benches/Cargo.toml -p bench-kit -p run";
        run_command(&mut cargo(workspace, &format!("fmt --check {manifest}")))?;
        run_command(&mut cargo(workspace, &format!("test {manifest}")))
    }));
    steps.push(Step {
        name: "counts".to_owned(),
        action: Box::new(|| match counts::missing_tool() {
            Some(reason) => Outcome::NotRun(reason),
            None => Outcome::from(counts::check(workspace)),
        }),
    });
    steps.push(Step {
        name: "deny".to_owned(),
        action: Box::new(|| deny(workspace)),
    });
    steps
}

/// Each feature of the facade alone, and none at all.
fn feature_steps(workspace: &Workspace, features: Vec<String>) -> impl Iterator<Item = Step<'_>> {
    let check = format!("check --locked -p {FACADE} --no-default-features");
    let none = ("features: none".to_owned(), check.clone());
    let alone = features.into_iter().map(move |feature| {
        let arguments = format!("{check} --features {feature}");
        (format!("features: {feature}"), arguments)
    });
    std::iter::once(none)
        .chain(alone)
        .map(move |(name, arguments)| {
            Step::of(&name, move || {
                run_command(&mut cargo(workspace, &arguments))
            })
        })
}

/// The features that users may name; a leading underscore marks those for our own use.
fn facade_features(metadata: &Value) -> Result<Vec<String>, String> {
    let features = metadata["packages"]
        .as_array()
        .and_then(|packages| packages.iter().find(|package| package["name"] == FACADE))
        .and_then(|package| package["features"].as_object())
        .ok_or_else(|| format!("cargo metadata lists no features of {FACADE}"))?;
    Ok(features
        .keys()
        .filter(|feature| !feature.starts_with('_'))
        .cloned()
        .collect())
}

/// The models of msgtrans-lockfree, in a target directory of their own because the cfg changes
/// every crate. In release: loom runs each model thousands of times.
fn loom(workspace: &Workspace) -> Result<(), String> {
    let mut test = cargo(
        workspace,
        "test -p msgtrans-lockfree --locked --release --tests --target-dir target/loom loom",
    );
    test.env("RUSTFLAGS", "--cfg msgtrans_loom");
    if std::env::var_os("LOOM_MAX_PREEMPTIONS").is_none() {
        test.env("LOOM_MAX_PREEMPTIONS", LOOM_PREEMPTIONS_MAX);
    }
    match run_and_count_passed(&mut test)? {
        0 => Err("no test named `loom` ran".to_owned()),
        _ => Ok(()),
    }
}

/// Runs `cargo test`, shows what it prints, and adds up the tests that passed: a filter which
/// matches nothing succeeds too.
pub(crate) fn run_and_count_passed(command: &mut Command) -> Result<u64, String> {
    let what = describe(command);
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{what}`: {error}"))?;
    let mut passed = 0;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| format!("cannot read from `{what}`: {error}"))?;
            println!("{line}");
            passed += passed_tests(&line);
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for `{what}`: {error}"))?;
    if status.success() {
        Ok(passed)
    } else {
        Err(format!("`{what}` ended with {status}"))
    }
}

/// The count in a closing line, `test result: ok. 3 passed; 0 failed; …`; 0 for any other line.
fn passed_tests(line: &str) -> u64 {
    line.strip_prefix("test result: ")
        .and_then(|rest| rest.split_once(". "))
        .and_then(|(_, counts)| counts.split_once(" passed"))
        .and_then(|(count, _)| count.parse().ok())
        .unwrap_or(0)
}

/// Needs a tool that a bare machine lacks, so its absence is reported and not a failure.
fn deny(workspace: &Workspace) -> Outcome {
    if !workspace.has_subcommand("deny") {
        return Outcome::NotRun("cargo-deny is not installed; `cargo xtask audit` installs it");
    }
    // cargo-deny reads the manifests of all platforms; a build has fetched only its own.
    let fetched = run_command(&mut cargo(workspace, "fetch --locked"));
    let checked = fetched.and_then(|()| {
        let deny = "deny --offline check bans licenses sources";
        run_command(&mut cargo(workspace, deny))
    });
    Outcome::from(checked)
}

/// Incremental compilation costs time and space in a build that runs once.
fn cargo(workspace: &Workspace, arguments: &str) -> Command {
    let mut command = workspace.cargo(arguments.split(' '));
    command.env("CARGO_INCREMENTAL", "0");
    command
}

/// One line for each step, aligned, with the total time below.
fn summary(reports: &[Report]) -> String {
    let width = reports
        .iter()
        .map(|report| report.name.len())
        .max()
        .unwrap_or(0)
        .max("total".len());
    let mut total = Duration::ZERO;
    let mut table = format!("{:width$}  {:7}  {:>7}\n", "step", "result", "seconds");
    for report in reports {
        total += report.took;
        let (result, note) = match &report.outcome {
            Outcome::Ok => ("ok", ""),
            Outcome::Failed(reason) => ("FAILED", reason.as_str()),
            Outcome::NotRun(reason) => ("NOT RUN", *reason),
        };
        let seconds = report.took.as_secs_f64();
        let line = format!("{:width$}  {result:7}  {seconds:7.1}  {note}", report.name);
        table.push_str(line.trim_end());
        table.push('\n');
    }
    let seconds = total.as_secs_f64();
    table.push_str(&format!("{:width$}  {:7}  {seconds:7.1}\n", "total", ""));
    table
}

impl<'a> Step<'a> {
    fn of(name: &str, action: impl Fn() -> Result<(), String> + 'a) -> Self {
        Self {
            name: name.to_owned(),
            action: Box::new(move || Outcome::from(action())),
        }
    }

    fn answers_to(&self, name: &str) -> bool {
        let group = self.name.split(':').next();
        self.name == name || group == Some(name)
    }
}

impl From<Result<(), String>> for Outcome {
    fn from(result: Result<(), String>) -> Self {
        result.map_or_else(Self::Failed, |()| Self::Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_features_are_not_checked_alone() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "other", "features": { "x": [] } },
            { "name": "msgtrans", "features": { "tcp": [], "_bench": [], "default": ["tcp"] } },
        ]});
        let features = facade_features(&metadata).expect("the fixture has the facade");
        assert_eq!(features, ["default", "tcp"]);
    }

    #[test]
    fn closing_lines_are_counted_and_others_are_not() {
        assert_eq!(
            passed_tests("test result: ok. 12 passed; 0 failed; 1 ignored"),
            12
        );
        assert_eq!(passed_tests("test result: FAILED. 3 passed; 1 failed"), 3);
        assert_eq!(passed_tests("test loom::queue ... ok"), 0);
    }

    #[test]
    fn the_summary_names_each_result_with_its_reason() {
        let report = |name: &str, outcome| Report {
            name: name.to_owned(),
            outcome,
            took: Duration::from_millis(1_500),
        };
        let table = summary(&[
            report("fmt", Outcome::Ok),
            report("clippy", Outcome::Failed("it ended".to_owned())),
            report("deny", Outcome::NotRun("not installed")),
        ]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "step    result   seconds",
                "fmt     ok           1.5",
                "clippy  FAILED       1.5  it ended",
                "deny    NOT RUN      1.5  not installed",
                "total                4.5",
            ]
        );
    }

    #[test]
    fn a_group_answers_for_its_members() {
        let step = Step::of("features: tcp", || Ok(()));
        assert!(step.answers_to("features"));
        assert!(step.answers_to("features: tcp"));
        assert!(!step.answers_to("features: quic"));
    }
}
