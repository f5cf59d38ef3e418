//! What a session holds that does nothing, over every protocol that the load does not speak, above what the protocol's
//! own library holds (P8 P9).

use super::{Case, Metric, Must, Suite, Work};
use crate::measure::{self, Bench, LOAD_SLACK, SETTLE, Sample, Talk};
use crate::servers::{OURS, Programs, Server};
use bench_kit::process;
use std::process::Command;

pub(super) const SUITE: Suite = Suite { cases, servers };

const ROLE: &str = "memory";
const CONNECTIONS: usize = 10_000;
/// Memory swings by less than a per cent, what it is compared with is measured in the same turn, and twenty thousand TLS
/// handshakes take their time.
const ROUNDS_MAX: usize = 1;

fn cases() -> Vec<Case> {
    let bytes = Metric::new("P8", "session_bytes", "bytes/session");
    let mut cases = vec![case(
        "unix",
        vec![bytes.bound(Must::AtMost(2_500.0), Must::AtMost(1_200.0))],
    )];
    for scheme in ["tls", "wss", "quic"] {
        let above = Metric::new("P9", "above_bytes", "bytes/session above raw");
        let metrics = vec![
            above.bound(Must::AtMost(3_000.0), Must::AtMost(1_500.0)),
            Metric::new("P9", "session_bytes", "bytes/session"),
            Metric::new("P9", "raw_bytes", "bytes/session, raw"),
            Metric::new("P9", "accept_us", "accept cpu us"),
            Metric::new("P9", "raw_accept_us", "accept cpu us, raw"),
        ];
        cases.push(case(scheme, metrics));
    }
    cases
}

fn case(scheme: &'static str, metrics: Vec<Metric>) -> Case {
    Case {
        role: ROLE,
        // What it is compared with is measured within the turn.
        reference: "",
        rounds_max: ROUNDS_MAX,
        slow: true,
        packages: &["crowd"],
        ..Case::new(
            format!("{scheme} {CONNECTIONS} idle"),
            scheme,
            Work::Own(turn),
            metrics,
        )
    }
}

fn servers(programs: &Programs) -> Vec<Server> {
    let Some(program) = &programs.ours else {
        return Vec::new();
    };
    let serve = Server::new(OURS, "v2", program, &["serve", "--echo", "{url}"]);
    vec![serve.for_cases(|case| case.role == ROLE)]
}

/// Ours, and right before it the raw server, whose figures belong to the same turn.
fn turn(bench: &Bench, server: &Server, case: &Case) -> Result<Sample, String> {
    let raw = match case.scheme {
        "tls" | "wss" => Some("serve-tls"),
        "quic" => Some("serve-quic"),
        _ => None,
    };
    let mut sample = Sample::new();
    if let Some(mode) = raw {
        let raw = Server::new("raw", "raw", &bench.program("crowd"), &[mode, "0"]);
        let (bytes, accept) = held(bench, &raw, case)?;
        sample.insert("raw_bytes".into(), bytes);
        sample.insert("raw_accept_us".into(), accept);
    }
    let (bytes, accept) = held(bench, server, case)?;
    if let Some(raw) = sample.get("raw_bytes") {
        sample.insert("above_bytes".into(), bytes - raw);
    }
    sample.insert("session_bytes".into(), bytes);
    sample.insert("accept_us".into(), accept);
    Ok(sample)
}

/// Resident bytes of an idle session, and microseconds of CPU for opening one.
fn held(bench: &Bench, server: &Server, case: &Case) -> Result<(f64, f64), String> {
    let mut running = bench.start(server, case)?;
    let gone = |error: std::io::Error| format!("the server: {error}");
    let pid = running.pid();
    std::thread::sleep(SETTLE);
    let bytes = || process::resident_bytes(pid).map_err(gone);
    let cpu = || process::cpu_ns(pid).map_err(gone);
    let (bytes_before, cpu_before) = (bytes()?, cpu()?);
    let mut crowd = Command::new(bench.program("crowd"));
    crowd.args(["hold", "--target", &running.url, "--sources=16"]);
    crowd.arg(format!("--connections={CONNECTIONS}"));
    if server.wire == "raw" {
        crowd.arg("--raw");
    }
    let mut talk = Talk::start(crowd)?;
    // Every session of the crowd has had its Welcome, so the server has opened all of them.
    let up = talk.line(LOAD_SLACK)?;
    let used = cpu()? - cpu_before;
    std::thread::sleep(SETTLE);
    let held = bytes()? as f64 - bytes_before as f64;
    if measure::number(&up, "connections") != Some(CONNECTIONS as f64) {
        return Err(format!("not all are there: {up}"));
    }
    talk.say("echo")?;
    talk.line(LOAD_SLACK)?;
    talk.say("close")?;
    talk.line(LOAD_SLACK)?;
    talk.end()?;
    running.check()?;
    let sessions = CONNECTIONS as f64;
    Ok((held / sessions, used as f64 / 1e3 / sessions))
}
