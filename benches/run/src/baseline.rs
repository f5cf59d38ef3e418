//! Against an earlier run: which figures of ours are worse by more than the noise of both runs.
//!
//! Only ratios travel from one hour to the next, so a figure with a reference is compared by its ratio and a figure
//! without one by its value. The noise of a median is its standard error, estimated from the rounds of its run (the
//! median distance to the median, robust against a round that was disturbed). Worse is what is off by more than three
//! standard errors of the difference and by more than a floor, below which the placement of code alone moves figures.

use crate::servers::OURS;
use crate::suites::Must;
use crate::table::{Row, Spread};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Standard errors of the difference.
const ERRORS: f64 = 3.0;
/// Part of the earlier figure.
const FLOOR: f64 = 0.03;
/// Quantiles of latency swing more than their rounds tell.
const FLOOR_LATENCY: f64 = 0.25;

/// Figures of ours in an earlier run: median and error, by case and label.
pub(crate) struct Baseline(BTreeMap<(String, String), (f64, f64)>);

/// What a comparison found.
pub(crate) struct Compared {
    /// A line for each figure that moved, and one for all.
    pub(crate) text: String,
    /// How many are worse.
    pub(crate) worse: usize,
}

impl Baseline {
    /// Reads the JSON of an earlier run.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let failed = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let record = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        let baseline = Self::of(&record);
        if baseline.0.is_empty() {
            return Err(failed("not a figure of ours in it".to_owned()));
        }
        Ok(baseline)
    }

    fn of(record: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let rows = record["rows"].as_array().into_iter().flatten();
        let figures = rows.filter(|row| row["server"] == OURS).filter_map(|row| {
            let figure = match &row["ratio"] {
                Value::Null => &row["value"],
                ratio => ratio,
            };
            let key = (text(&row["case"])?, text(&row["figure"])?);
            Some((key, (figure["median"].as_f64()?, figure["error"].as_f64()?)))
        });
        Self(figures.collect())
    }

    /// Compares what both runs have.
    pub(crate) fn compare(&self, rows: &[Row]) -> Compared {
        let (mut text, mut compared, mut worse, mut better) = (String::new(), 0, 0, 0);
        for row in rows.iter().filter(|row| row.server == OURS) {
            let key = (row.case.clone(), row.label.to_owned());
            let (Some((before, error)), Some(now)) = (self.0.get(&key), row.ratio.or(row.value))
            else {
                continue;
            };
            compared += 1;
            let noise = noise(row.key, (*before, *error), now);
            // Positive is worse.
            let change = if more_is_better(row) {
                before - now.median
            } else {
                now.median - before
            };
            let what = if change > noise {
                worse += 1;
                "WORSE"
            } else if change < -noise {
                better += 1;
                "better"
            } else {
                continue;
            };
            let (case, label, now) = (&row.case, row.label, now.median);
            text.push_str(&format!(
                "{what}: {case} {label}: {before:.3} before, {now:.3} now, noise {noise:.3}\n"
            ));
        }
        text.push_str(&format!(
            "{compared} figures compared with the baseline: {worse} worse, {better} better beyond the noise\n"
        ));
        Compared { text, worse }
    }
}

fn noise(key: &str, (before, error): (f64, f64), now: Spread) -> f64 {
    let floor = match key {
        "p50" | "p99" | "p999" => FLOOR_LATENCY,
        _ => FLOOR,
    };
    (ERRORS * error.hypot(now.error)).max(floor * before.abs())
}

fn more_is_better(row: &Row) -> bool {
    match row.must {
        Some(Must::RatioAtLeast(_) | Must::AtLeast(_)) => true,
        _ => row.key == "rate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;
    use crate::suites;
    use crate::table::{self, CaseResult, ServerResult};
    use serde_json::json;

    /// A run in which ours costs `ours` times what the limit does, in three rounds that differ a little.
    fn rows(ours: f64) -> Vec<Row> {
        let cases = suites::select(&["P2".to_owned()]).expect("a known suite");
        let server = |name: &str, factor: f64| {
            let mut result = ServerResult::new(name);
            for swing in [0.99, 1.0, 1.02] {
                let cpu = 600.0 * factor * swing;
                result
                    .rounds
                    .push(Some(Sample::from([("cpu".to_owned(), cpu)])));
            }
            result
        };
        let results = cases.into_iter().map(|case| CaseResult {
            case,
            servers: vec![server("limit", 1.0), server(OURS, ours)],
            sound: true,
        });
        table::rows(&results.collect::<Vec<_>>())
    }

    fn record(rows: &[Row]) -> Value {
        json!({ "rows": rows.iter().map(Row::to_json).collect::<Vec<_>>() })
    }

    #[test]
    fn a_figure_that_got_worse_is_found_and_noise_is_not() {
        let baseline = Baseline::of(&record(&rows(1.2)));
        assert_eq!(baseline.compare(&rows(1.2)).worse, 0);
        assert_eq!(baseline.compare(&rows(1.22)).worse, 0);
        assert_eq!(baseline.compare(&rows(1.1)).worse, 0);
        let compared = baseline.compare(&rows(1.3));
        assert_eq!(compared.worse, 1, "{}", compared.text);
    }

    #[test]
    fn rounds_that_swing_widen_the_noise() {
        let steady = Spread::of(vec![1.2, 1.2, 1.2]).expect("values");
        let swinging = Spread::of(vec![0.9, 1.2, 1.5]).expect("values");
        let before = (1.2, 0.0);
        assert!((noise("cpu", before, steady) - 0.036).abs() < 1e-9);
        assert!(noise("cpu", before, swinging) > 0.3);
    }
}
