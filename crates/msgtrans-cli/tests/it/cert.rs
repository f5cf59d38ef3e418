//! `cert`, and servers and clients that use what it writes.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{Process, json, msgtrans, stderr, stdout};

/// A directory of one test, empty at first and gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let name = format!("msgtrans-cli-{test}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Left by a process of the same number, if it is there.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("a directory for the test");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &str) -> u32 {
    let metadata = fs::metadata(path).expect("a file");
    metadata.permissions().mode() & 0o7777
}

fn certificate(args: &[&str]) -> Value {
    let args: Vec<_> = ["--json", "cert"].iter().chain(args).copied().collect();
    let output = msgtrans(&args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    json(&stdout(&output))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field]
        .as_str()
        .unwrap_or_else(|| panic!("no {field} in {object}"))
}

#[test]
fn the_printed_pin_finds_the_server_that_shows_the_certificate() {
    let directory = Directory::new("pin");
    // Made by the command, with what is above it.
    let out = directory.path("a/b");
    let told = certificate(&["--out", &out]);
    let (cert, key, pin) = (text(&told, "cert"), text(&told, "key"), text(&told, "pin"));
    let server = Process::start(&[
        "serve",
        "--echo",
        "--cert",
        cert,
        "--key",
        key,
        "quic://127.0.0.1:0",
        "tls://127.0.0.1:0",
        "wss://127.0.0.1:0",
    ]);
    for scheme in ["quic", "tls", "wss"] {
        let url = server.listening();
        assert!(url.starts_with(scheme), "{url}");
        let output = msgtrans(&["request", &format!("{url}?pin={pin}"), "hello"]);
        assert_eq!(stdout(&output), "hello\n", "{url}: {}", stderr(&output));
        // Another certificate of development has another key.
        let wrong = format!("{url}?pin=sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
        let output = msgtrans(&["request", &wrong, "hello"]);
        assert_eq!(output.status.code(), Some(1), "{url}");
    }
}

#[test]
fn the_files_are_told_and_the_key_is_for_its_owner_alone() {
    let directory = Directory::new("modes");
    let out = directory.path("");
    let output = msgtrans(&["cert", "--out", &out]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = stdout(&output);
    let fields: Vec<_> = told
        .lines()
        .map(|line| line.split_once(' ').expect("a name and a value"))
        .collect();
    let [
        ("cert", cert),
        ("key", key),
        ("pin", pin),
        ("expires", expires),
    ] = fields[..]
    else {
        panic!("{told}");
    };
    assert!(pin.starts_with("sha256/"), "{pin}");
    assert!(
        expires.starts_with("20") && expires.ends_with('Z'),
        "{expires}"
    );
    assert_eq!(expires.len(), "2026-12-04T07:38:28Z".len(), "{expires}");
    let is_pem = |path, label: &str| {
        let text = fs::read_to_string(path).expect("a text file");
        text.starts_with(&format!("-----BEGIN {label}-----\n"))
    };
    assert!(is_pem(cert, "CERTIFICATE"));
    assert!(is_pem(key, "PRIVATE KEY"));
    assert_eq!(mode(key), 0o600);
    assert_eq!(mode(cert) & 0o133, 0, "{:o}", mode(cert));
    assert_eq!(stderr(&output), "");
}

#[test]
fn files_that_are_there_are_kept_unless_forced() {
    for name in ["cert.pem", "key.pem"] {
        let directory = Directory::new(&format!("kept-{name}"));
        let (out, kept) = (directory.path(""), directory.path(name));
        fs::write(&kept, "mine").expect("a file");
        fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).expect("my file");
        let output = msgtrans(&["cert", "--out", &out]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(&kept), "{}", stderr(&output));
        assert!(stderr(&output).contains("--force"), "{}", stderr(&output));
        assert_eq!(stdout(&output), "");
        assert_eq!(fs::read_to_string(&kept).expect("still there"), "mine");
        let files = fs::read_dir(&directory.0).expect("the directory");
        assert_eq!(files.count(), 1, "nothing is written beside {name}");

        let told = certificate(&["--force", "--out", &out]);
        assert_ne!(fs::read_to_string(&kept).expect("replaced"), "mine");
        // It was open to others; the new one must not be.
        assert_eq!(mode(text(&told, "key")), 0o600);
    }
}

#[test]
fn forcing_replaces_a_link_and_not_what_it_leads_to() {
    let directory = Directory::new("link");
    let (elsewhere, link) = (directory.path("elsewhere"), directory.path("key.pem"));
    fs::write(&elsewhere, "mine").expect("a file");
    std::os::unix::fs::symlink(&elsewhere, &link).expect("a link");
    certificate(&["--force", "--out", &directory.path("")]);
    assert_eq!(fs::read_to_string(&elsewhere).expect("there"), "mine");
    assert!(!Path::new(&link).is_symlink());
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = Directory::new("file");
    let file = directory.path("file");
    fs::write(&file, "").expect("a file");
    let output = msgtrans(&["cert", "--out", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&file), "{}", stderr(&output));
}
