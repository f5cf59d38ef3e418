//! `serve`, with `send` and `request` against it.
#![cfg(unix)]

use crate::command::{Process, json, msgtrans, stderr, stdout};

const ALL: [&str; 5] = [
    "tcp://127.0.0.1:0",
    "tls://127.0.0.1:0",
    "ws://127.0.0.1:0/chat",
    "wss://127.0.0.1:0/chat",
    "quic://127.0.0.1:0",
];

/// Starts a server on every protocol; the process and its URLs.
fn serve(args: &[&str]) -> (Process, Vec<String>) {
    let args: Vec<_> = ["serve"].iter().chain(args).chain(&ALL).copied().collect();
    let server = Process::start(&args);
    let urls = ALL.iter().map(|_| server.listening()).collect();
    (server, urls)
}

/// Ends the server; its last line.
fn stop(server: Process) -> String {
    server.signal("-TERM");
    let output = server.end();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let rest = stdout(&output);
    assert_eq!(rest.lines().count(), 1, "{rest}");
    rest.trim_end().to_owned()
}

#[test]
fn requests_are_echoed_over_each_protocol_in_both_wire_versions() {
    let (server, urls) = serve(&["--echo"]);
    for (url, asked) in urls.iter().zip(ALL) {
        assert_eq!(url.split(':').next(), asked.split(':').next());
        for wire in ["v1", "v2", "auto"] {
            let output = msgtrans(&["request", "--insecure", "--wire", wire, url, "hello"]);
            assert_eq!(
                output.status.code(),
                Some(0),
                "{url} {wire}: {}",
                stderr(&output)
            );
            assert_eq!(stdout(&output), "hello\n", "{url} {wire}");
        }
    }
    let totals = stop(server);
    assert!(totals.starts_with("served 15 sessions in "), "{totals}");
    assert!(totals.contains(": 15 messages in, 15 out, "), "{totals}");
}

#[test]
fn threads_of_its_own_serve_each_protocol_and_end() {
    for option in ["--thread-per-core", "--thread-per-core=3"] {
        let (server, urls) = serve(&["--echo", option]);
        for url in &urls {
            let output = msgtrans(&["request", "--insecure", url, "hello"]);
            assert_eq!(stdout(&output), "hello\n", "{url}: {}", stderr(&output));
        }
        let totals = stop(server);
        assert!(totals.starts_with("served 5 sessions in "), "{totals}");
    }
    // No timers of the runtime's there: nothing but what needs none.
    let server = Process::start(&[
        "serve",
        "--echo",
        "--thread-per-core=2",
        "tcp://127.0.0.1:0",
    ]);
    let output = msgtrans(&["request", &server.listening(), "hello"]);
    assert_eq!(stdout(&output), "hello\n", "{}", stderr(&output));
    stop(server);
}

#[test]
fn threads_of_its_own_are_told_how_many_or_used_wrongly() {
    for wrong in [
        &["--thread-per-core=0"][..],
        &["--thread-per-core", "--threads", "2"],
    ] {
        let args = ["serve", "--echo", "tcp://127.0.0.1:0"];
        let output = msgtrans(&[&args[..], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn threads_that_the_system_does_not_give_are_an_error_that_says_so() {
    let script = "ulimit -n 40; exec \"$0\" serve --echo --thread-per-core=64 tcp://127.0.0.1:0";
    let output = std::process::Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_msgtrans")])
        .output()
        .expect("a shell");
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(said.contains("thread_per_core of 64"), "{said}");
}

#[test]
fn a_sink_counts_the_messages_of_all_sessions() {
    let (server, urls) = serve(&["--sink"]);
    for url in &urls {
        let output = msgtrans(&["send", "--insecure", url, "one of five"]);
        assert_eq!(output.status.code(), Some(0), "{url}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
    let output = msgtrans(&["--json", "request", &urls[0], "how many?"]);
    let response = json(&stdout(&output));
    assert_eq!(response["payload_hex"], "0000000000000005", "{response}");
    stop(server);
}

#[test]
fn a_development_certificate_is_believed_by_its_pin_alone() {
    let server = Process::start(&["--json", "serve", "--echo", "quic://127.0.0.1:0"]);
    let listening = json(&server.line());
    let url = listening["url"].as_str().expect("a URL");
    let pin = listening["pin"].as_str().expect("a pin");
    // What the system does for the UDP socket is told beside it.
    assert!(listening["udp"]["send_segments"].as_u64() >= Some(1));
    assert!(listening["udp"]["receive_buffer"].as_u64() >= Some(65_536));
    let output = msgtrans(&["request", &format!("{url}?pin={pin}"), "hello"]);
    assert_eq!(stdout(&output), "hello\n", "{}", stderr(&output));
    let wrong = format!("{url}?pin=sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let output = msgtrans(&["request", &wrong, "hello"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("pin"), "{}", stderr(&output));
    let stopped = json(&stop(server));
    assert_eq!(stopped["event"], "stopped");
    assert_eq!(stopped["messages_in"], 1);
}

#[test]
fn a_server_narrowed_to_one_wire_version_refuses_the_other_by_name() {
    let server = Process::start(&["serve", "--echo", "--wire", "v1", "tcp://127.0.0.1:0"]);
    let url = server.listening();
    let output = msgtrans(&["request", &url, "hello"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&url), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--wire auto"),
        "{}",
        stderr(&output)
    );
    let output = msgtrans(&["request", "--wire", "auto", &url, "hello"]);
    assert_eq!(stdout(&output), "hello\n", "{}", stderr(&output));
    stop(server);
}

#[test]
fn ctrl_c_drains_sessions_and_prints_totals() {
    let server = Process::start(&["serve", "--echo", "tcp://127.0.0.1:0"]);
    let url = server.listening();
    let listener = Process::start(&["--json", "listen", &url]);
    assert_eq!(json(&listener.line())["event"], "connected");
    server.signal("-INT");
    let output = server.end();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stdout(&output).starts_with("served 1 session in "),
        "{}",
        stdout(&output)
    );
    let output = listener.end();
    let closed = json(stdout(&output).trim_end());
    assert!(
        closed["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("going away")),
        "{closed}"
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_port_in_use_is_named() {
    let server = Process::start(&["serve", "--echo", "tcp://127.0.0.1:0"]);
    let url = server.listening();
    let output = msgtrans(&["serve", "--sink", "tcp://127.0.0.1:0", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&format!("cannot listen on {url}")),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("hint: "), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    stop(server);
}
