//! The published crate msgtrans 2.0.0-beta.3 against ours: each is the other's client and server.

mod case;
mod peer;
mod record;
mod side_ours;
mod side_published;
mod table;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use case::{Case, Direction};
use peer::{Outcome, Protocol};
use side_ours::{OurClient, OurServer};
use side_published::{PublishedClient, PublishedServer};
use table::{Row, Verdict};

const USAGE: &str = "\
usage: interop [WORD...]   runs the cases whose names hold one of the words, or all
       interop --record    records the exchanges that the facade's tests replay";

/// A case that takes this long hangs.
const DEADLINE: Duration = Duration::from_secs(90);

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words == ["--record"] {
        return match record::all().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("interop: {why}");
                ExitCode::FAILURE
            }
        };
    }
    if words.iter().any(|word| word.starts_with('-')) {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let mut cases = Case::all();
    if !words.is_empty() {
        cases.retain(|case| words.iter().any(|word| case.to_string().contains(word)));
    }
    if cases.is_empty() {
        eprintln!("interop: no case is called like that\n\n{USAGE}");
        return ExitCode::from(2);
    }
    let start = Instant::now();
    let mut rows = Vec::new();
    for case in cases {
        let mut verdicts = Vec::new();
        for (direction, protocol) in table::columns() {
            let verdict = judge(case, protocol, direction).await;
            if let Verdict::Failed(why) = &verdict {
                eprintln!("{case}, {}, {direction:?}: {why}", protocol.name());
            }
            verdicts.push(verdict);
        }
        rows.push(Row { case, verdicts });
    }
    let (text, counts) = table::render(&rows);
    println!("{text}in {:.0} s", start.elapsed().as_secs_f64());
    if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn judge(case: Case, protocol: Protocol, direction: Direction) -> Verdict {
    if let Some(why) = case.skipped(protocol, direction) {
        return Verdict::Skipped(why);
    }
    Verdict::of(within_deadline(case, protocol, direction).await)
}

async fn within_deadline(case: Case, protocol: Protocol, direction: Direction) -> Outcome<()> {
    let running = async {
        match direction {
            Direction::PublishedClient => {
                case::run::<OurServer, PublishedClient>(case, protocol).await
            }
            Direction::OurClient => case::run::<PublishedServer, OurClient>(case, protocol).await,
        }
    };
    let hangs = |_| Err(format!("not done within {DEADLINE:?}"));
    tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap_or_else(hangs)
}
