//! How many crates a user compiles: a limit for TCP alone and one for the default features.

use std::collections::BTreeSet;

use crate::workspace::{Workspace, stdout_of};

/// What a user asks for, and how many crates that may cost, ours counted.
struct Budget {
    what: &'static str,
    features: &'static [&'static str],
    crates_max: usize,
}

const BUDGETS: &[Budget] = &[
    Budget {
        what: "TCP alone",
        features: &["--no-default-features", "--features", "tcp"],
        crates_max: 45,
    },
    Budget {
        what: "default features",
        features: &[],
        crates_max: 95,
    },
];

/// Counts with `cargo tree` for this machine's platform; development dependencies are free.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let mut excesses = Vec::new();
    for budget in BUDGETS {
        let mut tree =
            workspace.cargo(["tree", "--locked", "-p", "msgtrans", "-e", "normal,build"]);
        tree.args(["--prefix", "none", "--format", "{p}"]);
        tree.args(budget.features);
        let printed = stdout_of(&mut tree)?;
        let crates = distinct_crates(&printed);
        let line = format!(
            "{}: {} crates, at most {}",
            budget.what,
            crates.len(),
            budget.crates_max
        );
        println!("{line}");
        if crates.len() > budget.crates_max {
            let names: Vec<String> = crates
                .iter()
                .map(|(name, version)| format!("{name} {version}"))
                .collect();
            println!("  {}", names.join(", "));
            excesses.push(line);
        }
    }
    if excesses.is_empty() {
        Ok(())
    } else {
        Err(excesses.join("; "))
    }
}

/// A crate in two versions counts twice: it is compiled twice.
fn distinct_crates(tree: &str) -> BTreeSet<(&str, &str)> {
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_counts_once_for_each_version() {
        let tree = "msgtrans v3.0.0 (/somewhere)\nsyn v2.0.1\nsyn v3.0.9\n\
                    serde_derive v1.0.2 (proc-macro)\nsyn v2.0.1 (*)\n\n";
        assert_eq!(
            distinct_crates(tree).into_iter().collect::<Vec<_>>(),
            [
                ("msgtrans", "v3.0.0"),
                ("serde_derive", "v1.0.2"),
                ("syn", "v2.0.1"),
                ("syn", "v3.0.9"),
            ]
        );
    }
}
