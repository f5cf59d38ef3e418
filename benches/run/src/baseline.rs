//! Against an earlier run: which figures of ours are worse by more than the noise of both runs.
//!
//! Only ratios travel from one hour to the next, so a figure with a reference is compared by its ratio and a figure
//! without one by its value. The noise of a median is its standard error, estimated from the rounds of its run. What is
//! off by more than three standard errors of the difference, and by more than a floor below which the placement of code
//! alone moves figures, looks worse. Of the hundreds of figures of a full run some always do, so their cases are measured
//! once more, and worse is what looks so both times.

use crate::servers::OURS;
use crate::suites::{Case, Must, Work};
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
/// What makes two machines two.
const MACHINE: [&str; 2] = ["cpu", "cores"];

/// Case and label of a figure.
type Name = (String, String);

/// Figures of ours in an earlier run: median and error.
#[derive(Debug)]
pub(crate) struct Baseline(BTreeMap<Name, (f64, f64)>);

/// What a comparison found.
#[derive(Debug)]
pub(crate) struct Compared {
    /// How many figures both runs have.
    figures: usize,
    worse: BTreeMap<Name, String>,
    better: BTreeMap<Name, String>,
}

impl Baseline {
    /// Reads the JSON of an earlier run, which has to be of this machine.
    pub(crate) fn read(path: &Path, machine: &Value) -> Result<Self, String> {
        let failed = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let record = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
        Self::of(&record, machine).map_err(failed)
    }

    fn of(record: &Value, machine: &Value) -> Result<Self, String> {
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
        let figures: BTreeMap<_, _> = figures.collect();
        if figures.is_empty() {
            return Err("not a figure of ours in it".to_owned());
        }
        let there = &record["machine"];
        if MACHINE.iter().any(|part| there[part] != machine[part]) {
            let name = |machine: &Value| {
                let cpu = machine["cpu"].as_str().unwrap_or("an unknown processor");
                format!("{cpu} with {} cores", machine["cores"])
            };
            let (there, here) = (name(there), name(machine));
            return Err(format!(
                "measured on {there}, and this is {here}: figures of two machines do not compare"
            ));
        }
        Ok(Self(figures))
    }

    /// Compares what both runs have.
    ///
    /// # Errors
    /// When they have nothing in common: that would be no comparison, and must not look like a good one.
    pub(crate) fn compare(&self, rows: &[Row]) -> Result<Compared, String> {
        let mut compared = Compared {
            figures: 0,
            worse: BTreeMap::new(),
            better: BTreeMap::new(),
        };
        for row in rows.iter().filter(|row| row.server == OURS) {
            let key = (row.case.clone(), row.label.to_owned());
            let (Some((before, error)), Some(now)) = (self.0.get(&key), row.ratio.or(row.value))
            else {
                continue;
            };
            compared.figures += 1;
            let noise = noise(row.key, (*before, *error), now);
            // Positive is worse.
            let change = if more_is_better(row) {
                before - now.median
            } else {
                now.median - before
            };
            let now = now.median;
            let text = format!("{before:.3} before, {now:.3} now, noise {noise:.3}");
            if change > noise {
                compared.worse.insert(key, text);
            } else if change < -noise {
                compared.better.insert(key, text);
            }
        }
        match compared.figures {
            0 => Err("the baseline has no figure that was measured now".to_owned()),
            _ => Ok(compared),
        }
    }
}

impl Compared {
    /// How many figures are worse.
    pub(crate) fn worse(&self) -> usize {
        self.worse.len()
    }

    /// The cases to measure again, in their order: those in which something looks worse, and those from which they take
    /// their rate.
    pub(crate) fn suspects(&self, cases: &[Case]) -> Vec<Case> {
        let named = |name: &str| self.worse.keys().any(|(case, _)| case == name);
        let halved = |name: &str| {
            let of = |case: &Case| matches!(&case.work, Work::OpenHalf { of, .. } if of == name);
            cases.iter().any(|case| of(case) && named(&case.name))
        };
        let suspects = cases
            .iter()
            .filter(|case| named(&case.name) || halved(&case.name));
        suspects.cloned().collect()
    }

    /// Keeps as worse what `again` finds worse too.
    pub(crate) fn confirm(&mut self, again: &Self) {
        self.worse = std::mem::take(&mut self.worse)
            .into_iter()
            .filter_map(|(name, text)| {
                let second = again.worse.get(&name)?;
                Some((name, format!("{text}; again {second}")))
            })
            .collect();
    }

    /// A line for each figure that moved, and one for all.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (word, figures) in [("WORSE", &self.worse), ("better", &self.better)] {
            for ((case, label), what) in figures {
                text.push_str(&format!("{word}: {case} {label}: {what}\n"));
            }
        }
        let (figures, worse, better) = (self.figures, self.worse.len(), self.better.len());
        text.push_str(&format!(
            "{figures} figures compared with the baseline: {worse} worse, {better} better beyond the noise\n"
        ));
        text
    }
}

fn noise(key: &str, (before, error): (f64, f64), now: Spread) -> f64 {
    let floor = match key.starts_with("p50") || key.starts_with("p99") {
        true => FLOOR_LATENCY,
        false => FLOOR,
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
    use std::sync::LazyLock;

    /// What ours costs in each round, in a run in which the limit costs 600.
    fn rows_of(rounds: impl IntoIterator<Item = f64>) -> Vec<Row> {
        static CASE: LazyLock<Case> = LazyLock::new(|| {
            let cases = suites::select(&["P2".to_owned()]).expect("a known suite");
            cases[0].clone()
        });
        let case = CASE.clone();
        let rounds: Vec<f64> = rounds.into_iter().collect();
        let server = |name: &str, costs: &dyn Fn(f64) -> f64| {
            let sample = |cpu| Some(Sample::from([("cpu".to_owned(), cpu)]));
            ServerResult {
                rounds: rounds.iter().map(|&round| sample(costs(round))).collect(),
                ..ServerResult::new(name)
            }
        };
        let servers = vec![
            server("limit", &|_| 600.0),
            server(OURS, &|round| 600.0 * round),
        ];
        table::rows(&[CaseResult {
            case,
            servers,
            sound: true,
        }])
    }

    /// A run in which ours costs `ours` times what the limit does, in three rounds that differ a little.
    fn rows(ours: f64) -> Vec<Row> {
        rows_of([0.99, 1.0, 1.02].map(|swing| ours * swing))
    }

    fn record(rows: &[Row]) -> Value {
        let rows: Vec<Value> = rows.iter().map(Row::to_json).collect();
        json!({ "machine": machine("a Xeon"), "rows": rows })
    }

    fn machine(cpu: &str) -> Value {
        json!({ "cpu": cpu, "cores": 2, "kernel": "6.18" })
    }

    fn baseline(rows: &[Row]) -> Baseline {
        Baseline::of(&record(rows), &machine("a Xeon")).expect("figures of this machine")
    }

    fn worse(baseline: &Baseline, rows: &[Row]) -> usize {
        baseline.compare(rows).expect("figures in common").worse()
    }

    #[test]
    fn a_figure_that_got_worse_is_found_and_noise_is_not() {
        let baseline = baseline(&rows(1.2));
        assert_eq!(worse(&baseline, &rows(1.2)), 0);
        assert_eq!(worse(&baseline, &rows(1.22)), 0);
        assert_eq!(worse(&baseline, &rows(1.1)), 0);
        assert_eq!(worse(&baseline, &rows(1.35)), 1);
    }

    #[test]
    fn worse_is_what_looks_so_a_second_time() {
        let baseline = baseline(&rows(1.2));
        let compare = |rows: &[Row]| baseline.compare(rows).expect("figures in common");
        let mut once = compare(&rows(1.4));
        once.confirm(&compare(&rows(1.2)));
        assert_eq!(once.worse(), 0, "{}", once.text());
        let mut twice = compare(&rows(1.4));
        twice.confirm(&compare(&rows(1.39)));
        assert_eq!(twice.worse(), 1);
        assert!(
            twice
                .text()
                .starts_with("WORSE: tcp 1 KiB 10x16 cpu ns/msg: 1.200 before, 1.400 now")
        );
    }

    #[test]
    fn an_open_loop_is_measured_again_with_the_case_it_takes_its_rate_from() {
        let cases = suites::select(&["P1".to_owned()]).expect("a known suite");
        let name = "tcp 64 B 50x32 open, half load";
        let key = (name.to_owned(), "p99 us".to_owned());
        let compared = Compared {
            figures: 1,
            worse: BTreeMap::from([(key, String::new())]),
            better: BTreeMap::new(),
        };
        let suspects = compared.suspects(&cases);
        let names: Vec<&str> = suspects.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["tcp 64 B 50x32", name]);
    }

    #[test]
    fn runs_that_have_nothing_to_compare_are_an_error() {
        let baseline = baseline(&rows(1.2));
        let error = baseline.compare(&[]).expect_err("nothing was measured");
        assert!(error.contains("no figure"), "{error}");
        let record = json!({ "machine": machine("a Xeon"), "rows": [] });
        let error = Baseline::of(&record, &machine("a Xeon")).expect_err("nothing in it");
        assert!(error.contains("not a figure"), "{error}");
    }

    #[test]
    fn figures_of_another_machine_are_refused() {
        let error = Baseline::of(&record(&rows(1.2)), &machine("an EPYC"));
        let error = error.expect_err("another processor");
        assert!(
            error.contains("a Xeon") && error.contains("an EPYC"),
            "{error}"
        );
    }

    #[test]
    fn rounds_that_swing_widen_the_noise() {
        let steady = Spread::of(vec![1.2, 1.2, 1.2]).expect("values");
        let swinging = Spread::of(vec![0.9, 1.2, 1.5]).expect("values");
        let before = (1.2, 0.0);
        assert!((noise("cpu", before, steady) - 0.036).abs() < 1e-9);
        assert!(noise("cpu", before, swinging) > 0.3);
    }

    /// What a full run is to its user: 150 figures that swing by 5 % a round, one round in ten disturbed by a neighbour.
    #[test]
    fn a_run_of_the_same_program_passes_and_a_fifth_more_does_not() {
        let mut dice = Dice(1);
        let (mut failed, mut missed) = (0, 0);
        const RUNS: usize = 20;
        const FIGURES: usize = 150;
        for _ in 0..RUNS {
            let found = |dice: &mut Dice, more: f64| {
                let baseline = baseline(&rows_of(dice.rounds(1.0)));
                (0..2).all(|_| worse(&baseline, &rows_of(dice.rounds(more))) == 1)
            };
            let alarms = (0..FIGURES).filter(|_| found(&mut dice, 1.0)).count();
            failed += usize::from(alarms > 0);
            missed += usize::from(!found(&mut dice, 1.2));
        }
        assert!(failed <= RUNS / 4, "{failed} of {RUNS} failed for nothing");
        assert!(missed <= RUNS / 4, "{missed} of {RUNS} regressions missed");
    }

    /// The same numbers in every run of the test.
    struct Dice(u64);

    impl Dice {
        /// 0 to 1.
        fn roll(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }

        /// Seven rounds around `middle`.
        fn rounds(&mut self, middle: f64) -> Vec<f64> {
            let round = |dice: &mut Self| {
                // Twelve uniform numbers are nearly a normal one.
                let normal = (0..12).map(|_| dice.roll()).sum::<f64>() - 6.0;
                match dice.roll() < 0.1 {
                    true => middle + (normal * 0.25).abs(),
                    false => middle + normal * 0.05,
                }
            };
            (0..7).map(|_| round(self)).collect()
        }
    }
}
