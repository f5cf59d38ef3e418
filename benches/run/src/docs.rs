//! docs/BENCHMARKS.md: all of a full run, losses included.

use crate::detail::{self, Table};
use crate::table::{self, CaseResult, Row};

/// The page.
pub(crate) fn page(head: &[String], results: &[CaseResult], rows: &[Row]) -> String {
    let mut out = String::from(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench --write-docs`; do not edit. How it is measured, what each figure is, and how to\n\
         run it is in [benches/README.md](../benches/README.md). Only ratios within one run count: figures of\n\
         different machines, or of the same one an hour later, do not compare.\n\n",
    );
    for line in head {
        out.push_str(&format!("- {line}\n"));
    }
    out.push_str(
        "\n\"Ours\" is `msgtrans serve --echo` with its defaults: the full session layer, a handler for each message,\n\
         statistics, limits and bounded queues. A bracket is the least and the most of all rounds.\n\
         \n\
         P10 has two references. tokio-raw and limit speak no handshake; tokio-greets and limit-greets (the cases\n\
         \"greeted\") are the same servers that also read a Hello and write a Welcome, which is the least that a\n\
         connection of version 2 costs: see [RESULTS.md](RESULTS.md).\n\n\
         ## What must be\n\n",
    );
    out.push_str(&markdown(&detail::bounds(rows)));
    out.push_str("\n## Losses\n\n");
    let losses = detail::losses(rows);
    match losses.is_empty() {
        true => out.push_str("None.\n"),
        false => losses
            .iter()
            .for_each(|loss| out.push_str(&format!("- {loss}\n"))),
    }
    let failures = table::failures(rows);
    if !failures.is_empty() {
        out.push_str("\n## Not measured\n\n");
        for (case, server, why) in failures {
            out.push_str(&format!("- {case}, {server}: {why}\n"));
        }
    }
    let mut scheme = "";
    for result in results {
        if result.case.scheme != scheme && !out.contains(&heading(result.case.scheme)) {
            scheme = result.case.scheme;
            out.push_str(&heading(scheme));
            let same = results.iter().filter(|other| other.case.scheme == scheme);
            for result in same {
                let case = &result.case;
                out.push_str(&format!("\n### {} ({})\n\n", case.name, case.suite));
                out.push_str(&markdown(&detail::of_case(result)));
            }
        }
    }
    out
}

fn heading(scheme: &str) -> String {
    format!("\n## {scheme}\n")
}

fn markdown(table: &Table) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut out = line(&table.head);
    out.push_str(&format!("|{}\n", "---|".repeat(table.head.len())));
    for cells in &table.lines {
        out.push_str(&line(cells));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;
    use crate::servers::OURS;
    use crate::suites;
    use crate::table::ServerResult;

    #[test]
    fn the_page_tells_bounds_losses_and_failures() {
        let cases = suites::select(&["P2".to_owned()]).expect("a known suite");
        let server = |name: &str, cpu: f64| ServerResult {
            rounds: vec![Some(Sample::from([("cpu".to_owned(), cpu)]))],
            ..ServerResult::new(name)
        };
        let mut broken = ServerResult::new("message-io");
        broken.rounds = vec![None];
        broken.failure = Some("it does not listen".to_owned());
        let servers = [
            ("limit", 600.0),
            (OURS, 900.0),
            ("tokio-framed-batched", 850.0),
        ];
        let results = [CaseResult {
            case: cases[0].clone(),
            servers: servers
                .map(|(name, cpu)| server(name, cpu))
                .into_iter()
                .chain([broken])
                .collect(),
            sound: true,
        }];
        let rows = table::rows(&results);
        let page = page(&["a machine".to_owned()], &results, &rows);
        for line in [
            "- a machine",
            "| P2 | tcp 1 KiB 10x16 | cpu ns/msg | 900 (900-900) | 1.50 (1.50-1.50) | limit | <= 1.4x | missed | <= 1.2x | missed |",
            "- P2, tcp 1 KiB 10x16: cpu ns/msg 1.50x, must be <= 1.4x",
            "- tcp 1 KiB 10x16: tokio-framed-batched takes 850 ns a message, ours 900",
            "- tcp 1 KiB 10x16, message-io: it does not listen",
            "| limit | 600 (600-600) | 1.00 (1.00-1.00) |",
        ] {
            assert!(page.contains(&format!("{line}\n")), "{line}\n{page}");
        }
    }
}
