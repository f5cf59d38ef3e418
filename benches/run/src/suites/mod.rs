//! What is measured: the table of suites, and what a case, a figure and a bound are. Each suite is a file of its own.

mod broadcast;
mod connect;
mod crowd;
mod echo;
mod growth;
mod idle;
mod memory;
mod micro;
mod one_way;
mod quic;
mod request;
mod rtt;
mod tasks;

use crate::measure::{Bench, Sample};
use crate::servers::{Programs, Server};

/// The suites. A new one is a file here and a line in this table.
const SUITES: &[Suite] = &[
    echo::SUITE,
    one_way::SUITE,
    rtt::SUITE,
    quic::SUITE,
    connect::SUITE,
    idle::SUITE,
    memory::SUITE,
    request::SUITE,
    broadcast::SUITE,
    tasks::SUITE,
    growth::SUITE,
    micro::SUITE,
    crowd::SUITE,
];

/// A file full of cases.
pub(crate) struct Suite {
    /// Its cases, in the order in which they run.
    pub(crate) cases: fn() -> Vec<Case>,
    /// Servers of its own, which `fits` gives to its cases alone; most suites have none.
    pub(crate) servers: fn(&Programs) -> Vec<Server>,
}

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
    /// What asks for it: a row of the table of figures, as `P1`, or any other name that `--suite` shall know.
    pub(crate) suite: &'static str,
    /// Its name in a sample.
    pub(crate) key: &'static str,
    /// What the tables call it, unit included.
    pub(crate) label: &'static str,
    pub(crate) must: Option<Must>,
    /// What it should become.
    pub(crate) aim: Option<Must>,
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
    /// A turn in the suite's own words: it starts the server (`Bench::start`), loads it and reads the figures.
    Own(fn(&Bench, &Server, &Case) -> Result<Sample, String>),
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
    /// The suites of its metrics, as asked for.
    pub(crate) suite: String,
    pub(crate) name: String,
    /// The protocol, which is a name for `--suite` too.
    pub(crate) scheme: &'static str,
    /// What the server does with messages: `echo`, `sink`, or a word of the suite.
    pub(crate) role: &'static str,
    pub(crate) work: Work,
    pub(crate) pin: Pin,
    /// The server that ratios refer to.
    pub(crate) reference: &'static str,
    /// What the path carries: the largest UDP payload, where it is not what loopback offers.
    pub(crate) mtu: Option<u16>,
    /// Whether peers have a turn, where there are any that can do it.
    pub(crate) peers: bool,
    /// Rounds are no more than this, for what takes long or swings little.
    pub(crate) rounds_max: usize,
    /// Left out of a quick run that does not name its suite.
    pub(crate) slow: bool,
    /// Packages of this workspace that it needs besides the load and the limit.
    pub(crate) packages: &'static [&'static str],
    pub(crate) metrics: Vec<Metric>,
}

/// The cases that ask for one of these names, of figures or of protocols; without a name all.
pub(crate) fn select(names: &[String]) -> Result<Vec<Case>, String> {
    let mut cases: Vec<Case> = SUITES.iter().flat_map(|suite| (suite.cases)()).collect();
    let known = names_of(&cases);
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("{unknown}: not one of {}", known.join(" ")));
    }
    let asked = |name: &str| names.is_empty() || names.iter().any(|asked| asked == name);
    for case in &mut cases {
        if !asked(case.scheme) {
            case.metrics.retain(|metric| asked(metric.suite));
        }
        let mut suites: Vec<&str> = case.metrics.iter().map(|metric| metric.suite).collect();
        suites.dedup();
        case.suite = suites.join("+");
    }
    cases.retain(|case| !case.metrics.is_empty());
    Ok(cases)
}

/// The servers that suites bring.
pub(crate) fn servers(programs: &Programs) -> Vec<Server> {
    let of_suite = SUITES.iter().map(|suite| (suite.servers)(programs));
    of_suite.flatten().collect()
}

/// Every name that `--suite` knows.
fn names_of(cases: &[Case]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for case in cases {
        let figures = case.metrics.iter().map(|metric| metric.suite);
        for name in figures.chain([case.scheme]) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

impl Suite {
    /// Cases for servers that are known anyway.
    const fn of(cases: fn() -> Vec<Case>) -> Self {
        Self {
            cases,
            servers: |_| Vec::new(),
        }
    }
}

impl Metric {
    /// A figure that only is what it is.
    const fn new(suite: &'static str, key: &'static str, label: &'static str) -> Self {
        Self {
            suite,
            key,
            label,
            must: None,
            aim: None,
        }
    }

    /// A figure with what it must be and what it should become.
    const fn bound(self, must: Must, aim: Must) -> Self {
        Self {
            must: Some(must),
            aim: Some(aim),
            ..self
        }
    }
}

impl Case {
    /// A case against the limit, server and load on a core each, in every round.
    fn new(name: String, scheme: &'static str, work: Work, metrics: Vec<Metric>) -> Self {
        Self {
            suite: String::new(),
            name,
            scheme,
            role: "echo",
            work,
            pin: Pin::Split,
            reference: "limit",
            mtu: None,
            peers: true,
            rounds_max: usize::MAX,
            slow: false,
            packages: &[],
            metrics,
        }
    }
}

/// A payload's length in words.
fn size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_cases_and_only_the_asked_figures() {
        let all = select(&[]).expect("all cases");
        for name in names_of(&all) {
            let cases = select(&[name.to_owned()]).expect("a known name");
            assert!(!cases.is_empty(), "{name}");
            for case in cases {
                let figures = case.metrics.iter().all(|metric| metric.suite == name);
                assert!(figures || case.scheme == name, "{name}: {}", case.name);
            }
        }
        assert!(select(&["P99".to_owned()]).is_err());
    }

    #[test]
    fn names_of_cases_are_unique() {
        let all = select(&[]).expect("all cases");
        for (at, case) in all.iter().enumerate() {
            assert!(
                all[..at].iter().all(|before| before.name != case.name),
                "{}",
                case.name
            );
        }
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
