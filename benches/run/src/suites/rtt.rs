//! One message at a time, and what a server uses that has nothing to do (P5).

use super::{Case, Metric, Must, Pin, Suite, Work};
use crate::measure::{Bench, LOAD_SLACK, SETTLE, Sample, Talk};
use crate::servers::{QUINN, Server};
use bench_kit::process;
use std::time::{Duration, Instant};

pub(super) const SUITE: Suite = Suite::of(cases);

fn cases() -> Vec<Case> {
    // What should become of it, 1.1 times the limit, is a ratio to another server: the table shows both.
    let must = Some(Must::Ratio(1.05));
    vec![
        rtt("tcp", "P5", "tokio-raw", must),
        rtt("ws", "P5", "tokio-raw", must),
        rtt("quic", "quic", QUINN, None),
        rtt("unix", "unix", "limit", None),
        quiet(),
    ]
}

fn rtt(
    scheme: &'static str,
    suite: &'static str,
    reference: &'static str,
    must: Option<Must>,
) -> Case {
    let figures = [
        ("cpu", "cpu ns/msg"),
        ("p50", "p50 us"),
        ("p99", "p99 us"),
        ("p999", "p99.9 us"),
    ];
    let metrics = figures.map(|(key, label)| Metric {
        must,
        ..Metric::new(suite, key, label)
    });
    let work = Work::Load {
        mode: "rtt",
        connections: 1,
        window: 1,
        payload: 64,
    };
    let name = format!("{scheme} 64 B rtt, one core");
    Case {
        pin: Pin::Same,
        reference,
        ..Case::new(name, scheme, work, metrics.to_vec())
    }
}

fn quiet() -> Case {
    let percent = Metric {
        must: Some(Must::AtMost(1.0)),
        ..Metric::new("P5", "cpu_percent", "% of a core")
    };
    let name = "tcp one idle connection".to_owned();
    Case::new(name, "tcp", Work::Own(idle_cpu), vec![percent])
}

/// What the server uses with one connection that does nothing.
fn idle_cpu(bench: &Bench, server: &Server, case: &Case) -> Result<Sample, String> {
    let mut running = bench.start(server, case)?;
    let cpu = || process::cpu_ns(running.pid()).map_err(|error| format!("the server: {error}"));
    let mut talk = Talk::start(bench.load(server, &running, &["idle".to_owned()]))?;
    talk.line(LOAD_SLACK)?;
    std::thread::sleep(SETTLE);
    let (begin, before) = (Instant::now(), cpu()?);
    std::thread::sleep(Duration::from_secs_f64(bench.seconds));
    let percent = (cpu()? - before) as f64 * 100.0 / begin.elapsed().as_nanos() as f64;
    talk.say("close")?;
    talk.line(LOAD_SLACK)?;
    talk.end()?;
    running.check()?;
    Ok(Sample::from([("cpu_percent".to_owned(), percent)]))
}
