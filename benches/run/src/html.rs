//! The report: one page that needs nothing else, with plots drawn here.

use crate::detail::{self, Table};
use crate::plot::{self, Bar, Curve};
use crate::servers::OURS;
use crate::suites::Work;
use crate::table::{self, CaseResult, Row};
use std::fmt::Display;

const STYLE: &str = "
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d1d9e0; --page: #fff; --ours: #0969da;
  --other: #a8b3bf; --c0: #0969da; --c1: #8b949e; --c2: #bf3989; --c3: #1a7f37; --c4: #bc4c00; --c5: #8250df;
  --c6: #9a6700; --c7: #0a7b83; --bad: #cf222e; --good: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --line: #3d444d; --page: #0d1117;
  --ours: #4493f8; --other: #656c76; --c0: #4493f8; --c1: #9198a1; --c2: #db61a2; --c3: #3fb950; --c4: #f0883e;
  --c5: #ab7df8; --c6: #d29922; --c7: #39c5cf; --bad: #f85149; --good: #3fb950; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); max-width: 72rem;
  margin: 2rem auto; padding: 0 1rem; }
h2 { border-bottom: 1px solid var(--line); margin-top: 2.5rem; } h3 { margin: 1.5rem 0 .3rem; }
p, li { color: var(--soft); } .scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .7rem .2rem 0; text-align: right; }
th.name, td.name { text-align: left; } .ours td { font-weight: 600; }
.missed { color: var(--bad); } .kept { color: var(--good); }
svg { max-width: 100%; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--text); }
svg .soft { fill: var(--soft); } svg .grid { stroke: var(--line); }";

/// The page.
pub(crate) fn page(head: &[String], results: &[CaseResult], rows: &[Row]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>MsgTrans benchmarks</title>\
         <style>{STYLE}</style></head><body>\n<h1>MsgTrans benchmarks</h1>\n"
    );
    list(&mut out, head);
    out.push_str("<h2>What must be</h2>\n");
    out.push_str(&html(&detail::bounds(rows)));
    let losses = detail::losses(rows);
    if !losses.is_empty() {
        out.push_str("<h2>Losses</h2>\n");
        list(&mut out, &losses);
    }
    let failures = table::failures(rows);
    if !failures.is_empty() {
        out.push_str("<h2>Not measured</h2>\n");
        let failures = failures
            .iter()
            .map(|(case, server, why)| format!("{case}, {server}: {why}"));
        list(&mut out, &failures.collect::<Vec<_>>());
    }
    growth(&mut out, results);
    let mut schemes: Vec<&str> = Vec::new();
    for result in results {
        if !schemes.contains(&result.case.scheme) {
            schemes.push(result.case.scheme);
        }
    }
    for scheme in schemes {
        out.push_str(&format!("<h2>{}</h2>\n", escape(scheme)));
        for result in results.iter().filter(|result| result.case.scheme == scheme) {
            case(&mut out, result);
        }
    }
    out.push_str("</body></html>\n");
    out
}

/// Bars of the first figure, curves of latency where there are any, and all as numbers.
fn case(out: &mut String, result: &CaseResult) {
    let (name, suite) = (escape(&result.case.name), escape(&result.case.suite));
    out.push_str(&format!("<h3>{name} <small>({suite})</small></h3>\n"));
    if let Some(metric) = result.case.metrics.first() {
        let bars: Vec<Bar> = result
            .servers
            .iter()
            .filter_map(|server| {
                let figure = table::spread(&server.rounds, metric.key)?;
                Some(Bar {
                    name: escape(&server.name),
                    ours: server.name == OURS,
                    figure,
                })
            })
            .collect();
        if bars.len() > 1 {
            out.push_str(&plot::bars(metric.label, &bars));
        }
    }
    let latencies = latencies(result);
    if latencies.len() > 1 {
        out.push_str(&plot::curves("latency us at the quantile", &latencies));
    }
    out.push_str(&html(&detail::of_case(result)));
}

fn latencies(result: &CaseResult) -> Vec<Curve> {
    const QUANTILES: [(&str, &str); 5] = [
        ("p50", "50 %"),
        ("p90", "90 %"),
        ("p99", "99 %"),
        ("p999", "99.9 %"),
        ("max", "all"),
    ];
    let curves = result.servers.iter().map(|server| Curve {
        name: escape(&server.name),
        points: QUANTILES
            .iter()
            .filter_map(|(key, label)| Some(((*label).to_owned(), server.median(key)?)))
            .collect(),
    });
    curves
        .filter(|curve| curve.points.len() == QUANTILES.len())
        .collect()
}

/// What a message costs by connections and by size, from the cases of P18.
fn growth(out: &mut String, results: &[CaseResult]) {
    let shape = |result: &CaseResult| match result.case.work {
        Work::Load {
            connections,
            payload,
            ..
        } if result.case.suite.contains("P18") => Some((connections, payload)),
        _ => None,
    };
    let cases: Vec<_> = results
        .iter()
        .filter_map(|result| Some((shape(result)?, result)))
        .collect();
    let plots = [
        ("CPU ns a message of 64 B by connections", true),
        ("CPU ns a message by payload bytes", false),
    ];
    for (title, by_connections) in plots {
        let mut curves: Vec<Curve> = Vec::new();
        for ((connections, payload), result) in &cases {
            if (*payload == 64) != by_connections {
                continue;
            }
            let at = if by_connections { connections } else { payload };
            for server in &result.servers {
                let Some(cpu) = server.median("cpu") else {
                    continue;
                };
                let name = escape(&server.name);
                let at = (at.to_string(), cpu);
                match curves.iter_mut().find(|curve| curve.name == name) {
                    Some(curve) => curve.points.push(at),
                    None => curves.push(Curve {
                        name,
                        points: vec![at],
                    }),
                }
            }
        }
        if curves.iter().any(|curve| curve.points.len() > 1) {
            out.push_str(&format!("<h3>{title}</h3>\n"));
            out.push_str(&plot::curves("ns", &curves));
        }
    }
}

fn list(out: &mut String, lines: &[String]) {
    out.push_str("<ul>\n");
    for line in lines {
        out.push_str(&format!("<li>{}</li>\n", escape(line)));
    }
    out.push_str("</ul>\n");
}

fn html(table: &Table) -> String {
    // Words begin at the left, figures end at the right, and a heading stands where its column does.
    let is_name = |text: &String| {
        let verdict = matches!(text.as_str(), "failed" | "kept" | "missed");
        !verdict && text.starts_with(|first: char| first.is_alphabetic() || first == '%')
    };
    let names: Vec<bool> = (0..table.head.len())
        .map(|column| {
            column == 0
                || table
                    .lines
                    .iter()
                    .any(|line| line.get(column).is_some_and(is_name))
        })
        .collect();
    let cells = |tag: &str, cells: &[String]| {
        let cell = |(text, name): (&String, &bool)| match text.as_str() {
            "missed" | "kept" => format!("<{tag} class=\"{text}\">{text}</{tag}>"),
            _ if *name => format!("<{tag} class=\"name\">{}</{tag}>", escape(text)),
            _ => format!("<{tag}>{}</{tag}>", escape(text)),
        };
        cells.iter().zip(&names).map(cell).collect::<String>()
    };
    let mut out = format!(
        "<div class=\"scroll\"><table><thead><tr>{}</tr></thead><tbody>\n",
        cells("th", &table.head)
    );
    for line in &table.lines {
        let class = match line.first() {
            Some(name) if name == OURS => " class=\"ours\"",
            _ => "",
        };
        out.push_str(&format!("<tr{class}>{}</tr>\n", cells("td", line)));
    }
    out.push_str("</tbody></table></div>\n");
    out
}

/// Text that HTML takes for text.
fn escape(text: impl Display) -> String {
    text.to_string()
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_text_and_not_markup() {
        assert_eq!(escape("<b>&\"x\""), "&lt;b>&amp;&quot;x&quot;");
        let line = |words: [&str; 3]| words.map(str::to_owned).to_vec();
        let table = Table {
            head: line(["server", "ns", "must"]),
            lines: vec![line(["<script>", "12 (11-13)", "missed"])],
        };
        let html = html(&table);
        assert!(
            html.contains("<td class=\"name\">&lt;script></td>"),
            "{html}"
        );
        assert!(html.contains("<th>ns</th>"), "{html}");
        assert!(html.contains("<td>12 (11-13)</td>"), "{html}");
        assert!(html.contains("<td class=\"missed\">missed</td>"), "{html}");
    }
}
