//! What holds where nobody has set anything: finite bounds, no zero, nothing dangerous by accident.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use msgtrans::{Limits, SessionConfig, TransportServer};

use crate::support::{listen, run};

#[test]
fn the_default_bounds_are_finite_and_what_the_documentation_says() {
    let SessionConfig {
        limits,
        decompressed_max,
        outbound,
        inbound_bytes,
        requests_handled_max,
        requests_pending_max,
        request_timeout,
        send_timeout,
        handshake_timeout,
        heartbeat,
        idle_timeout_v1,
        frame_rate_min,
        frame_rate_window,
        compression,
        auth,
        ..
    } = SessionConfig::default();
    let seconds = Duration::from_secs;
    assert_eq!(
        (limits.max_payload(), limits.max_ext_header()),
        (16 << 20, 65_535)
    );
    assert_eq!(limits, Limits::default());
    assert_eq!(decompressed_max, 16 << 20);
    assert_eq!((outbound.items, outbound.bytes), (1_024, 4 << 20));
    assert_eq!(inbound_bytes, 1 << 20);
    assert_eq!((requests_handled_max, requests_pending_max), (64, 1_024));
    assert_eq!((request_timeout, send_timeout), (seconds(10), seconds(10)));
    assert_eq!((handshake_timeout, heartbeat), (seconds(10), seconds(15)));
    assert_eq!(idle_timeout_v1, seconds(300));
    assert_eq!((frame_rate_min, frame_rate_window), (256, seconds(30)));
    assert!(compression.is_none() && auth.is_none());
    // What the builder keeps to itself shows in its text.
    let text = format!("{:?}", TransportServer::builder());
    for part in [
        "max_connections: 1000000",
        "max_connections_per_address: 4096",
        "max_handshakes: 1024",
        "drain_timeout: 30s",
        "items: 16384",
        "bytes: 16777216",
        "memory_budget: None",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn zero_is_no_bound_and_never_means_without_one() {
    run(async {
        let with = || listen(TransportServer::builder(), "tcp");
        let session = |change: fn(&mut SessionConfig)| with().session_config(change);
        for (name, builder) in [
            ("max_connections", with().max_connections(0)),
            (
                "max_connections_per_address",
                with().max_connections_per_address(0),
            ),
            ("max_handshakes", with().max_handshakes(0)),
            ("events.items", with().events_bounds(0, 1)),
            ("events.bytes", with().events_bounds(1, 0)),
            (
                "handshake_timeout",
                with().handshake_timeout(Duration::ZERO),
            ),
            ("send_timeout", with().send_timeout(Duration::ZERO)),
            ("request_timeout", with().request_timeout(Duration::ZERO)),
            (
                "graceful_shutdown",
                with().graceful_shutdown(Duration::ZERO),
            ),
            (
                "decompressed_max",
                session(|config| config.decompressed_max = 0),
            ),
            (
                "outbound.items",
                session(|config| config.outbound.items = 0),
            ),
            (
                "outbound.bytes",
                session(|config| config.outbound.bytes = 0),
            ),
            ("inbound_bytes", session(|config| config.inbound_bytes = 0)),
            (
                "requests_handled_max",
                session(|config| config.requests_handled_max = 0),
            ),
            (
                "requests_pending_max",
                session(|config| config.requests_pending_max = 0),
            ),
            (
                "heartbeat",
                session(|config| config.heartbeat = Duration::ZERO),
            ),
            (
                "idle_timeout_v1",
                session(|config| config.idle_timeout_v1 = Duration::ZERO),
            ),
            ("memory_budget", with().memory_budget(0)),
            (
                "frame_rate_min",
                with().min_frame_rate(0, Duration::from_secs(1)),
            ),
            (
                "frame_rate_window",
                with().min_frame_rate(1, Duration::ZERO),
            ),
        ] {
            let error = builder.build().await.expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
        Limits::new(0, 1_000).expect_err("no payload at all");
    });
}

/// Every file below `folder` with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

#[test]
fn skipping_verification_is_in_no_default_and_no_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let manifest = fs::read_to_string(root.join("crates/msgtrans/Cargo.toml")).expect("a manifest");
    for feature in ["default", "full", "tls", "quic", "websocket"] {
        let line = manifest
            .lines()
            .find(|line| line.starts_with(&format!("{feature} = ")));
        let line = line.expect("a feature");
        assert!(!line.contains("dangerous"), "{line}");
    }
    let examples = files(&root.join("examples"), ".rs");
    assert!(examples.len() > 3, "{} examples", examples.len());
    for path in examples {
        let text = fs::read_to_string(&path).expect("a source");
        for word in ["dangerous", "skip_verification", "insecure"] {
            assert!(!text.contains(word), "{word} in {}", path.display());
        }
    }
}
