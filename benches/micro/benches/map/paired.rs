//! P15: the session table's maps beside one another, in rounds that alternate, as ratios. papaya is in `map` alone: what it
//! frees late lies in the heap of whoever has the next turn.
//!
//! `cargo bench -p micro --bench p15 -- [ROUNDS] [NAME]`; a figure is nanoseconds that an operation costs the thread that does
//! it, CPU time with `MICRO_CLOCK=cpu`, and a ratio is ours over the best of the others in the same round.
#![allow(clippy::print_stdout, reason = "it prints a table")]

mod tables;
mod work;

use std::time::Duration;

use tables::{Dash, Locked, Ours, Scc, Table};
use work::{Churned, WORKERS, filled, held, together, work};

/// An odd number, so that there is a middle one.
const ROUNDS: usize = 9;

/// What each thread does in one turn.
const OPERATIONS: u64 = 400_000;

/// Fewer, because a lock that is held makes each of them wait for the kernel.
const HELD_OPERATIONS: u64 = 300;

const NAMES: [&str; 4] = ["LockFreeHashMap", "dashmap", "scc", "64-locked"];

/// One map with one kind of work; a call does a turn and gives nanoseconds an operation.
type Turn = Box<dyn FnMut() -> f64>;

/// What the command line says but for options and their values, which are cargo's and criterion's.
fn words() -> Vec<String> {
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--bench" {
            continue;
        }
        if argument.starts_with('-') {
            arguments.next();
        } else {
            words.push(argument);
        }
    }
    words
}

fn main() {
    let words = words();
    let rounds = words
        .iter()
        .find_map(|word| word.parse().ok())
        .unwrap_or(ROUNDS);
    // Any other word chooses the works whose names hold it.
    let chosen = words
        .into_iter()
        .find(|word| word.parse::<usize>().is_err())
        .unwrap_or_default();
    let run = |name: &str, maps: &dyn Fn() -> [Turn; NAMES.len()]| {
        if name.contains(&chosen) {
            compare(name, rounds, maps());
        }
    };
    println!(
        "{rounds} rounds; ns an operation: median (least-most); ratio: ours / best other, by round\n"
    );
    for entries in [1_000, 100_000] {
        for (kind, writes) in [("reads", 0), ("95-5", 5), ("writes", 100)] {
            run(&format!("{kind}/{entries}"), &|| {
                [
                    mixed::<Ours>(entries, writes),
                    mixed::<Dash>(entries, writes),
                    mixed::<Scc>(entries, writes),
                    mixed::<Locked>(entries, writes),
                ]
            });
        }
        run(&format!("churn/{entries}"), &|| {
            [
                churn::<Ours>(entries),
                churn::<Dash>(entries),
                churn::<Scc>(entries),
                churn::<Locked>(entries),
            ]
        });
    }
    for (kind, writes) in [("reads", 0), ("95-5", 5)] {
        run(&format!("held-{kind}/1000"), &|| {
            [
                away::<Ours>(writes),
                away::<Dash>(writes),
                away::<Scc>(writes),
                away::<Locked>(writes),
            ]
        });
    }
}

fn mixed<T: Table + 'static>(entries: u64, writes_in_100: u64) -> Turn {
    let table: T = filled(entries);
    let mut seed = 0;
    Box::new(move || {
        seed += WORKERS;
        let took = together(WORKERS, |thread| {
            work(&table, seed + thread, OPERATIONS, entries, writes_in_100);
        });
        nanos(took, OPERATIONS)
    })
}

fn churn<T: Table + 'static>(entries: u64) -> Turn {
    let churned = Churned::<T>::new(entries);
    Box::new(move || nanos(churned.turn(OPERATIONS / 2), OPERATIONS))
}

fn away<T: Table + 'static>(writes_in_100: u64) -> Turn {
    let table: T = filled(1_000);
    Box::new(move || {
        nanos(
            held(&table, HELD_OPERATIONS, writes_in_100),
            HELD_OPERATIONS,
        )
    })
}

fn nanos(took: Duration, operations: u64) -> f64 {
    took.as_nanos() as f64 / operations as f64
}

/// Each round gives every map a turn, each time beginning with the next one.
fn compare(name: &str, rounds: usize, mut maps: [Turn; NAMES.len()]) {
    // Allocators and caches settle.
    for map in &mut maps {
        map();
    }
    let mut figures = [const { Vec::new() }; NAMES.len()];
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let mut these = [0.0; NAMES.len()];
        for turn in 0..maps.len() {
            let map = (round + turn) % maps.len();
            these[map] = maps[map]();
            figures[map].push(these[map]);
        }
        ratios.push(these[0] / these[1..].iter().copied().fold(f64::INFINITY, f64::min));
    }
    let (low, middle, high) = spread(&mut ratios);
    println!("{name:14} ratio {middle:.2} ({low:.2}-{high:.2})");
    for (name, figures) in NAMES.iter().zip(&mut figures) {
        let (low, middle, high) = spread(figures);
        println!("  {name:16} {middle:8.1} ({low:.1}-{high:.1})");
    }
}

fn spread(figures: &mut [f64]) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (
        figures[0],
        figures[figures.len() / 2],
        figures[figures.len() - 1],
    )
}
