//! A hundred thousand sessions of one server process, on one UDP socket, and how fast each of them still answers (P17).

use super::{Case, Metric, Must, Suite, Work};
use crate::measure::{self, Bench, SETTLE, Sample, Talk};
use crate::servers::{OURS, Programs, Server};
use bench_kit::process;
use std::process::Command;
use std::time::Duration;

pub(super) const SUITE: Suite = Suite { cases, servers };

const ROLE: &str = "crowd";
const FEW: usize = 1_000;
const MANY: usize = 100_000;
/// So many programs hold the many.
const PROGRAMS: usize = 4;
/// Pings, one after the other, from each program.
const PINGS: usize = 2_000;
/// Opening a program's share: half a millisecond of CPU at each end of a handshake, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(600);

fn cases() -> Vec<Case> {
    let ratio = Metric::new("P17", "p99_ratio", "p99 ping, many/few");
    let metrics = vec![
        Metric {
            must: Some(Must::AtLeast(MANY as f64)),
            ..Metric::new("P17", "answered", "sessions that answered")
        },
        Metric {
            aim: Some(Must::AtMost(10.0)),
            ..ratio
        },
        Metric::new("P17", "p50_few", "p50 ping us, few"),
        Metric::new("P17", "p50_many", "p50 ping us, many"),
        Metric::new("P17", "p99_few", "p99 ping us, few"),
        Metric::new("P17", "p99_many", "p99 ping us, many"),
        Metric::new("P17", "accept_us", "handshake cpu us"),
        Metric::new("P17", "session_bytes", "bytes/session"),
        Metric::new("P17", "again", "handshakes tried again"),
        Metric::new("P17", "idle_cpu_percent", "% of a core, all idle"),
    ];
    vec![Case {
        role: ROLE,
        // What it is compared with is measured within the turn.
        reference: "",
        rounds_max: 1,
        slow: true,
        packages: &["crowd"],
        ..Case::new(
            format!("quic {MANY} sessions"),
            "quic",
            Work::Own(turn),
            metrics,
        )
    }]
}

fn servers(programs: &Programs) -> Vec<Server> {
    let Some(program) = &programs.ours else {
        return Vec::new();
    };
    let args = ["serve", "--echo", "quic://127.0.0.1:0"];
    vec![Server::new(OURS, "v2", program, &args).for_cases(|case| case.role == ROLE)]
}

fn turn(bench: &Bench, server: &Server, case: &Case) -> Result<Sample, String> {
    let mut running = bench.start(server, case)?;
    let gone = |error: std::io::Error| format!("the server: {error}");
    let pid = running.pid();
    std::thread::sleep(SETTLE);
    let bytes_before = process::resident_bytes(pid).map_err(gone)?;
    let mut sample = Sample::new();

    let (mut few, _) = open(bench, &running.url, FEW)?;
    let (p50_few, p99_few) = ping(&mut few)?;
    close(few)?;
    // Until the server has let the few go: their memory shall not count for the many, nor theirs be reused.
    std::thread::sleep(4 * SETTLE);

    let cpu = || process::cpu_ns(pid).map_err(gone);
    let cpu_before = cpu()?;
    let mut crowds = Vec::new();
    let mut again = 0.0;
    for _ in 0..PROGRAMS {
        let (crowd, more) = open(bench, &running.url, MANY / PROGRAMS)?;
        again += more;
        crowds.push(crowd);
    }
    let used = cpu()? - cpu_before;
    std::thread::sleep(SETTLE);
    let held = process::resident_bytes(pid).map_err(gone)? as f64 - bytes_before as f64;

    let (mut p50s, mut p99s) = (Vec::new(), Vec::new());
    for crowd in &mut crowds {
        let (p50, p99) = ping(crowd)?;
        p50s.push(p50);
        p99s.push(p99);
    }
    let idle_before = cpu()?;
    let idle = Duration::from_secs(10);
    std::thread::sleep(idle);
    let idle_used = (cpu()? - idle_before) as f64;
    let mut answered = 0.0;
    for crowd in &mut crowds {
        crowd.say("echo")?;
        answered += measure::number(&crowd.line(PATIENCE)?, "answers").unwrap_or_default();
    }
    for crowd in crowds {
        close(crowd)?;
    }
    running.check()?;

    let many = MANY as f64;
    // Of several programs the worst: an average would hide one that starves.
    let worst = |figures: Vec<f64>| figures.into_iter().fold(0.0, f64::max);
    let p99_many = worst(p99s);
    sample.extend([
        ("answered".to_owned(), answered),
        ("again".to_owned(), again),
        ("p50_few".to_owned(), p50_few),
        ("p50_many".to_owned(), worst(p50s)),
        ("p99_few".to_owned(), p99_few),
        ("p99_many".to_owned(), p99_many),
        ("p99_ratio".to_owned(), p99_many / p99_few),
        ("accept_us".to_owned(), used as f64 / 1e3 / many),
        ("session_bytes".to_owned(), held / many),
        (
            "idle_cpu_percent".to_owned(),
            idle_used * 100.0 / idle.as_nanos() as f64,
        ),
    ]);
    Ok(sample)
}

/// A program with so many sessions, all of them welcomed; and how many handshakes had to be tried again.
fn open(bench: &Bench, url: &str, sessions: usize) -> Result<(Talk, f64), String> {
    let mut command = Command::new(bench.program("crowd"));
    command.args(["hold", "--target", url, "--sources=4", "--at-once=64"]);
    command.arg(format!("--connections={sessions}"));
    command.arg(format!("--patience={}", PATIENCE.as_secs()));
    let mut talk = Talk::start(command)?;
    let again = measure::number(&talk.line(PATIENCE)?, "again").unwrap_or_default();
    Ok((talk, again))
}

/// Median and p99 of pings, microseconds.
fn ping(crowd: &mut Talk) -> Result<(f64, f64), String> {
    crowd.say(&format!("ping {PINGS}"))?;
    let line = crowd.line(PATIENCE)?;
    let quantile = |name| measure::number(&line["latency_us"], name).ok_or("no latency");
    Ok((quantile("p50")?, quantile("p99")?))
}

fn close(mut crowd: Talk) -> Result<(), String> {
    crowd.say("close")?;
    crowd.line(PATIENCE)?;
    crowd.end()
}
