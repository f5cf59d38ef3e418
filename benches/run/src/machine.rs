//! What the figures were measured on.

use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// Processor, kernel, memory, congestion control, commit.
pub(crate) fn describe() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    json!({
        "cpu": field(&read("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map_or(0, |cores| cores.get()),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "congestion_control": read("/proc/sys/net/ipv4/tcp_congestion_control").trim(),
        "commit": git(&["rev-parse", "--short=12", "HEAD"]),
        "changed": !git(&["status", "--porcelain"]).is_empty(),
    })
}

/// The same in one line.
pub(crate) fn line(machine: &Value) -> String {
    let text = |name: &str| machine[name].as_str().unwrap_or_default().to_owned();
    let changed = if machine["changed"].as_bool() == Some(true) {
        " with changes"
    } else {
        ""
    };
    format!(
        "{}, {} cores, Linux {}, {}, commit {}{changed}",
        text("cpu"),
        machine["cores"],
        text("kernel"),
        text("congestion_control"),
        text("commit"),
    )
}

fn git(args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
