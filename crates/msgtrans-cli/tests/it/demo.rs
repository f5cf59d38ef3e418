//! The demonstration.

use crate::command::{json, msgtrans, stderr, stdout};

#[test]
fn demo_prints_a_row_for_each_protocol_and_the_verdict() {
    let output = msgtrans(&["demo"]);
    let table = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for protocol in ["tcp", "tls", "ws", "wss", "quic", "unix", "inproc"] {
        let row: Vec<_> = table
            .lines()
            .find(|line| line.split_whitespace().next() == Some(protocol))
            .unwrap_or_else(|| panic!("no row for {protocol} in {table}"))
            .split_whitespace()
            .collect();
        assert_eq!(row.len(), 6, "{row:?}");
        for cell in &row[1..] {
            let number: f64 = cell.parse().expect("a number");
            assert!(number > 0.0, "{row:?}");
        }
    }
    assert_eq!(
        table.lines().last(),
        Some("all 7 protocols verified: echo, request/response, server push, broadcast")
    );
    // Nobody watches: no progress, no log.
    assert_eq!(stderr(&output), "");
}

#[test]
fn demo_prints_one_object_with_json() {
    let output = msgtrans(&["--json", "demo"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = json(&stdout(&output));
    assert_eq!(report["ok"], true);
    let protocols = report["protocols"].as_array().expect("a list");
    let names: Vec<_> = protocols.iter().map(|row| &row["protocol"]).collect();
    assert_eq!(names, ["tcp", "tls", "ws", "wss", "quic", "unix", "inproc"]);
    for row in protocols {
        assert!(row["messages_per_second"].as_f64() > Some(0.0), "{row}");
        assert!(row["p50_us"].as_f64() <= row["p99_us"].as_f64(), "{row}");
    }
}
