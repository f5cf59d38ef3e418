//! `cargo xtask tidy`: the conventions that a compiler does not know, each with a hint.

use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::floors;
use crate::rust_code::{without_comments_and_literals, words};
use crate::workspace::Workspace;

/// Longer files hold more than one concept.
const LINES_MAX: usize = 900;

/// The crates that may contain `unsafe`, by the folder of their sources.
const UNSAFE_ALLOWED: &[&str] = &["crates/msgtrans-lockfree/", "crates/msgtrans-mempool/"];

/// Where the rules for our Rust sources hold.
const RUST_ROOTS: &[&str] = &["crates/", "xtask/", "examples/"];

/// Folders that hold what programs made.
const GENERATED: &[&str] = &["target", ".git", "results", "node_modules"];

/// Files whose text may not name a place on one machine.
const TEXT_EXTENSIONS: &[&str] = &["rs", "toml", "md", "sh", "yml", "yaml", "json", "ts", "py"];

/// One finding: where, what, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// Relative to the root of the workspace, with forward slashes.
    path: String,
    /// Counted from 1.
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Prints each finding; an error says how many there are.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let root = workspace.root();
    let mut files = Vec::new();
    collect_files(root, root, &mut files)?;
    files.sort();

    let mut findings = Vec::new();
    for path in &files {
        let text = read(root, path)?;
        findings.extend(check_machine_paths(path, &text));
        if path.ends_with(".rs") && RUST_ROOTS.iter().any(|start| path.starts_with(start)) {
            findings.extend(check_rust(path, &text));
        }
    }
    for manifest in member_manifests(&workspace.metadata()?, root)? {
        findings.extend(check_manifest(&manifest, &read(root, &manifest)?));
    }
    findings.extend(check_lock_file(&read(root, "Cargo.lock")?));

    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("{} files, nothing to tidy", files.len());
        Ok(())
    } else {
        Err(format!("{} findings", findings.len()))
    }
}

/// Modules that what a peer sends passes through: nothing in them may panic, and clippy is what sees to it.
const FACES_PEERS: &[&str] = &[
    "crates/msgtrans-core/src/codec.rs",
    "crates/msgtrans-core/src/control.rs",
    "crates/msgtrans-core/src/decoder.rs",
    "crates/msgtrans-core/src/header.rs",
    "crates/msgtrans-core/src/tlv.rs",
    "crates/msgtrans-inproc/src/connection.rs",
    "crates/msgtrans-quic/src/connection.rs",
    "crates/msgtrans-server/src/accept.rs",
    "crates/msgtrans-server/src/admission.rs",
    "crates/msgtrans-server/src/memory.rs",
    "crates/msgtrans-session/src/actor/closing.rs",
    "crates/msgtrans-session/src/actor/inbound.rs",
    "crates/msgtrans-session/src/actor/mod.rs",
    "crates/msgtrans-session/src/actor/open.rs",
    "crates/msgtrans-session/src/actor/pace.rs",
    "crates/msgtrans-session/src/actor/time.rs",
    "crates/msgtrans-session/src/compress.rs",
    "crates/msgtrans-session/src/opening.rs",
    "crates/msgtrans-session/src/request.rs",
    "crates/msgtrans-tcp/src/listener.rs",
    "crates/msgtrans-tcp/src/tls.rs",
    "crates/msgtrans-tls/src/client.rs",
    "crates/msgtrans-tls/src/pin.rs",
    "crates/msgtrans-tls/src/server.rs",
    "crates/msgtrans-transport/src/endpoint.rs",
    "crates/msgtrans-transport/src/outbound.rs",
    "crates/msgtrans-transport/src/stream.rs",
    "crates/msgtrans-unix/src/listener.rs",
    "crates/msgtrans-websocket/src/connection.rs",
    "crates/msgtrans-websocket/src/frame.rs",
    "crates/msgtrans-websocket/src/message.rs",
    "crates/msgtrans-websocket/src/upgrade.rs",
];

/// What can panic, and the sums that wrap where a release build does not check them.
const PANICS: [&str; 4] = [
    "clippy::arithmetic_side_effects",
    "clippy::expect_used",
    "clippy::indexing_slicing",
    "clippy::unwrap_used",
];

/// The rules for one Rust source.
fn check_rust(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Findings { path, list: vec![] };
    if !text.starts_with("//!") {
        findings.push(
            1,
            "say the one idea of this file in a `//!` on the first line",
        );
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.push(
            LINES_MAX + 1,
            format!("{lines} lines, at most {LINES_MAX}: split the file by concept"),
        );
    }
    // Written in two halves, so that this file is not a finding of its own.
    for marker in [concat!("FIX", "ME"), concat!("X", "XX")] {
        for at in words(text, marker) {
            findings.push(
                line_of(text, at),
                format!("`{marker}`: do it now, or open an issue and say why it waits"),
            );
        }
    }
    if FACES_PEERS.contains(&path) {
        for lint in PANICS {
            if !text.contains(lint) {
                findings.push(
                    1,
                    format!(
                        "what a peer controls passes here: deny `{lint}`, as its neighbours do"
                    ),
                );
            }
        }
    }
    check_code(&without_comments_and_literals(text), &mut findings);
    findings.list
}

/// The rules for code alone, free of comments and literals.
fn check_code(code: &str, findings: &mut Findings<'_>) {
    for name in ["todo", "unimplemented"] {
        for at in words(code, name) {
            if code[at + name.len()..].starts_with("!(") {
                findings.push(
                    line_of(code, at),
                    format!("`{name}!`: write the code, or leave the function out"),
                );
            }
        }
    }
    if !UNSAFE_ALLOWED
        .iter()
        .any(|start| findings.path.starts_with(start))
    {
        for at in words(code, "unsafe") {
            findings.push(
                line_of(code, at),
                "`unsafe` belongs to msgtrans-lockfree and msgtrans-mempool: use a safe type of \
                 theirs, or add one there",
            );
        }
    }
    for (at, _) in code.match_indices("#[ignore") {
        findings.push(
            line_of(code, at),
            "an ignored test proves nothing: run it or delete it",
        );
    }
    let in_tests = findings.path.starts_with("crates/") && findings.path.contains("/tests/");
    if in_tests {
        for name in ["sleep", "sleep_until", "sleep_ms"] {
            for at in words(code, name) {
                findings.push(
                    line_of(code, at),
                    format!(
                        "`{name}` in a test: wait for the event itself under a timeout, or pause \
                         the clock and advance it"
                    ),
                );
            }
        }
    }
}

/// Folders of one machine: its home directories, temporary files and workplaces.
fn check_machine_paths(path: &str, text: &str) -> Vec<Finding> {
    const PLACES: &[&str] = &[
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/tm", "p/"),
        concat!("/Us", "ers/"),
        concat!("C:", "\\"),
    ];
    let mut findings = Findings { path, list: vec![] };
    for place in PLACES {
        for (at, _) in text.match_indices(place) {
            // `src/home/mod.rs` and `example.org/home/` are not absolute.
            let absolute = !text[..at]
                .chars()
                .next_back()
                .is_some_and(|c| c.is_alphanumeric() || "_-.}~*".contains(c));
            if absolute {
                findings.push(
                    line_of(text, at),
                    format!(
                        "`{place}` is a place on one machine: use a path relative to the \
                         workspace, or ask the system for a temporary directory"
                    ),
                );
            }
        }
    }
    findings.list
}

/// Lints are inherited, so that one table holds for every member.
fn check_manifest(path: &str, text: &str) -> Vec<Finding> {
    let mut section = "";
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let setting: String = line.chars().filter(|c| !c.is_whitespace()).collect();
        let inherits = match section {
            "[lints]" => setting.starts_with("workspace=true"),
            _ => setting.starts_with("lints.workspace=true"),
        };
        if inherits {
            return vec![];
        }
    }
    vec![Finding {
        path: path.to_owned(),
        line: 1,
        message: "add `[lints]` with `workspace = true`: every member obeys the one table"
            .to_owned(),
    }]
}

fn check_lock_file(text: &str) -> Vec<Finding> {
    floors::check(text)
        .into_iter()
        .map(|below| Finding {
            path: "Cargo.lock".to_owned(),
            line: below.line,
            message: below.message,
        })
        .collect()
}

/// Collects the findings of one file.
struct Findings<'a> {
    path: &'a str,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn push(&mut self, line: usize, message: impl Into<String>) {
        self.list.push(Finding {
            path: self.path.to_owned(),
            line,
            message: message.into(),
        });
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

pub(crate) fn read(root: &Path, path: &str) -> Result<String, String> {
    std::fs::read_to_string(root.join(path)).map_err(|error| format!("cannot read {path}: {error}"))
}

/// Every text file below `folder`, relative to `root`; a file without an extension in `.ci` too.
pub(crate) fn collect_files(
    root: &Path,
    folder: &Path,
    files: &mut Vec<String>,
) -> Result<(), String> {
    let cannot_list = |error| format!("cannot list {}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(cannot_list)? {
        let entry = entry.map_err(cannot_list)?;
        let name = entry.file_name();
        let kind = entry.file_type().map_err(cannot_list)?;
        let path = entry.path();
        if kind.is_dir() {
            if !GENERATED.iter().any(|generated| name == *generated) {
                collect_files(root, &path, files)?;
            }
        } else if kind.is_file() && is_text(&path) {
            let relative = path.strip_prefix(root).unwrap_or(&path);
            files.push(relative.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}

fn is_text(path: &Path) -> bool {
    match path.extension() {
        Some(extension) => TEXT_EXTENSIONS.iter().any(|known| extension == *known),
        None => path
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|folder| folder == ".ci"),
    }
}

fn member_manifests(metadata: &Value, root: &Path) -> Result<Vec<String>, String> {
    let packages = metadata["packages"]
        .as_array()
        .ok_or("cargo metadata lists no packages")?;
    packages
        .iter()
        .map(|package| {
            let manifest = package["manifest_path"]
                .as_str()
                .ok_or("cargo metadata: a package without a manifest")?;
            let relative = Path::new(manifest).strip_prefix(root);
            let relative = relative.unwrap_or(Path::new(manifest));
            Ok(relative.to_string_lossy().replace('\\', "/"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "crates/msgtrans-core/src/lib.rs";
    const TEST: &str = "crates/msgtrans-core/tests/it/main.rs";

    #[track_caller]
    fn assert_one(findings: &[Finding], line: usize, part: &str) {
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].line, line, "{findings:?}");
        assert!(findings[0].message.contains(part), "{findings:?}");
    }

    #[test]
    fn a_file_opens_with_its_one_idea() {
        assert_eq!(check_rust(SOURCE, "//! Packets.\n"), []);
        assert_one(&check_rust(SOURCE, "use std::fmt;\n"), 1, "//!");
    }

    #[test]
    fn modules_that_face_peers_deny_what_can_panic() {
        let denies = format!("//! A.\n// {}\n", PANICS.join(" "));
        assert_eq!(check_rust(FACES_PEERS[0], &denies), []);
        assert_eq!(check_rust(FACES_PEERS[0], "//! A.\n").len(), PANICS.len());
        assert_eq!(check_rust(SOURCE, "//! A.\n"), []);
    }

    #[test]
    fn a_file_has_its_limit_of_lines() {
        let longest = format!("//! Long.\n{}", "\n".repeat(LINES_MAX - 1));
        assert_eq!(check_rust(SOURCE, &longest), []);
        assert_one(
            &check_rust(SOURCE, &format!("{longest}\n")),
            901,
            "901 lines",
        );
    }

    #[test]
    fn unsafe_is_code_of_two_crates_only() {
        let text = "//! No unsafe here.\n#![deny(unsafe_code)]\nfn f() { unsafe { g() } }\n";
        assert_one(&check_rust(SOURCE, text), 3, "unsafe");
        assert_eq!(check_rust("crates/msgtrans-mempool/src/a.rs", text), []);
    }

    #[test]
    fn unfinished_work_is_found_and_strings_about_it_are_not() {
        let text = "//! A.\nfn f() { todo!() }\nconst T: &str = \"todo!()\";\n";
        assert_one(&check_rust(SOURCE, text), 2, "todo");
        let text = concat!("//! A.\n\n// FIX", "ME later\n");
        assert_one(&check_rust(SOURCE, text), 3, concat!("FIX", "ME"));
    }

    #[test]
    fn tests_neither_sleep_nor_get_ignored() {
        let text = "//! A.\nfn f() { std::thread::sleep(T) }\n";
        assert_one(&check_rust(TEST, text), 2, "sleep");
        assert_eq!(check_rust(SOURCE, text), []);
        let text = "//! A.\nuse tokio::time::{sleep, timeout};\n";
        assert_one(&check_rust(TEST, text), 2, "sleep");
        let text = "//! A.\n#[ignore = \"slow\"]\n";
        assert_one(&check_rust(SOURCE, text), 2, "ignored");
    }

    #[test]
    fn absolute_places_are_found_and_relative_ones_are_not() {
        let text = concat!("a\nsee \"/ho", "me/me/x\"\n");
        assert_one(
            &check_machine_paths("README.md", text),
            2,
            concat!("/ho", "me/"),
        );
        assert_eq!(
            check_machine_paths("README.md", "src/home/x, example.org/tmp/y"),
            []
        );
    }

    #[test]
    fn members_inherit_the_lints() {
        assert_eq!(check_manifest("a", "[lints]\nworkspace = true\n"), []);
        assert_eq!(
            check_manifest("a", "lints.workspace = true\n[package]\n"),
            []
        );
        let elsewhere = "[dependencies]\nworkspace = true\n";
        assert_one(&check_manifest("a", elsewhere), 1, "lints");
    }
}
