//! Maps, channels, histograms and pools by themselves, beside other people's: the programs of `micro`, each figure in a
//! process of its own, and the session table's ratios (P15).

use super::{Case, Metric, Must, Suite, Work};
use crate::measure::{Bench, Sample};
use crate::servers::{OURS, Programs, Server};
use std::process::Command;

pub(super) const SUITE: Suite = Suite { cases, servers };

/// What the table's work is called by `p15`, and what its ratio to the best of the others must be and become.
const TABLE: [(&str, f64, f64); 8] = [
    ("reads/1000", 1.2, 1.0),
    ("reads/100000", 1.2, 1.0),
    ("95-5/1000", 1.2, 1.0),
    ("95-5/100000", 1.2, 1.0),
    ("churn/1000", 3.0, 1.5),
    ("churn/100000", 3.0, 1.5),
    // Ahead, while a holder is away.
    ("held-reads/1000", 1.0, 1.0),
    ("held-95-5/1000", 1.0, 1.0),
];
/// Steadier than a load is, and there are many.
const ROUNDS_MAX: usize = 3;

/// Name, what it is about, its benchmark where {} is who is measured, who stands for 1.
const COMPARED: [(&str, &str, &str, &str); 14] = [
    ("map 95 % reads, 1 k", "map", "map/95-5/1000/{}", "dashmap"),
    (
        "map 95 % reads, 100 k",
        "map",
        "map/95-5/100000/{}",
        "dashmap",
    ),
    ("map churn, 1 k", "map", "map/churn/1000/{}", "dashmap"),
    ("map churn, 100 k", "map", "map/churn/100000/{}", "dashmap"),
    (
        "queue task to task",
        "queue",
        "task-to-task/{}/1to1/batch1",
        "tokio",
    ),
    (
        "queue task to task, 32",
        "queue",
        "task-to-task/{}/1to1/batch32",
        "tokio",
    ),
    (
        "queue 4 tasks to one, 32",
        "queue",
        "task-to-task/{}/4to1/batch32",
        "tokio",
    ),
    (
        "queue thread to task",
        "queue",
        "thread-to-task/{}/1to1/batch1",
        "tokio",
    ),
    (
        "channel thread to thread",
        "channel",
        "thread-to-thread/{}/1to1/batch1",
        "std",
    ),
    (
        "channel thread to thread, 32",
        "channel",
        "thread-to-thread/{}/1to1/batch32",
        "std",
    ),
    ("histogram, 1 thread", "histogram", "histogram/{}/1", HDR),
    ("histogram, 2 threads", "histogram", "histogram/{}/2", HDR),
    (
        "pool 64 KiB, one thread",
        "pool",
        "pool/alone/65536/{}",
        "malloc",
    ),
    (
        "pool 64 KiB, ended by another",
        "pool",
        "pool/handed-over/65536/{}",
        "malloc",
    ),
];
const HDR: &str = "Mutex<hdrhistogram>";

fn cases() -> Vec<Case> {
    let micro = |name: &str, scheme, work, metrics| Case {
        slow: true,
        packages: &["micro"],
        ..Case::new(name.to_owned(), scheme, Work::Own(work), metrics)
    };
    let ratio = |(label, must, aim): (&'static str, f64, f64)| {
        Metric::new("P15", label, label).bound(Must::AtMost(must), Must::AtMost(aim))
    };
    let table = Case {
        role: "table",
        // What it is compared with has its turns in the same process.
        reference: "",
        ..micro(
            "session table / best of others",
            "map",
            table,
            TABLE.map(ratio).into(),
        )
    };
    let compared = COMPARED.map(|(name, scheme, benchmark, reference)| {
        let figure = Metric::new(scheme, "cpu", "cpu ns/operation");
        Case {
            role: benchmark,
            reference,
            rounds_max: ROUNDS_MAX,
            ..micro(name, scheme, one, vec![figure])
        }
    });
    std::iter::once(table).chain(compared).collect()
}

fn servers(programs: &Programs) -> Vec<Server> {
    // The program is the first word of the benchmark; the argument is what `micro` calls who is measured.
    let who =
        |name: &str, is: &str, fits| Server::new(name, "", &programs.folder, &[is]).for_cases(fits);
    type Fits = fn(&Case) -> bool;
    let map: Fits = |case| case.scheme == "map" && case.role != "table";
    let queue: Fits = |case| case.scheme == "queue";
    let channel: Fits = |case| case.scheme == "channel";
    let histogram: Fits = |case| case.scheme == "histogram";
    let pool: Fits = |case| case.scheme == "pool";
    let mut servers = Vec::new();
    if programs.ours.is_some() {
        servers.extend([
            who(OURS, "", |case| case.role == "table"),
            who(OURS, "LockFreeHashMap", map),
            who(OURS, "Mailbox", queue),
            who(OURS, "Histogram", histogram),
            who(OURS, "BufferPool", pool),
        ]);
    }
    let others: [(Fits, &[&str]); 5] = [
        (map, &["dashmap", "scc", "papaya", "64-locked"]),
        (queue, &["tokio", "flume", "kanal", "LockFreeQueue"]),
        (
            channel,
            &[
                "std",
                "crossbeam",
                "flume",
                "kanal",
                "ArrayQueue+spin",
                "SegQueue+spin",
            ],
        ),
        (histogram, &[HDR]),
        (pool, &["malloc", "ArrayQueue"]),
    ];
    for (fits, names) in others {
        servers.extend(names.iter().map(|name| who(name, name, fits)));
    }
    servers
}

/// A benchmark of criterion's, by the figure that it prints.
fn one(bench: &Bench, server: &Server, case: &Case) -> Result<Sample, String> {
    let who = server.args.first().map_or("", String::as_str);
    let program = match case.scheme {
        "map" => "map",
        "histogram" => "numbers",
        "pool" => "pool",
        _ => "channels",
    };
    let mut command = Command::new(bench.program(&format!("micro-{program}")));
    let benchmark = case.role.replace("{}", who);
    match program {
        // It looks at the end whether all of them have counted, so all have to run.
        "numbers" => command.args(["--bench", "histogram/"]),
        _ => command.args(["--bench", "--exact", &benchmark]),
    };
    command.args(["--noplot", "--discard-baseline", "--sample-size=10"]);
    command.arg(format!("--measurement-time={}", bench.seconds));
    command.arg(format!("--warm-up-time={}", bench.warm_up));
    command.env("CRITERION_HOME", bench.program("criterion"));
    let said = said(command)?;
    let figure = said
        .split_once(&benchmark)
        .and_then(|(_, its)| ns_each(its));
    let figure = figure.ok_or(format!("no figure of {benchmark} in: {}", said.trim()))?;
    Ok(Sample::from([("cpu".to_owned(), figure)]))
}

/// One round of all the table's work.
fn table(bench: &Bench, _: &Server, _: &Case) -> Result<Sample, String> {
    let mut command = Command::new(bench.program("micro-p15"));
    command.arg("1");
    let said = said(command)?;
    let figure = |(name, ..): &(&'static str, f64, f64)| {
        let ratio = ratio(&said, name).ok_or(format!("no ratio of {name}"))?;
        Ok(((*name).to_owned(), ratio))
    };
    TABLE.iter().map(figure).collect()
}

fn said(mut command: Command) -> Result<String, String> {
    // CPU time of all threads is steadier than time passed, and counts spinning in full.
    command.env("MICRO_CLOCK", "cpu");
    bench_kit::process::ends_with_this_thread(&mut command);
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    let why = why.lines().last().unwrap_or_default();
    Err(format!("{program}: {}: {why}", output.status))
}

/// Nanoseconds an operation from `thrpt:  [1.0 Melem/s 1.1 Melem/s 1.2 Melem/s]`.
fn ns_each(said: &str) -> Option<f64> {
    let (_, rest) = said.split_once("thrpt:")?;
    let mut words = rest.split_once('[')?.1.split_whitespace().skip(2);
    let (rate, unit) = (words.next()?.parse::<f64>().ok()?, words.next()?);
    let per_s = match unit.strip_suffix("elem/s")? {
        "G" => rate * 1e9,
        "M" => rate * 1e6,
        "K" => rate * 1e3,
        "" => rate,
        _ => return None,
    };
    (per_s > 0.0).then(|| 1e9 / per_s)
}

/// The figure of a line as `reads/1000     ratio 1.13 (1.13-1.13)`.
fn ratio(said: &str, name: &str) -> Option<f64> {
    let of = |line: &str| {
        let mut words = line.split_whitespace();
        let named = words.next() == Some(name) && words.next() == Some("ratio");
        named.then(|| words.next()?.parse().ok()).flatten()
    };
    said.lines().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_as_the_programs_print_them() {
        let said = "map/95-5/1000/scc\n  time:   [101 µs 102 µs 103 µs]\n  \
                    thrpt:  [19.4 Melem/s 20.0 Melem/s 20.8 Melem/s]\n";
        assert_eq!(ns_each(said), Some(50.0));
        assert_eq!(
            ns_each("thrpt: [1 Kelem/s 2.0 Kelem/s 3 Kelem/s]"),
            Some(5e5)
        );
        assert_eq!(ns_each("thrpt: [1 B/s 2.0 B/s 3 B/s]"), None);
        assert_eq!(ns_each("no such benchmark"), None);
        let said = "held-reads/1000 ratio 1.50 (1.50-1.50)\n  scc  9.9 (9.9-9.9)\n\
                    reads/1000     ratio 1.13 (1.13-1.13)\n";
        assert_eq!(ratio(said, "reads/1000"), Some(1.13));
        assert_eq!(ratio(said, "churn/1000"), None);
    }

    #[test]
    fn everybody_that_a_case_names_takes_part_and_the_first_is_ours() {
        let servers = servers(&Programs::nowhere());
        for case in cases().iter().filter(|case| case.role != "table") {
            let taking: Vec<&str> = servers
                .iter()
                .filter(|server| server.runs(case))
                .map(|server| server.name.as_str())
                .collect();
            assert!(
                taking.contains(&case.reference),
                "{}: {taking:?}",
                case.name
            );
            // Nothing of ours passes from thread to thread.
            let ours = taking.iter().filter(|name| **name == OURS).count();
            assert_eq!(ours, usize::from(case.scheme != "channel"), "{}", case.name);
        }
    }
}
