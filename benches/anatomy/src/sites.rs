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

/// A function of a backtrace, and its file.
struct Frame<'a> {
    function: &'a str,
    file: &'a str,
}

fn frames(backtrace: &str) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    for line in backtrace.lines().map(str::trim_start) {
        if let Some(file) = line.strip_prefix("at ") {
            if let Some(Frame { file: place, .. }) = frames.last_mut() {
                *place = file;
            }
        } else if let Some((_, function)) = line.split_once(": ") {
            let file = "";
            frames.push(Frame { function, file });
        }
    }
    frames
}

/// What is allocated, as far as the standard library's functions name it; the innermost function outside it; and the
/// innermost of the product.
fn site(backtrace: &str) -> String {
    let frames = frames(backtrace);
    let outside = |frame: &&Frame| {
        let std = frame.file.is_empty() || frame.file.contains("/library/");
        !std && !frame.file.contains("anatomy/src/")
    };
    let own = |frame: &&Frame| frame.file.contains("/crates/msgtrans");
    let what = frames
        .iter()
        .take_while(|frame| !outside(frame))
        .filter(|frame| frame.file.contains("/library/alloc") || frame.function.starts_with("new<"))
        .find_map(|frame| parameter(frame.function));
    let inner = frames.iter().find(outside);
    let product = frames.iter().find(own);
    let mut out = what.map(|what| format!("`{what}` ")).unwrap_or_default();
    out += &inner.map(place).unwrap_or_else(|| "nobody known".into());
    if let (Some(inner), Some(product)) = (inner, product)
        && inner.file != product.file
    {
        out += &format!(", for {}", place(product));
    }
    out
}

/// `crate/src/file.rs function`.
fn place(frame: &Frame<'_>) -> String {
    let file = frame.file.split(':').next().unwrap_or_default();
    // Registry folders are `…/index-hash/crate-version/…`, ours `…/crates/crate/…`.
    let file = match file.split_once("/crates/") {
        Some((_, file)) => file,
        None => file
            .split_once("/registry/src/")
            .and_then(|(_, rest)| Some(rest.split_once('/')?.1))
            .unwrap_or(file),
    };
    let function = frame.function.split('<').next().unwrap_or_default();
    format!("{file} `{function}`")
}

/// The last names of the first type parameter: `Shared` of `new<alloc::sync::ArcInner<crate::Shared>>`.
fn parameter(function: &str) -> Option<String> {
    let (_, inside) = function.split_once('<')?;
    let mut depth = 0usize;
    let end = inside.find(|letter| {
        match letter {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            ',' | '>' if depth == 0 => return true,
            _ => {}
        }
        false
    });
    let mut out = String::new();
    let mut word = String::new();
    for letter in inside[..end.unwrap_or(inside.len())].chars() {
        match letter {
            ':' => word.clear(),
            '<' | '>' | ',' | ' ' | '(' | ')' => {
                out += &std::mem::take(&mut word);
                out.push(letter);
            }
            letter => word.push(letter),
        }
    }
    out += &word;
    (!out.is_empty() && out != "()").then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_says_what_and_who_and_for_whom() {
        let text = "   0: enter\n             at ./anatomy/src/ledger.rs:1:2\n   \
                    1: new<core::Cell<a::Driver<b::Actor>, alloc::sync::Arc<()>>>\n             \
                    at /rustc/0/library/alloc/src/boxed.rs:1:2\n   \
                    2: spawn<a>\n             at /x/registry/src/index-0/tokio-1.54.1/src/task.rs:3:4\n   \
                    3: start\n             at /x/crates/msgtrans-server/src/accept.rs:5:6\n";
        assert_eq!(
            site(text),
            "`Cell<Driver<Actor>, Arc<()>>` tokio-1.54.1/src/task.rs `spawn`, for msgtrans-server/src/accept.rs `start`"
        );
    }

    #[test]
    fn a_backtrace_without_files_is_nobodys() {
        assert_eq!(site("   0: a\n   1: b\n"), "nobody known");
    }
}
