//! From allocations to a table: grouped by size and by who asked, named by the functions of the backtrace.

use crate::ledger::Entry;
use std::collections::BTreeMap;

/// An item that fewer sessions than this share have is not every session's.
const SHARE: f64 = 0.9;

#[derive(Default)]
struct Group {
    count: usize,
    bytes: usize,
    chunks: usize,
    backtrace: String,
}

/// Prints what every session has, then what grows with them in steps.
pub(crate) fn print(entries: &[Entry], sessions: usize, backtraces: bool) {
    let mut groups: BTreeMap<(usize, String), Group> = BTreeMap::new();
    for entry in entries {
        let text = entry.backtrace.to_string();
        let group = groups.entry((entry.size, site(&text))).or_default();
        group.count += 1;
        group.bytes += entry.size;
        group.chunks += entry.chunk;
        if group.backtrace.is_empty() {
            group.backtrace = text;
        }
    }
    let sessions = sessions as f64;
    let (mut each, mut shared): (Vec<_>, Vec<_>) = groups
        .into_iter()
        .partition(|(_, group)| group.count as f64 >= SHARE * sessions);
    each.sort_by_key(|(_, group)| std::cmp::Reverse(group.chunks));
    shared.sort_by_key(|(_, group)| std::cmp::Reverse(group.chunks));

    println!("| bytes | on the heap | a session | what |\n|---|---|---|---|");
    let mut sum = 0.0;
    for ((size, site), group) in &each {
        let heap = group.chunks as f64 / sessions;
        sum += heap;
        let number = group.count as f64 / sessions;
        println!("| {size} | {heap:.0} | {number:.2} | {site} |");
        if backtraces {
            println!("{}", group.backtrace);
        }
    }
    let mut by_site: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for ((_, site), group) in &shared {
        let (bytes, chunks) = by_site.entry(site).or_default();
        *bytes += group.bytes;
        *chunks += group.chunks;
    }
    let mut by_site: Vec<_> = by_site.into_iter().collect();
    by_site.sort_by_key(|(_, (_, chunks))| std::cmp::Reverse(*chunks));
    let mut rest = 0.0;
    for (site, (_, chunks)) in by_site {
        let heap = chunks as f64 / sessions;
        sum += heap;
        if heap < 1.0 {
            rest += heap;
        } else {
            println!("| | {heap:.0} | shared | {site} |");
        }
    }
    println!("| | {rest:.0} | shared | less than a byte a session each |");
    println!("| | **{sum:.0}** | | **sum** |");
}

/// Whose it is: the innermost function that is not of an allocator or a collection, and the innermost of the product.
fn site(backtrace: &str) -> String {
    let functions = || {
        backtrace.lines().filter_map(|line| {
            let (number, function) = line.trim_start().split_once(": ")?;
            number.parse::<usize>().ok()?;
            Some(function)
        })
    };
    let plumbing = [
        "alloc::",
        "core::",
        "std::",
        "anatomy::",
        "__",
        "<alloc::",
        "<core::",
        "hashbrown::",
    ];
    let inner = functions().find(|function| {
        !plumbing.iter().any(|start| function.starts_with(start))
            && !function.contains("GlobalAlloc")
    });
    let ours = functions()
        .find(|function| function.starts_with("msgtrans") || function.starts_with("<msgtrans"));
    match (inner.map(short), ours.map(short)) {
        (Some(inner), Some(ours)) if inner != ours => format!("`{inner}` for `{ours}`"),
        (Some(inner), _) => format!("`{inner}`"),
        (None, _) => "the standard library".into(),
    }
}

/// Without the hash and the parameters of types.
fn short(function: &str) -> String {
    let mut out = String::new();
    let mut depth = 0usize;
    for letter in function.trim_start_matches('<').chars() {
        match letter {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => out.push(letter),
            _ => {}
        }
    }
    let parts: Vec<&str> = out.split("::").filter(|part| !is_hash(part)).collect();
    parts.join("::").replace("::::", "::")
}

fn is_hash(part: &str) -> bool {
    part.len() == 17 && part.starts_with('h') && part[1..].bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_the_innermost_function_that_says_something() {
        let text = "   0: <anatomy::ledger::Ledger as GlobalAlloc>::alloc\n             at src/x.rs:1:2\n   \
                    1: alloc::alloc::alloc\n   2: tokio::runtime::task::core::Cell<T,S>::new::h0123456789abcdef\n   \
                    3: msgtrans_server::accept::run\n";
        assert_eq!(
            site(text),
            "`tokio::runtime::task::core::Cell::new` for `msgtrans_server::accept::run`"
        );
    }
}
