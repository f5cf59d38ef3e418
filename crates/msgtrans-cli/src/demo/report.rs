//! The table that the demonstration ends with.

use msgtrans::Endpoint;
use serde_json::{Value, json};

use super::steps::{Echoed, PAYLOAD, RoundTrips, StepError};
use crate::failure::Failure;
use crate::output::Output;

/// What each protocol has been checked for, in the words of the steps.
const CHECKS: [&str; 4] = ["echo", "request/response", "server push", "broadcast"];
const COLUMNS: [&str; 6] = [
    "protocol",
    "round trips",
    "p50 µs",
    "p99 µs",
    "messages",
    "messages/s",
];

/// What was measured over one protocol.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) protocol: String,
    url: String,
    pub(super) echo: Echoed,
    pub(super) round_trips: RoundTrips,
}

impl Row {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self {
            protocol: endpoint.scheme().to_owned(),
            url: endpoint.clone().without_options().to_string(),
            echo: Echoed::default(),
            round_trips: RoundTrips::default(),
        }
    }

    fn micros(&self, per_cent: usize) -> f64 {
        self.round_trips.quantile(per_cent).as_secs_f64() * 1e6
    }

    fn messages_per_second(&self) -> f64 {
        self.echo.messages as f64 / self.echo.time.as_secs_f64().max(1e-9)
    }

    fn cells(&self) -> [String; 6] {
        [
            self.protocol.clone(),
            self.round_trips.count().to_string(),
            format!("{:.1}", self.micros(50)),
            format!("{:.1}", self.micros(99)),
            self.echo.messages.to_string(),
            format!("{:.0}", self.messages_per_second()),
        ]
    }

    fn object(&self) -> Value {
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        json!({
            "protocol": self.protocol,
            "url": self.url,
            "round_trips": self.round_trips.count(),
            "p50_us": tenth(self.micros(50)),
            "p99_us": tenth(self.micros(99)),
            "messages": self.echo.messages,
            "messages_per_second": self.messages_per_second().round() as u64,
        })
    }
}

/// What became of every protocol.
#[derive(Debug, Default)]
pub(super) struct Report {
    passed: Vec<Row>,
    failed: Vec<(Row, StepError)>,
}

impl Report {
    pub(super) fn pass(&mut self, row: Row) {
        self.passed.push(row);
    }

    pub(super) fn fail(&mut self, row: Row, error: StepError) {
        self.failed.push((row, error));
    }

    /// Prints the table; what failed is the command's failure.
    pub(super) fn print(self, output: &Output) -> Result<(), Failure> {
        if output.is_json() {
            output.object(&self.object())?;
        } else {
            for (index, line) in self.lines().into_iter().enumerate() {
                if index == 0 {
                    output.line(&output.bold(&line))?;
                } else {
                    output.line(&line)?;
                }
            }
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        let told = |(row, error): &(Row, StepError)| {
            format!("{}: {}: {}", row.protocol, error.step, error.what)
        };
        let failures: Vec<_> = self.failed.iter().map(told).collect();
        Err(Failure::failed(failures.join("; ")))
    }

    fn lines(&self) -> Vec<String> {
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        rows.extend(self.passed.iter().map(Row::cells));
        let mut widths = [0; COLUMNS.len()];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut lines: Vec<String> = rows
            .iter()
            .map(|row| {
                let [first, others @ ..] = row;
                let mut line = format!("{first:<width$}", width = widths[0]);
                for (cell, width) in others.iter().zip(&widths[1..]) {
                    line.push_str(&format!("  {cell:>width$}"));
                }
                line
            })
            .collect();
        for (row, error) in &self.failed {
            lines.push(format!(
                "{:<width$}  failed: {}",
                row.protocol,
                error.step,
                width = widths[0]
            ));
        }
        lines.push(format!(
            "latency of requests one after the other; messages pipelined and echoed; payloads of {PAYLOAD} bytes"
        ));
        let all = self.passed.len() + self.failed.len();
        let checks = CHECKS.join(", ");
        lines.push(match self.passed.len() {
            passed if passed == all => format!("all {all} protocols verified: {checks}"),
            passed => format!("{passed} of {all} protocols verified: {checks}"),
        });
        lines
    }

    fn object(&self) -> Value {
        let failed = |(row, error): &(Row, StepError)| json!({ "protocol": row.protocol, "url": row.url, "step": error.step, "error": error.what });
        json!({
            "ok": self.failed.is_empty(),
            "payload_bytes": PAYLOAD,
            "verified": CHECKS,
            "protocols": self.passed.iter().map(Row::object).collect::<Vec<_>>(),
            "failed": self.failed.iter().map(failed).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(url: &str) -> Row {
        Row::new(&Endpoint::parse(url).expect("a URL"))
    }

    #[test]
    fn the_table_is_aligned_and_ends_with_the_verdict() {
        let mut report = Report::default();
        report.pass(row("tcp://127.0.0.1:1"));
        report.pass(row("inproc://name"));
        let lines = report.lines();
        let width = |line: &String| line.chars().count();
        assert_eq!(width(&lines[0]), width(&lines[1]));
        assert_eq!(width(&lines[0]), width(&lines[2]));
        assert_eq!(
            lines.last().map(String::as_str),
            Some("all 2 protocols verified: echo, request/response, server push, broadcast")
        );
    }

    #[test]
    fn a_failed_protocol_is_named_with_its_step() {
        let mut report = Report::default();
        report.pass(row("tcp://127.0.0.1:1"));
        let error = StepError {
            step: "echo",
            what: "message 3 was changed".to_owned(),
        };
        report.fail(row("quic://127.0.0.1:1"), error);
        let lines = report.lines().join("\n");
        assert!(lines.contains("quic      failed: echo"), "{lines}");
        assert!(lines.contains("1 of 2 protocols verified"), "{lines}");
        assert_eq!(report.object()["ok"], false);
        assert_eq!(report.object()["failed"][0]["step"], "echo");
    }
}
