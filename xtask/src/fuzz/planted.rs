//! `cargo xtask fuzz --prove`: bugs planted behind `cfg(msgtrans_planted = "N")`, each found within a minute.
//!
//! The cfg reaches one crate alone. Inputs of the corpus that show the bug as they stand are taken away first, so
//! that what is proven is the fuzzer and not its memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Fuzzers, files_of, make};
use crate::results;

const SECONDS_MAX: u64 = 60;

struct Planted {
    number: &'static str,
    package: &'static str,
    target: &'static str,
    what: &'static str,
}

const fn planted(
    number: &'static str,
    package: &'static str,
    target: &'static str,
    what: &'static str,
) -> Planted {
    Planted {
        number,
        package,
        target,
        what,
    }
}

/// Bugs of one round are built together: each shows in its own target, and in no other target of the round.
const ROUNDS: &[&[Planted]] = &[
    &[
        planted(
            "1",
            "msgtrans-core",
            "header",
            "the limit on a payload is not checked",
        ),
        planted(
            "6",
            "msgtrans-websocket",
            "ws_message",
            "the mask begins anew with every piece",
        ),
        planted(
            "7",
            "msgtrans-websocket",
            "upgrade_server",
            "the last byte of a piece is read twice",
        ),
        planted(
            "8",
            "msgtrans-quic",
            "quic_stream",
            "a length and its frame may disagree",
        ),
        planted(
            "9",
            "msgtrans-session",
            "requests",
            "a second answer replaces the first",
        ),
        planted(
            "10",
            "msgtrans-transport",
            "endpoint",
            "an IPv6 address is written bare",
        ),
        planted(
            "11",
            "msgtrans-session",
            "zlib",
            "one byte more than allowed is inflated",
        ),
    ],
    &[
        planted(
            "2",
            "msgtrans-core",
            "decode",
            "a frame in pieces waits for one byte too many",
        ),
        planted(
            "5",
            "msgtrans-websocket",
            "ws_frame",
            "the top bit of a length passes",
        ),
        planted(
            "12",
            "msgtrans-websocket",
            "upgrade_client",
            "any server's answer is believed",
        ),
    ],
    &[
        planted(
            "3",
            "msgtrans-core",
            "control",
            "a field's length is trusted",
        ),
        planted(
            "4",
            "msgtrans-core",
            "header",
            "an unknown packet type is unwrapped",
        ),
    ],
];

/// Builds and runs each planted bug, or those of the given numbers.
pub(super) fn prove(fuzzers: &Fuzzers<'_>, numbers: &[String]) -> Result<(), String> {
    let all = || ROUNDS.iter().flat_map(|round| round.iter());
    if let Some(unknown) = (numbers.iter()).find(|number| all().all(|bug| bug.number != *number)) {
        return Err(format!(
            "no planted bug {unknown}; they are 1 to {}",
            all().count()
        ));
    }
    let mut table =
        String::from("| bug | in | target | found after | executions |\n|---|---|---|---|---|\n");
    let (mut tried, mut missed) = (0, Vec::new());
    for round in ROUNDS {
        let chosen: Vec<&Planted> = (round.iter())
            .filter(|bug| numbers.is_empty() || numbers.iter().any(|number| number == bug.number))
            .collect();
        if chosen.is_empty() {
            continue;
        }
        build(fuzzers, &chosen)?;
        tried += chosen.len();
        for bug in chosen {
            match find(fuzzers, bug)? {
                Some((seconds, executions)) => table.push_str(&format!(
                    "| {} | {} | {} | {seconds:.1} s | {executions} |\n",
                    bug.what, bug.package, bug.target
                )),
                None => missed.push(bug.number),
            }
        }
    }
    let found = tried - missed.len();
    println!("{found} of {tried} planted bugs found");
    if !missed.is_empty() {
        return Err(format!(
            "not found within {SECONDS_MAX} s: {}",
            missed.join(", ")
        ));
    }
    if numbers.is_empty() {
        let summary = format!(
            "{found} of {tried} planted bugs found, each within {SECONDS_MAX} s; inputs of the corpus that show \
             one by themselves were taken away first.\n\n{table}"
        );
        results::record(fuzzers.workspace, "cargo xtask fuzz --prove", &summary)?;
    }
    Ok(())
}

/// Builds the targets of these bugs, each crate with its own.
fn build(fuzzers: &Fuzzers<'_>, bugs: &[&Planted]) -> Result<(), String> {
    let mut flags: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for bug in bugs {
        let cfg = format!("\"--cfg\", \"msgtrans_planted=\\\"{}\\\"\"", bug.number);
        flags.entry(bug.package).or_default().push(cfg);
    }
    let mut configuration = vec!["-Zprofile-rustflags".to_owned()];
    for (package, flags) in flags {
        let flags = flags.join(", ");
        configuration.push("--config".to_owned());
        configuration.push(format!(
            "profile.release.package.{package}.rustflags=[{flags}]"
        ));
    }
    let targets: Vec<String> = bugs.iter().map(|bug| bug.target.to_owned()).collect();
    fuzzers.build(&targets, &configuration)
}

/// Seconds and executions until the bug showed.
fn find(fuzzers: &Fuzzers<'_>, bug: &Planted) -> Result<Option<(f64, u64)>, String> {
    let Planted {
        number,
        package,
        target,
        what,
    } = bug;
    println!("{number:>2}: {what} ({package}, target {target})");
    let corpus = fuzzers.target_dir.join("planted").join(number);
    let _ = fs::remove_dir_all(&corpus);
    make(&corpus)?;
    let mut innocent = 0;
    for input in files_of(&fuzzers.committed(target))? {
        if passes(fuzzers, target, &input)? {
            let name = input.file_name().ok_or("an input without a name")?;
            fs::copy(&input, corpus.join(name)).map_err(|error| error.to_string())?;
            innocent += 1;
        }
    }
    let ended = fuzzers.libfuzzer(target, SECONDS_MAX, &[&corpus])?;
    let seconds = ended.took.as_secs_f64();
    match ended.failure {
        Some(failure) => {
            println!(
                "    found after {seconds:.1} s, {} executions, from {innocent} inputs: {failure}",
                ended.executions
            );
            Ok(Some((seconds, ended.executions)))
        }
        None => {
            println!("    NOT FOUND in {} executions", ended.executions);
            Ok(None)
        }
    }
}

fn passes(fuzzers: &Fuzzers<'_>, target: &str, input: &Path) -> Result<bool, String> {
    let program = fuzzers.program(target);
    Command::new(&program)
        .arg(input)
        .arg(format!(
            "-artifact_prefix={}/",
            fuzzers.target_dir.display()
        ))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map(|status| status.success())
        .map_err(|error| format!("cannot start {}: {error}", program.display()))
}
