//! What the pages show: a table for each case, what must be and is, who is ahead, who failed.

use crate::servers::OURS;
use crate::suites::Must;
use crate::table::{CaseResult, Row, Spread, paired, short, spread};

/// Figures that most cases have besides their own: key, heading, divisor.
const COMMON: [(&str, &str, f64); 6] = [
    ("rate", "msgs/s", 1.0),
    ("p50", "p50 us", 1.0),
    ("p99", "p99 us", 1.0),
    ("p999", "p99.9 us", 1.0),
    ("switches_per_1000", "switches/1000", 1.0),
    ("bytes_per_s", "MB/s", 1e6),
];

/// A table of text; the first column is a name.
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) lines: Vec<Vec<String>>,
}

/// One line a server: the figures of the case first, then those that come with every load.
pub(crate) fn of_case(result: &CaseResult) -> Table {
    let case = &result.case;
    let mut servers = result.servers.iter();
    let reference = servers.find(|server| server.name == case.reference);
    let common = COMMON.iter().filter(|(key, ..)| {
        let own = case.metrics.iter().any(|metric| metric.key == *key);
        !own && result
            .servers
            .iter()
            .any(|server| server.median(key).is_some())
    });
    let common: Vec<_> = common.collect();
    let mut head = vec!["server".to_owned()];
    for metric in &case.metrics {
        head.push(metric.label.to_owned());
        if reference.is_some() {
            head.push(format!("x {}", case.reference));
        }
    }
    head.extend(common.iter().map(|(_, label, _)| (*label).to_owned()));
    let lines = result.servers.iter().map(|server| {
        let mut line = vec![server.name.clone()];
        for metric in &case.metrics {
            line.push(match spread(&server.rounds, metric.key) {
                Some(figure) => range(figure),
                None => "failed".to_owned(),
            });
            if let Some(reference) = reference {
                let ratio = paired(&server.rounds, &reference.rounds, metric.key);
                line.push(ratio.map(ratio_range).unwrap_or_default());
            }
        }
        line.extend(common.iter().map(|(key, _, divisor)| {
            let figure = server.median(key).map(|figure| short(figure / divisor));
            figure.unwrap_or_default()
        }));
        line
    });
    Table {
        lines: lines.collect(),
        head,
    }
}

/// Each figure of ours of which something is demanded, and whether it is kept.
pub(crate) fn bounds(rows: &[Row]) -> Table {
    let head = [
        "row", "case", "figure", "ours", "ratio", "against", "must", "", "aim", "",
    ];
    let ours = rows
        .iter()
        .filter(|row| row.server == OURS && (row.must.is_some() || row.aim.is_some()));
    let mut ours: Vec<&Row> = ours.collect();
    ours.sort_by_key(|row| {
        row.suite
            .trim_start_matches('P')
            .parse()
            .unwrap_or(u32::MAX)
    });
    let lines = ours.iter().map(|row| {
        let verdict = |bound: Option<Must>| {
            let kept = bound.map(|bound| bound.is_kept(row.value, row.ratio));
            let verdict = match kept {
                Some(Some(true)) => "kept",
                Some(Some(false)) => "missed",
                Some(None) => "not measured",
                None => "",
            };
            [
                bound.map(Must::text).unwrap_or_default(),
                verdict.to_owned(),
            ]
        };
        let mut line = vec![
            row.suite.to_owned(),
            row.case.clone(),
            row.label.to_owned(),
            row.value.map(range).unwrap_or_default(),
            row.ratio.map(ratio_range).unwrap_or_default(),
            row.reference.to_owned(),
        ];
        line.extend(verdict(row.must));
        line.extend(verdict(row.aim));
        line
    });
    Table {
        lines: lines.collect(),
        head: head.map(str::to_owned).to_vec(),
    }
}

/// Where another server is ahead of ours in what a message costs, or ours misses what it must reach: the losses.
pub(crate) fn losses(rows: &[Row]) -> Vec<String> {
    let mut losses = Vec::new();
    for ours in rows.iter().filter(|row| row.server == OURS) {
        let (Some(figure), case) = (ours.value, &ours.case) else {
            continue;
        };
        if let (Some(false), Some(must)) = (ours.kept, ours.must) {
            let (suite, label) = (ours.suite, ours.label);
            // In the words of the bound: a figure that is bound by itself may have a ratio as well.
            let is = match must {
                Must::Ratio(_) | Must::RatioAtLeast(_) => ours.ratio.map(ratio),
                Must::AtMost(_) | Must::AtLeast(_) => None,
            };
            let is = is.unwrap_or_else(|| short(figure.median));
            losses.push(format!(
                "{suite}, {case}: {label} {is}, must be {}",
                must.text()
            ));
        }
        let same = |row: &&Row| row.case == *case && row.key == ours.key && row.server != OURS;
        for peer in rows.iter().filter(same).filter(|row| row.key == "cpu") {
            // The limit and raw tokio have no session layer; that they are ahead is what the ratios say.
            let hand_written = matches!(peer.server.as_str(), "limit" | "tokio-raw");
            if let Some(theirs) = peer.value
                && theirs.median < figure.median
                && !hand_written
            {
                let (name, theirs, ours) = (&peer.server, theirs.median, figure.median);
                let (theirs, ours) = (short(theirs), short(ours));
                losses.push(format!(
                    "{case}: {name} takes {theirs} ns a message, ours {ours}"
                ));
            }
        }
    }
    losses
}

fn range(figure: Spread) -> String {
    let [median, min, max] = [figure.median, figure.min, figure.max].map(short);
    format!("{median} ({min}-{max})")
}

fn ratio(ratio: Spread) -> String {
    format!("{:.2}x", ratio.median)
}

fn ratio_range(ratio: Spread) -> String {
    format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max)
}
