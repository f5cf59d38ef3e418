//! From rounds to figures: medians, ratios paired within a round, and whether what must be is.

use crate::measure::{OTHERS, Sample};
use crate::suites::{Case, Must, Work};
use serde_json::{Value, json};

/// All rounds of a case, by server.
pub(crate) struct CaseResult {
    pub(crate) case: Case,
    pub(crate) servers: Vec<ServerResult>,
    /// Neither ours nor the reference has failed.
    pub(crate) sound: bool,
}

/// The turns of one server, in their order.
pub(crate) struct ServerResult {
    pub(crate) name: String,
    /// A failed turn is `None`.
    pub(crate) rounds: Vec<Option<Sample>>,
    /// Why the first one failed that did.
    pub(crate) failure: Option<String>,
}

impl ServerResult {
    /// No turn yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            rounds: Vec::new(),
            failure: None,
        }
    }

    /// The median of a figure.
    pub(crate) fn median(&self, key: &str) -> Option<f64> {
        spread(&self.rounds, key).map(|spread| spread.median)
    }
}

/// Median, minimum and maximum, and how far the median may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// The standard error of the median, from the median distance of the rounds to it, and never less than what their
    /// whole range tells: of three rounds two often lie side by side.
    pub(crate) error: f64,
}

/// From a median distance to a standard deviation, and from that to the error of a median, for a normal distribution.
const ERROR_OF_MEDIAN: f64 = 1.4826 * 1.2533;
/// How many standard deviations lie between the least and the most of so many values.
const RANGE: [f64; 8] = [1.128, 1.693, 2.059, 2.326, 2.534, 2.704, 2.847, 2.970];
/// Part of what the range tells that counts; all of it would let one disturbed round hide a loss.
const RANGE_COUNTS: f64 = 0.6;
/// Part of a median of one or two rounds.
const ERROR_UNKNOWN: f64 = 0.05;

/// One figure of one server.
pub(crate) struct Row {
    pub(crate) server: String,
    pub(crate) suite: &'static str,
    pub(crate) case: String,
    pub(crate) reference: &'static str,
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    /// `None` when every turn failed.
    pub(crate) value: Option<Spread>,
    pub(crate) ratio: Option<Spread>,
    pub(crate) must: Option<Must>,
    pub(crate) aim: Option<Must>,
    /// Whether the figure is what it must be; only where something is demanded.
    pub(crate) kept: Option<bool>,
    /// Why it has no value.
    pub(crate) failure: Option<String>,
    pub(crate) rate: Option<f64>,
    /// p50, p99, p99.9 in microseconds.
    pub(crate) latency: Option<[f64; 3]>,
    pub(crate) switches: Option<f64>,
    pub(crate) bytes_per_s: Option<f64>,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = middle(&values);
        let mut distances: Vec<f64> = values.iter().map(|value| (value - median).abs()).collect();
        distances.sort_by(f64::total_cmp);
        let deviations = RANGE[values.len().clamp(2, RANGE.len() + 1) - 2];
        // One or two rounds say nothing of how much they swing.
        let unknown = match values.len() {
            ..3 => ERROR_UNKNOWN * median.abs(),
            _ => 0.0,
        };
        let by_range = RANGE_COUNTS * 1.2533 * (max - min) / deviations;
        let by_distance = ERROR_OF_MEDIAN * middle(&distances);
        let error = by_distance.max(by_range) / (values.len() as f64).sqrt();
        let error = error.max(unknown);
        Some(Self {
            median,
            min,
            max,
            error,
        })
    }

    fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max, "error": self.error })
    }
}

/// The middle of sorted values, of which there is at least one.
fn middle(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() % 2 {
        0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

pub(crate) fn spread(samples: &[Option<Sample>], key: &str) -> Option<Spread> {
    Spread::of(
        samples
            .iter()
            .flatten()
            .filter_map(|sample| sample.get(key).copied())
            .collect(),
    )
}

/// Ratios of the rounds in which both have the figure.
pub(crate) fn paired(
    samples: &[Option<Sample>],
    reference: &[Option<Sample>],
    key: &str,
) -> Option<Spread> {
    let figure = |sample: &Option<Sample>| sample.as_ref()?.get(key).copied();
    let ratios = samples.iter().zip(reference).filter_map(|(ours, base)| {
        let (ours, base) = (figure(ours)?, figure(base)?);
        (base > 0.0).then(|| ours / base)
    });
    Spread::of(ratios.collect())
}

/// The rate that an open-loop case halves: what the limit's median was where the case says.
pub(crate) fn rate_for(case: &Case, results: &[CaseResult]) -> Option<f64> {
    let Work::OpenHalf { of, .. } = &case.work else {
        return None;
    };
    let closed = results.iter().find(|result| result.case.name == *of)?;
    let mut servers = closed.servers.iter();
    let reference = servers.find(|server| server.name == closed.case.reference)?;
    reference.median("rate")
}

/// What others took of the machine, over all turns.
pub(crate) fn others(results: &[CaseResult]) -> Option<Spread> {
    let samples = results
        .iter()
        .flat_map(|result| &result.servers)
        .flat_map(|server| &server.rounds)
        .flatten();
    Spread::of(
        samples
            .filter_map(|sample| sample.get(OTHERS).copied())
            .collect(),
    )
}

/// One row for each case, figure and server.
pub(crate) fn rows(results: &[CaseResult]) -> Vec<Row> {
    let mut rows = Vec::new();
    for CaseResult { case, servers, .. } in results {
        let reference = servers
            .iter()
            .find(|server| server.name == case.reference)
            .map(|server| &server.rounds);
        for metric in &case.metrics {
            for server in servers {
                let value = spread(&server.rounds, metric.key);
                let ratio = reference.and_then(|base| paired(&server.rounds, base, metric.key));
                let latency = ["p50", "p99", "p999"].map(|key| server.median(key));
                let failure = server.failure.clone();
                rows.push(Row {
                    server: server.name.clone(),
                    suite: metric.suite,
                    case: case.name.clone(),
                    reference: case.reference,
                    key: metric.key,
                    label: metric.label,
                    value,
                    ratio,
                    must: metric.must,
                    aim: metric.aim,
                    kept: metric.must.and_then(|must| must.is_kept(value, ratio)),
                    failure: failure.filter(|_| value.is_none()),
                    rate: server.median("rate"),
                    latency: match latency {
                        [Some(p50), Some(p99), Some(p999)] => Some([p50, p99, p999]),
                        _ => None,
                    },
                    switches: server.median("switches_per_1000"),
                    bytes_per_s: server.median("bytes_per_s"),
                });
            }
        }
    }
    rows
}

impl Must {
    pub(crate) fn is_kept(self, value: Option<Spread>, ratio: Option<Spread>) -> Option<bool> {
        match self {
            Self::Ratio(most) => ratio.map(|ratio| ratio.median <= most),
            Self::RatioAtLeast(least) => ratio.map(|ratio| ratio.median >= least),
            Self::AtMost(most) => value.map(|value| value.median <= most),
            Self::AtLeast(least) => value.map(|value| value.median >= least),
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::Ratio(most) => format!("<= {most}x"),
            Self::RatioAtLeast(least) => format!(">= {least}x"),
            Self::AtMost(most) => format!("<= {}", short(most)),
            Self::AtLeast(least) => format!(">= {}", short(least)),
        }
    }
}

/// Three digits that matter.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        1e7.. => format!("{:.1} M", value / 1e6),
        1e6.. => format!("{:.2} M", value / 1e6),
        1e5.. => format!("{:.0} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.0 => "0".into(),
        _ => format!("{value:.2}"),
    }
}

/// The table as text: a heading for each case, and below it a line for each figure and server.
pub(crate) fn render(rows: &[Row]) -> String {
    const HEAD: [&str; 12] = [
        "server",
        "figure",
        "median",
        "(min-max)",
        "ratio",
        "(min-max)",
        "must",
        "aim",
        "msgs/s",
        "p50/p99/p99.9 us",
        "switches/1000",
        "MB/s",
    ];
    let mut cells: Vec<[String; 12]> = vec![HEAD.map(str::to_owned)];
    let mut headings = Vec::new();
    let mut first: Option<&Row> = None;
    for row in rows {
        let begins = first.filter(|first| first.case == row.case).is_none();
        headings.push(begins.then(|| format!("{}  {}", row.suite, row.case)));
        first = first.filter(|_| !begins).or(Some(row));
        // What comes with every load stands once for each server.
        let in_first_figure = first.is_some_and(|first| first.label == row.label);
        let once = |text: Option<String>| text.filter(|_| in_first_figure).unwrap_or_default();
        let range = |spread: Spread| format!("({}-{})", short(spread.min), short(spread.max));
        let ratio_range = |spread: Spread| format!("({:.2}-{:.2})", spread.min, spread.max);
        // Bounds are ours; beside the others they would read like a verdict.
        let bound = |bound: Option<Must>| {
            let of_ours = bound.filter(|_| row.server == crate::servers::OURS);
            let with_verdict = of_ours.map(|bound| {
                let verdict = match bound.is_kept(row.value, row.ratio) {
                    Some(true) => "ok",
                    Some(false) => "OVER",
                    None => "?",
                };
                format!("{} {verdict}", bound.text())
            });
            with_verdict.unwrap_or_default()
        };
        cells.push([
            format!("  {}", row.server),
            row.label.to_owned(),
            row.value
                .map_or_else(|| "FAILED".into(), |value| short(value.median)),
            row.value.map(range).unwrap_or_default(),
            row.ratio
                .map(|ratio| format!("{:.2}", ratio.median))
                .unwrap_or_default(),
            row.ratio.map(ratio_range).unwrap_or_default(),
            bound(row.must),
            bound(row.aim),
            once(row.rate.map(short)),
            once(row.latency.map(|quantiles| quantiles.map(short).join("/"))),
            once(row.switches.map(short)),
            once(row.bytes_per_s.map(|bytes| short(bytes / 1e6))),
        ]);
    }
    let width = |column: usize| {
        let lengths = cells.iter().map(|line| line[column].chars().count());
        lengths.max().unwrap_or_default()
    };
    let mut widths: [usize; 12] = std::array::from_fn(width);
    // A heading takes the place of the two names.
    let longest = headings.iter().flatten().map(String::len).max();
    widths[1] = widths[1].max(longest.unwrap_or(0).saturating_sub(widths[0] + 2));
    let [server, figure, ..] = widths;
    let numbers = |line: &[String; 12]| {
        let cells = line.iter().zip(widths).skip(2);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:>width$}"))
            .collect();
        cells.join("  ")
    };
    let names = server + 2 + figure;
    let mut out = String::new();
    for (line, heading) in cells.iter().skip(1).zip(headings) {
        if let Some(heading) = heading {
            let gap = if out.is_empty() { "" } else { "\n" };
            let text = format!("{gap}{heading:<names$}  {}", numbers(&cells[0]));
            out.push_str(&format!("{}\n", text.trim_end()));
        }
        let text = format!(
            "{:<server$}  {:<figure$}  {}",
            line[0],
            line[1],
            numbers(line)
        );
        out.push_str(&format!("{}\n", text.trim_end()));
    }
    for (case, server, failure) in failures(rows) {
        out.push_str(&format!("{case}: {server} failed: {failure}\n"));
    }
    out
}

/// Why a case fails the run, with how many turns did: a server that failed in some rounds has figures of the others.
pub(crate) fn unsound(result: &CaseResult) -> String {
    let lines = result.servers.iter().filter_map(|server| {
        let (why, name) = (server.failure.as_ref()?, &server.name);
        let failed = server.rounds.iter().filter(|turn| turn.is_none()).count();
        let (turns, case) = (server.rounds.len(), &result.case.name);
        Some(format!(
            "FAILED: {case}, {name}, {failed} of {turns} turns: {why}\n"
        ))
    });
    lines.collect()
}

/// Who failed where and why, each once.
pub(crate) fn failures(rows: &[Row]) -> Vec<(&str, &str, &str)> {
    let mut failures = Vec::new();
    for row in rows {
        let told = row.failure.as_deref();
        let failure = told.map(|why| (row.case.as_str(), row.server.as_str(), why));
        failures.extend(failure.filter(|failure| !failures.contains(failure)));
    }
    failures
}

/// Every turn as measured.
pub(crate) fn to_json(results: &[CaseResult]) -> Value {
    let turns = results.iter().flat_map(|result| {
        result.servers.iter().flat_map(move |server| {
            server
                .rounds
                .iter()
                .enumerate()
                .map(move |(round, sample)| {
                    json!({
                        "suite": result.case.suite,
                        "case": result.case.name,
                        "server": server.name,
                        "round": round + 1,
                        "figures": sample,
                    })
                })
        })
    });
    turns.collect()
}

impl Row {
    /// The row for the record.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "suite": self.suite,
            "case": self.case,
            "server": self.server,
            "figure": self.label,
            "value": self.value.map(Spread::to_json),
            "ratio": self.ratio.map(Spread::to_json),
            "must": self.must.map(Must::text),
            "aim": self.aim.map(Must::text),
            "kept": self.kept,
            "failure": self.failure,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[Option<f64>]) -> Vec<Option<Sample>> {
        values
            .iter()
            .map(|value| value.map(|value| Sample::from([("cpu".to_owned(), value)])))
            .collect()
    }

    #[test]
    fn ratios_are_paired_by_round_and_skip_failed_turns() {
        let ours = samples(&[Some(12.0), None, Some(30.0), Some(11.0)]);
        let limit = samples(&[Some(10.0), Some(10.0), Some(20.0), Some(10.0)]);
        let ratio = paired(&ours, &limit, "cpu").expect("three pairs");
        assert_eq!((ratio.median, ratio.min, ratio.max), (1.2, 1.1, 1.5));
        assert_eq!(paired(&ours, &limit, "p99"), None);
    }

    #[test]
    fn median_of_an_even_number_lies_between() {
        assert_eq!(
            Spread::of(vec![4.0, 1.0]).map(|spread| spread.median),
            Some(2.5)
        );
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn a_case_is_named_once_and_its_rates_stand_once_a_server() {
        let cases = crate::suites::select(&["P5".to_owned()]).expect("a known suite");
        let figures = ["cpu", "p50", "p99", "p999", "rate"];
        let sample = Sample::from(figures.map(|key| (key.to_owned(), 321.0)));
        let server = |name: &str| ServerResult {
            rounds: vec![Some(sample.clone())],
            ..ServerResult::new(name)
        };
        let result = CaseResult {
            case: cases[0].clone(),
            servers: vec![server("tokio-raw"), server("ours")],
            sound: true,
        };
        let text = render(&rows(&[result]));
        let heading = "P5  tcp 64 B rtt, one core  median";
        assert_eq!(text.matches(heading).count(), 1, "{text}");
        // Four figures of two servers, and the quantiles of each once.
        assert_eq!(
            text.lines().filter(|line| line.starts_with("  ")).count(),
            8,
            "{text}"
        );
        assert_eq!(text.matches("321/321/321").count(), 2, "{text}");
    }

    #[test]
    fn a_server_that_failed_once_is_told_although_it_has_figures() {
        let cases = crate::suites::select(&["P2".to_owned()]).expect("a known suite");
        let ours = ServerResult {
            rounds: samples(&[Some(12.0), None, Some(11.0)]),
            failure: Some("answered wrongly".to_owned()),
            ..ServerResult::new("ours")
        };
        let result = CaseResult {
            case: cases[0].clone(),
            servers: vec![ServerResult::new("limit"), ours],
            sound: false,
        };
        assert_eq!(
            unsound(&result),
            "FAILED: tcp 1 KiB 10x16, ours, 1 of 3 turns: answered wrongly\n"
        );
    }

    #[test]
    fn a_single_round_is_not_taken_for_exact() {
        let error = |rounds: &[f64]| Spread::of(rounds.to_vec()).expect("values").error;
        assert_eq!(error(&[100.0]), 5.0);
        assert_eq!(error(&[100.0; 3]), 0.0);
        // Two of three lie side by side, and the third tells that this is chance.
        assert!(error(&[100.0, 100.0, 130.0]) > 5.0);
    }

    #[test]
    fn what_must_be_is_judged_by_the_median() {
        let spread = Spread {
            median: 1.4,
            min: 1.0,
            max: 9.0,
            error: 0.1,
        };
        assert_eq!(Must::Ratio(1.4).is_kept(None, Some(spread)), Some(true));
        assert_eq!(
            Must::RatioAtLeast(1.5).is_kept(None, Some(spread)),
            Some(false)
        );
        assert_eq!(Must::AtMost(1.0).is_kept(Some(spread), None), Some(false));
        assert_eq!(Must::AtLeast(1.0).is_kept(None, None), None);
    }
}
