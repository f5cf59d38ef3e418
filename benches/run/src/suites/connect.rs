//! How many connections a second: each opens with its handshake, has one message echoed and closes.

use super::{Case, Metric, Suite, Work};
use crate::measure::{self, Bench, LOAD_SLACK, Sample, Talk};
use crate::servers::Server;
use std::time::Duration;

pub(super) const SUITE: Suite = Suite::of(|| vec![rate("tcp", "tokio-raw"), rate("ws", "limit")]);

/// Connections under way.
const AT_ONCE: usize = 64;
/// Beyond what a turn is asked for: so many connections that what one costs is seen.
const SECONDS_MIN: f64 = 0.5;

fn rate(scheme: &'static str, reference: &'static str) -> Case {
    let metrics = vec![
        Metric::new("connect", "cpu", "cpu ns/connection"),
        Metric::new("connect", "rate", "connections/s"),
    ];
    let name = format!("{scheme} connect, echo, close");
    Case {
        reference,
        ..Case::new(name, scheme, Work::Own(turn), metrics)
    }
}

fn turn(bench: &Bench, server: &Server, case: &Case) -> Result<Sample, String> {
    let mut running = bench.start(server, case)?;
    let seconds = bench.seconds.max(SECONDS_MIN);
    let args = [
        "connect".to_owned(),
        format!("--connections={AT_ONCE}"),
        // Ports of closed connections stay taken for a minute.
        "--sources=64".to_owned(),
        format!("--watch={}", running.pid()),
        format!("--seconds={seconds}"),
        format!("--warm-up={}", bench.warm_up),
    ];
    let mut talk = Talk::start(bench.load(server, &running, &args))?;
    let line = talk.line(Duration::from_secs_f64(seconds) + LOAD_SLACK)?;
    talk.end()?;
    running.check()?;
    let figure = |key: &str, name| {
        let value = measure::number(&line, name).ok_or(format!("no {name} in {line}"))?;
        Ok::<_, String>((key.to_owned(), value))
    };
    Ok(Sample::from([
        figure("cpu", "server_cpu_ns_per_connection")?,
        figure("rate", "connections_per_s")?,
    ]))
}
