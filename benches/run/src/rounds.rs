//! The order of turns: in each round every server has one, so that what swings with the hour swings for all.

use crate::measure::{Bench, Sample};
use crate::progress::Progress;
use crate::servers::{OURS, Server};
use crate::suites::Case;
use crate::table::{self, CaseResult, ServerResult};

/// Runs all cases; a server that fails keeps the others going, and the result says why it failed.
pub(crate) fn run(
    cases: &[Case],
    servers: &[Server],
    bench: &Bench,
    rounds: usize,
) -> Vec<CaseResult> {
    let taking = |case: &Case| {
        let taking = servers.iter().filter(|server| server.runs(case));
        taking.collect::<Vec<_>>()
    };
    let turns = cases
        .iter()
        .map(|case| taking(case).len() * rounds.min(case.rounds_max));
    let mut progress = Progress::new(turns.sum());
    let mut results: Vec<CaseResult> = Vec::new();
    for case in cases {
        let taking = taking(case);
        let mut taken: Vec<ServerResult> = taking
            .iter()
            .map(|server| ServerResult::new(&server.name))
            .collect();
        let rounds = rounds.min(case.rounds_max);
        for round in 1..=rounds {
            for (server, result) in taking.iter().zip(&mut taken) {
                let name = &server.name;
                let (suite, case_name) = (&case.suite, &case.name);
                progress.next(&format!(
                    "{suite} {case_name} round {round} of {rounds}: {name}"
                ));
                if result.failure.is_some() && is_peer(server, case) {
                    // It would fail again and take the time that others need.
                    result.rounds.push(None);
                    continue;
                }
                let rate = table::rate_for(case, &results);
                let sample: Result<Sample, String> = bench.measure(case, server, rate);
                result.rounds.push(match sample {
                    Ok(sample) => Some(sample),
                    Err(error) => {
                        progress.tell(&format!("{suite} {case_name} {name}: {error}"));
                        result.failure.get_or_insert(error);
                        None
                    }
                });
            }
        }
        let failed = |server: &&ServerResult| server.failure.is_some();
        let sound = !taking
            .iter()
            .zip(&taken)
            .any(|(server, result)| failed(&result) && !is_peer(server, case));
        results.push(CaseResult {
            case: case.clone(),
            servers: taken,
            sound,
        });
    }
    progress.end();
    results
}

/// Whether the case says something without it.
fn is_peer(server: &Server, case: &Case) -> bool {
    server.name != OURS && server.name != case.reference
}
