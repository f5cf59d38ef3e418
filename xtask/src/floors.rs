//! Versions below which a crate has a known advisory, checked against a lock file.
//!
//! The advisory database cannot be fetched by a build machine without a network, so the lessons
//! that concern us are written down here; `deny.toml` repeats them and a test compares the two.

/// A crate must not be used below `version`.
struct Floor {
    krate: &'static str,
    version: &'static str,
    advisory: &'static str,
}

const fn floor(krate: &'static str, version: &'static str, advisory: &'static str) -> Floor {
    Floor {
        krate,
        version,
        advisory,
    }
}

const FLOORS: &[Floor] = &[
    floor("async-nats", "0.29.0", "RUSTSEC-2023-0027"),
    floor("bytes", "1.11.1", "RUSTSEC-2026-0007"),
    floor("crossbeam-channel", "0.5.15", "RUSTSEC-2025-0024"),
    floor("crossbeam-deque", "0.8.1", "RUSTSEC-2021-0093"),
    floor("crossbeam-epoch", "0.9.20", "RUSTSEC-2026-0204"),
    floor("h2", "0.4.16", "RUSTSEC-2026-0258"),
    floor("lru", "0.18.2", "RUSTSEC-2026-0253"),
    floor("quinn-proto", "0.11.15", "RUSTSEC-2026-0185"),
    floor("rustls", "0.23.18", "RUSTSEC-2024-0399"),
    floor("rustls-webpki", "0.103.13", "RUSTSEC-2026-0104"),
    floor("slab", "0.4.11", "RUSTSEC-2025-0047"),
    floor("tokio", "1.44.2", "RUSTSEC-2025-0023"),
    floor("tungstenite", "0.20.1", "RUSTSEC-2023-0065"),
];

/// A package of the lock file that is too old.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BelowFloor {
    /// Line of its `version`, counted from 1.
    pub(crate) line: usize,
    /// Which crate, which floor, which advisory.
    pub(crate) message: String,
}

/// Every package of `Cargo.lock` below its floor; of a crate in two versions, each is compared.
pub(crate) fn check(lock_file: &str) -> Vec<BelowFloor> {
    let mut found = Vec::new();
    let mut name = "";
    for (index, line) in lock_file.lines().enumerate() {
        if let Some(value) = quoted_value(line, "name") {
            name = value;
        } else if let Some(version) = quoted_value(line, "version") {
            for floor in FLOORS.iter().filter(|floor| floor.krate == name) {
                if numbers(version) < numbers(floor.version) {
                    found.push(BelowFloor {
                        line: index + 1,
                        message: format!(
                            "{name} {version} is below {} ({}); run `cargo update -p {name}`",
                            floor.version, floor.advisory
                        ),
                    });
                }
            }
        }
    }
    found
}

fn quoted_value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?
        .strip_prefix(" = \"")?
        .strip_suffix('"')
}

/// Major, minor, patch. A pre-release counts as its release: no floor is one.
fn numbers(version: &str) -> [u64; 3] {
    let release = version.split(['-', '+']).next().unwrap_or(version);
    let mut parts = release.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_below_its_floor_is_found_with_its_line() {
        let lock = "version = 4\n\n[[package]]\nname = \"tokio\"\nversion = \"1.9.0\"\n\n\
                    [[package]]\nname = \"tokio\"\nversion = \"1.44.2\"\n";
        let found = check(lock);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].line, 5);
        assert!(found[0].message.contains("RUSTSEC-2025-0023"));
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(numbers("0.9.20") > numbers("0.9.3"));
        assert_eq!(numbers("2.1.2+zstd.1.5.7"), [2, 1, 2]);
        assert_eq!(numbers("1.0.0-rc.1"), [1, 0, 0]);
    }

    #[test]
    fn deny_toml_names_the_same_floors() {
        let deny = include_str!("../../deny.toml");
        for floor in FLOORS {
            let entry = format!("\"{}:<{}\"", floor.krate, floor.version);
            assert!(deny.contains(&entry), "deny.toml lacks {entry}");
        }
        assert_eq!(deny.matches(":<").count(), FLOORS.len());
    }
}
