//! What is wrong with a command line, and what the network refuses.

use crate::command::{dead_port, json, msgtrans, stderr, stdout};

#[test]
fn wrong_usage_exits_with_2_and_says_what_is_wrong() {
    let dead = format!("quic://127.0.0.1:{}", dead_port());
    let cases: [(&[&str], &str); 10] = [
        (&[], "Usage"),
        (&["serve", "tcp://127.0.0.1:0"], "--echo"),
        (
            &["serve", "--echo", "--sink", "tcp://127.0.0.1:0"],
            "cannot be used with",
        ),
        (&["serve", "--echo", "127.0.0.1:0"], "no scheme"),
        (
            &["serve", "--echo", "ftp://127.0.0.1:0"],
            "the scheme must be one of tcp,",
        ),
        (&["serve", "--echo", "inproc://here"], "one program"),
        (
            &["serve", "--echo", "--cert", "a.pem", "quic://127.0.0.1:0"],
            "--key",
        ),
        (&["send", "tcp://127.0.0.1:1", "text", "--wire", "v3"], "v3"),
        (
            &["request", "tcp://127.0.0.1:1?nodely=true", "text"],
            "nodely",
        ),
        (&["listen", "--timeout", "0", "tcp://127.0.0.1:1"], "0.01"),
    ];
    for (args, expected) in cases {
        let output = msgtrans(args);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{args:?}: {}",
            stderr(&output)
        );
        assert!(
            stderr(&output).contains(expected),
            "{args:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{args:?}");
    }
    let output = msgtrans(&["request", &dead, "nobody to believe"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--insecure"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_refused_connection_exits_with_1_and_names_the_endpoint() {
    for scheme in ["tcp", "ws"] {
        let url = format!("{scheme}://127.0.0.1:{}", dead_port());
        for args in [
            vec!["send", &url, "text"],
            vec!["request", &url, "text"],
            vec!["listen", &url],
        ] {
            let output = msgtrans(&args);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{args:?}: {}",
                stderr(&output)
            );
            assert!(stderr(&output).contains(&url), "{}", stderr(&output));
            assert!(stderr(&output).contains("refused"), "{}", stderr(&output));
            assert_eq!(stdout(&output), "");
        }
    }
}

#[test]
fn errors_are_objects_with_json() {
    let url = format!("tcp://127.0.0.1:{}", dead_port());
    let output = msgtrans(&["request", "--json", &url, "text"]);
    assert_eq!(output.status.code(), Some(1));
    let error = json(&stderr(&output));
    assert!(
        error["error"]
            .as_str()
            .is_some_and(|error| error.contains(&url)),
        "{error}"
    );
    assert!(
        error["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("serve")),
        "{error}"
    );
}

#[test]
fn help_and_version_are_data() {
    let output = msgtrans(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for command in ["demo", "serve", "send", "request", "listen"] {
        assert!(stdout(&output).contains(command), "{}", stdout(&output));
    }
    let output = msgtrans(&["--version"]);
    assert_eq!(
        stdout(&output),
        format!("msgtrans {}\n", env!("CARGO_PKG_VERSION"))
    );
}
