//! What is measured: cases of the suites, the figures taken from each, and what they must reach.

/// What a figure has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Must {
    /// At most so many times the reference.
    Ratio(f64),
    /// At least so many times the reference.
    RatioAtLeast(f64),
    /// At most this, whatever the reference does.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
}

/// A figure of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// The suite that asks for it.
    pub(crate) suite: &'static str,
    /// Its name in a sample.
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    pub(crate) must: Option<Must>,
}

/// What the load does.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// A steady run with these arguments.
    Load {
        mode: &'static str,
        connections: usize,
        window: u32,
        payload: usize,
    },
    /// Open loop at half of what the reference did in the case of this name.
    OpenHalf {
        of: String,
        connections: usize,
        burst: u32,
    },
    /// So many connections that do nothing, opened in a burst, in so many waves.
    Idle { connections: usize, waves: usize },
    /// One connection that does nothing: what the idle server uses.
    Quiet,
}

/// Which cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pin {
    /// Server on the first, load on the second.
    Split,
    /// Both on the first: no wake-up of an idle core in the way.
    Same,
}

/// One thing to measure.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) suite: String,
    pub(crate) name: String,
    pub(crate) scheme: &'static str,
    pub(crate) role: &'static str,
    pub(crate) work: Work,
    pub(crate) pin: Pin,
    /// The server that ratios refer to.
    pub(crate) reference: &'static str,
    pub(crate) metrics: Vec<Metric>,
}

const ALL: [&str; 11] = [
    "P1", "P2", "P3", "P4", "P5", "P6", "P8", "P10", "P11", "P18", "P19",
];
const IDLE_CONNECTIONS: usize = 10_000;
const MB: f64 = 1e6;

/// The cases of these suites.
pub(crate) fn select(suites: &[String]) -> Result<Vec<Case>, String> {
    if let Some(unknown) = suites.iter().find(|name| !ALL.contains(&name.as_str())) {
        return Err(format!("{unknown}: not one of {}", ALL.join(" ")));
    }
    let asked = |name: &str| suites.iter().any(|suite| suite == name);
    let mut cases = all();
    for case in &mut cases {
        case.metrics.retain(|metric| asked(metric.suite));
        let mut names: Vec<&str> = case.metrics.iter().map(|metric| metric.suite).collect();
        names.dedup();
        case.suite = names.join("+");
        if let Work::Idle { waves, .. } = &mut case.work {
            *waves = if asked("P11") { 3 } else { 1 };
        }
    }
    cases.retain(|case| !case.metrics.is_empty());
    Ok(cases)
}

fn all() -> Vec<Case> {
    let mut cases = vec![
        echo("P1", "tcp", 64, 1, 128, Must::Ratio(1.4)),
        echo("P1", "tcp", 64, 50, 32, Must::Ratio(1.4)),
        open_half("P1", 1, 128),
        open_half("P1", 50, 32),
        echo("P2", "tcp", 1024, 10, 16, Must::Ratio(1.4)),
        echo("P3", "tcp", 65_536, 4, 8, Must::Ratio(1.3)),
        echo("P3", "tcp", 1_048_576, 2, 4, Must::Ratio(1.3)),
        one_way("P4"),
        rtt("tcp"),
        rtt("ws"),
        quiet(),
        echo("P6", "ws", 64, 50, 32, Must::Ratio(1.5)),
        echo("P6", "ws", 1024, 50, 32, Must::Ratio(1.6)),
        idle("tcp", "tokio-raw"),
        idle("ws", "limit"),
    ];
    for (connections, window) in [(1, 128), (10, 32), (100, 16), (1_000, 4), (10_000, 1)] {
        cases.push(echo(
            "P18",
            "tcp",
            64,
            connections,
            window,
            Must::Ratio(1.4),
        ));
    }
    for payload in [16, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576] {
        cases.push(echo("P18", "tcp", payload, 10, 8, Must::Ratio(1.4)));
    }
    for (payload, window, must) in [
        (64, 32, Must::AtLeast(2e6)),
        (1_024, 32, Must::AtLeast(0.5e6)),
        (4_096, 16, Must::AtLeast(0.5e6)),
        (65_536, 8, Must::RatioAtLeast(0.8)),
    ] {
        let mut case = echo("P19", "tcp", payload, 50, window, must);
        case.metrics = vec![
            metric("P19", "rate", "messages/s", Some(must)),
            metric("P19", "p99", "p99 us", None),
        ];
        cases.push(case);
    }
    cases
}

fn metric(
    suite: &'static str,
    key: &'static str,
    label: &'static str,
    must: Option<Must>,
) -> Metric {
    Metric {
        suite,
        key,
        label,
        must,
    }
}

fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

fn case(
    suite: &'static str,
    name: String,
    scheme: &'static str,
    work: Work,
    metrics: Vec<Metric>,
) -> Case {
    Case {
        suite: suite.into(),
        name,
        scheme,
        role: "echo",
        work,
        pin: Pin::Split,
        reference: "limit",
        metrics,
    }
}

fn echo(
    suite: &'static str,
    scheme: &'static str,
    payload: usize,
    connections: usize,
    window: u32,
    must: Must,
) -> Case {
    let name = format!("{scheme} {} {connections}x{window}", size(payload));
    let work = Work::Load {
        mode: "echo",
        connections,
        window,
        payload,
    };
    case(
        suite,
        name,
        scheme,
        work,
        vec![metric(suite, "cpu", "cpu ns/msg", Some(must))],
    )
}

fn open_half(suite: &'static str, connections: usize, window: u32) -> Case {
    let of = format!("tcp 64 B {connections}x{window}");
    let name = format!("{of} open, half load");
    let metrics = vec![metric(suite, "p99", "p99 us", Some(Must::Ratio(1.5)))];
    case(
        suite,
        name,
        "tcp",
        Work::OpenHalf {
            of,
            connections,
            burst: 32,
        },
        metrics,
    )
}

fn one_way(suite: &'static str) -> Case {
    let work = Work::Load {
        mode: "oneway",
        connections: 1,
        window: 0,
        payload: 64,
    };
    let metrics = vec![metric(suite, "cpu", "cpu ns/msg", Some(Must::Ratio(3.0)))];
    Case {
        role: "sink",
        ..case(suite, "tcp 64 B one-way".into(), "tcp", work, metrics)
    }
}

fn rtt(scheme: &'static str) -> Case {
    let must = Some(Must::Ratio(1.05));
    let metrics = vec![
        metric("P5", "p50", "p50 us", must),
        metric("P5", "p99", "p99 us", must),
        metric("P5", "p999", "p99.9 us", must),
        metric("P5", "cpu", "cpu ns/msg", must),
    ];
    let work = Work::Load {
        mode: "rtt",
        connections: 1,
        window: 1,
        payload: 64,
    };
    let name = format!("{scheme} 64 B rtt, one core");
    Case {
        pin: Pin::Same,
        reference: "tokio-raw",
        ..case("P5", name, scheme, work, metrics)
    }
}

fn quiet() -> Case {
    let metrics = vec![metric(
        "P5",
        "cpu_percent",
        "% of a core",
        Some(Must::AtMost(1.0)),
    )];
    case(
        "P5",
        "tcp one idle connection".into(),
        "tcp",
        Work::Quiet,
        metrics,
    )
}

fn idle(scheme: &'static str, accept_reference: &'static str) -> Case {
    let metrics = vec![
        metric(
            "P8",
            "session_bytes",
            "bytes/session",
            Some(Must::AtMost(2_500.0)),
        ),
        metric(
            "P8",
            "start_bytes",
            "start RSS bytes",
            Some(Must::AtMost(12.0 * MB)),
        ),
        metric("P10", "accept_us", "accept cpu us", Some(Must::Ratio(1.5))),
        metric("P10", "open_s", "burst opened s", None),
        metric(
            "P10",
            "syn_retransmits",
            "SYNs sent again",
            Some(Must::AtMost(0.0)),
        ),
        metric(
            "P11",
            "left_bytes_1",
            "left, wave 1",
            Some(Must::AtMost(20.0 * MB)),
        ),
        metric(
            "P11",
            "left_bytes_2",
            "left, wave 2",
            Some(Must::AtMost(20.0 * MB)),
        ),
        metric(
            "P11",
            "left_bytes_3",
            "left, wave 3",
            Some(Must::AtMost(20.0 * MB)),
        ),
    ];
    let work = Work::Idle {
        connections: IDLE_CONNECTIONS,
        waves: 1,
    };
    let name = format!("{scheme} {IDLE_CONNECTIONS} idle");
    Case {
        reference: accept_reference,
        ..case("P8", name, scheme, work, metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_has_cases_and_only_the_asked_figures() {
        for suite in ALL {
            let cases = select(&[suite.to_owned()]).expect("a known suite");
            assert!(!cases.is_empty(), "{suite}");
            assert!(cases.iter().all(|case| case.suite == suite));
        }
        assert!(select(&["P99".to_owned()]).is_err());
    }

    #[test]
    fn open_loops_follow_the_case_they_take_their_rate_from() {
        let cases = select(&["P1".to_owned()]).expect("a known suite");
        for (at, case) in cases.iter().enumerate() {
            if let Work::OpenHalf { of, .. } = &case.work {
                assert!(cases[..at].iter().any(|before| before.name == *of), "{of}");
            }
        }
    }
}
