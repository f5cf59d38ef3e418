//! From rounds to figures: medians, ratios paired within a round, and whether what must be is.

use crate::measure::{OTHERS, Sample};
use crate::suites::{Case, Must, Work};
use serde_json::{Value, json};
use std::fmt::Write;

/// All rounds of a case: by server, in the order of their turns; a failed turn is `None`.
pub(crate) struct CaseResult {
    pub(crate) case: Case,
    pub(crate) servers: Vec<(String, Vec<Option<Sample>>)>,
}

/// Median, minimum and maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// One figure of one server.
pub(crate) struct Row {
    pub(crate) server: String,
    suite: &'static str,
    case: String,
    label: &'static str,
    /// `None` when every turn failed.
    value: Option<Spread>,
    ratio: Option<Spread>,
    must: Option<Must>,
    aim: Option<Must>,
    /// Whether the figure is what it must be; only where something is demanded.
    pub(crate) kept: Option<bool>,
    rate: Option<f64>,
    p50: Option<f64>,
    p99: Option<f64>,
    switches: Option<f64>,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        };
        Some(Self { median, min, max })
    }

    fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

fn spread(samples: &[Option<Sample>], key: &str) -> Option<Spread> {
    Spread::of(
        samples
            .iter()
            .flatten()
            .filter_map(|sample| sample.get(key).copied())
            .collect(),
    )
}

/// Ratios of the rounds in which both have the figure.
fn paired(samples: &[Option<Sample>], reference: &[Option<Sample>], key: &str) -> Option<Spread> {
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
    let (_, samples) = closed
        .servers
        .iter()
        .find(|(name, _)| name == closed.case.reference)?;
    Some(spread(samples, "rate")?.median)
}

/// What others took of the machine, over all turns.
pub(crate) fn others(results: &[CaseResult]) -> Option<Spread> {
    let samples = results
        .iter()
        .flat_map(|result| &result.servers)
        .flat_map(|(_, samples)| samples)
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
    for result in results {
        let reference = result
            .servers
            .iter()
            .find(|(name, _)| name == result.case.reference);
        for metric in &result.case.metrics {
            for (name, samples) in &result.servers {
                let value = spread(samples, metric.key);
                let ratio = reference.and_then(|(_, base)| paired(samples, base, metric.key));
                let median = |key: &str| spread(samples, key).map(|spread| spread.median);
                rows.push(Row {
                    server: name.clone(),
                    suite: metric.suite,
                    case: result.case.name.clone(),
                    label: metric.label,
                    value,
                    ratio,
                    must: metric.must,
                    aim: metric.aim,
                    kept: metric.must.and_then(|must| must.is_kept(value, ratio)),
                    rate: median("rate"),
                    p50: median("p50"),
                    p99: median("p99"),
                    switches: median("switches_per_1000"),
                });
            }
        }
    }
    rows
}

impl Must {
    fn is_kept(self, value: Option<Spread>, ratio: Option<Spread>) -> Option<bool> {
        match self {
            Self::Ratio(most) => ratio.map(|ratio| ratio.median <= most),
            Self::RatioAtLeast(least) => ratio.map(|ratio| ratio.median >= least),
            Self::AtMost(most) => value.map(|value| value.median <= most),
            Self::AtLeast(least) => value.map(|value| value.median >= least),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Ratio(most) => format!("<= {most}x"),
            Self::RatioAtLeast(least) => format!(">= {least}x"),
            Self::AtMost(most) => format!("<= {}", short(most)),
            Self::AtLeast(least) => format!(">= {}", short(least)),
        }
    }
}

/// Three digits that matter.
fn short(value: f64) -> String {
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

/// The table as text.
pub(crate) fn render(rows: &[Row]) -> String {
    const HEAD: [&str; 13] = [
        "suite",
        "case",
        "server",
        "figure",
        "median",
        "(min-max)",
        "ratio",
        "(min-max)",
        "must",
        "aim",
        "msgs/s",
        "p50/p99 us",
        "switches/1000",
    ];
    let mut cells: Vec<[String; 13]> = vec![HEAD.map(str::to_owned)];
    for row in rows {
        let range = |spread: Spread| format!("({}-{})", short(spread.min), short(spread.max));
        let ratio_range = |spread: Spread| format!("({:.2}-{:.2})", spread.min, spread.max);
        let optional = |value: Option<f64>| value.map(short).unwrap_or_default();
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
            row.suite.to_owned(),
            row.case.clone(),
            row.server.clone(),
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
            optional(row.rate),
            row.p50
                .zip(row.p99)
                .map(|(p50, p99)| format!("{}/{}", short(p50), short(p99)))
                .unwrap_or_default(),
            optional(row.switches),
        ]);
    }
    let width = |column: usize| {
        cells
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: [usize; 13] = std::array::from_fn(width);
    let mut out = String::new();
    for line in &cells {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            // Names to the left, numbers to the right. Writing to a String cannot fail.
            let _ = if column < 4 {
                write!(text, "{cell:<width$}  ")
            } else {
                write!(text, "{cell:>width$}  ")
            };
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

/// Every turn as measured.
pub(crate) fn to_json(results: &[CaseResult]) -> Value {
    let turns = results.iter().flat_map(|result| {
        result.servers.iter().flat_map(move |(server, samples)| {
            samples.iter().enumerate().map(move |(round, sample)| {
                json!({
                    "suite": result.case.suite,
                    "case": result.case.name,
                    "server": server,
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
        assert_eq!(
            ratio,
            Spread {
                median: 1.2,
                min: 1.1,
                max: 1.5
            }
        );
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
    fn what_must_be_is_judged_by_the_median() {
        let spread = Spread {
            median: 1.4,
            min: 1.0,
            max: 9.0,
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
