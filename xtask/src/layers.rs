//! `cargo xtask layers`: dependencies run strictly downwards, and outside crates are declared.
//!
//! Each manifest says in `[package.metadata.msgtrans]` its `layer` and the `external` crates it
//! may use, so that a new edge or a new outside crate is a visible one-line diff.

use serde_json::Value;

use crate::workspace::Workspace;

/// The published test suites: the one crate that may be used from below.
const TESTKIT: &str = "msgtrans-testkit";

/// Programs, which nothing depends on.
const LAYER_MAX: u64 = 7;

/// A workspace member as its manifest describes it.
#[derive(Debug, Default)]
struct Member {
    name: String,
    layer: Option<u64>,
    external: Option<Vec<String>>,
    dependencies: Vec<Dependency>,
}

/// One line of a dependency table, the target-specific tables included.
#[derive(Debug)]
struct Dependency {
    name: String,
    kind: Kind,
    versioned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Build,
    Dev,
}

/// Prints each violation; an error says how many there are.
pub(crate) fn run(workspace: &Workspace) -> Result<(), String> {
    let members = members_of(&workspace.metadata()?)?;
    let violations = check(&members);
    for violation in &violations {
        println!("{violation}");
    }
    if violations.is_empty() {
        println!("{} members, every edge runs downwards", members.len());
        Ok(())
    } else {
        Err(format!("{} violations of the layers", violations.len()))
    }
}

/// From the graph to its violations, each naming the edge or manifest and the rule it breaks.
fn check(members: &[Member]) -> Vec<String> {
    let mut violations = Vec::new();
    for member in members {
        check_manifest(member, &mut violations);
        for dependency in &member.dependencies {
            match members.iter().find(|other| other.name == dependency.name) {
                Some(other) => check_edge(member, dependency, other, &mut violations),
                None => check_external(member, dependency, &mut violations),
            }
        }
    }
    violations
}

fn check_manifest(member: &Member, violations: &mut Vec<String>) {
    let name = &member.name;
    match member.layer {
        None => violations.push(format!(
            "{name}: the manifest states no layer; add `layer = N` to [package.metadata.msgtrans]"
        )),
        Some(layer) if layer > LAYER_MAX => violations.push(format!(
            "{name}: layer {layer} does not exist; the layers are 0 to {LAYER_MAX}"
        )),
        Some(_) => {}
    }
    let Some(external) = &member.external else {
        violations.push(format!(
            "{name}: the manifest does not list its outside crates; add `external = [...]` to \
             [package.metadata.msgtrans]"
        ));
        return;
    };
    for entry in external {
        let used = member
            .dependencies
            .iter()
            .any(|dependency| dependency.kind != Kind::Dev && dependency.name == *entry);
        if !used {
            violations.push(format!(
                "{name}: `external` lists {entry}, which is no normal or build dependency; \
                 remove it from the list"
            ));
        }
    }
}

fn check_edge(from: &Member, edge: &Dependency, to: &Member, violations: &mut Vec<String>) {
    // A missing layer has been reported already; guessing one would only add noise.
    let (Some(from_layer), Some(to_layer)) = (from.layer, to.layer) else {
        return;
    };
    let arrow = format!(
        "{} (layer {from_layer}) -> {} (layer {to_layer}), {}",
        from.name,
        to.name,
        edge.kind.describe()
    );
    if to.name == TESTKIT {
        if edge.kind == Kind::Dev {
            // With a version, publishing would need testkit first, and testkit needs the others.
            if edge.versioned {
                violations.push(format!(
                    "{arrow}: a development dependency on {TESTKIT} is by path, without a version"
                ));
            }
            return;
        }
        if from_layer == LAYER_MAX && from.name != TESTKIT {
            return;
        }
    }
    if to_layer == from_layer {
        violations.push(format!(
            "{arrow}: runs sideways; crates of one layer are blind to each other"
        ));
    } else if to_layer > from_layer {
        violations.push(format!(
            "{arrow}: runs upwards; edges run strictly downwards"
        ));
    }
}

fn check_external(member: &Member, edge: &Dependency, violations: &mut Vec<String>) {
    let Some(external) = &member.external else {
        return;
    };
    if edge.kind != Kind::Dev && !external.contains(&edge.name) {
        violations.push(format!(
            "{} -> {}, {}: an outside crate must be in `external` of \
             [package.metadata.msgtrans]",
            member.name,
            edge.name,
            edge.kind.describe()
        ));
    }
}

impl Kind {
    fn describe(self) -> &'static str {
        match self {
            Self::Normal => "dependency",
            Self::Build => "build dependency",
            Self::Dev => "development dependency",
        }
    }
}

/// `cargo metadata --no-deps` lists exactly the workspace members.
fn members_of(metadata: &Value) -> Result<Vec<Member>, String> {
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .ok_or("cargo metadata lists no packages")?;
    packages.iter().map(member_of).collect()
}

fn member_of(package: &Value) -> Result<Member, String> {
    let statement = &package["metadata"]["msgtrans"];
    let external = statement["external"].as_array().map(|entries| {
        entries
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    });
    let dependencies = package["dependencies"]
        .as_array()
        .ok_or("cargo metadata: a package without a list of dependencies")?;
    Ok(Member {
        name: text(package, "name")?,
        layer: statement["layer"].as_u64(),
        external,
        dependencies: dependencies
            .iter()
            .map(dependency_of)
            .collect::<Result<_, _>>()?,
    })
}

fn dependency_of(dependency: &Value) -> Result<Dependency, String> {
    let kind = match dependency["kind"].as_str() {
        None => Kind::Normal,
        Some("build") => Kind::Build,
        Some("dev") => Kind::Dev,
        Some(other) => return Err(format!("cargo metadata: unknown dependency kind `{other}`")),
    };
    Ok(Dependency {
        name: text(dependency, "name")?,
        kind,
        versioned: dependency["req"].as_str() != Some("*"),
    })
}

fn text(value: &Value, key: &str) -> Result<String, String> {
    value
        .get(key)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| format!("cargo metadata: `{key}` is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, layer: u64, external: &[&str], edges: &[(&str, Kind)]) -> Member {
        Member {
            name: name.to_owned(),
            layer: Some(layer),
            external: Some(external.iter().map(|&entry| entry.to_owned()).collect()),
            dependencies: edges
                .iter()
                .map(|&(name, kind)| Dependency {
                    name: name.to_owned(),
                    kind,
                    versioned: false,
                })
                .collect(),
        }
    }

    /// Two crates of layer 0 and 3, a sibling of the second, the testkit, and the one under test.
    fn violations_of(subject: Member) -> Vec<String> {
        check(&[
            member("msgtrans-core", 0, &[], &[]),
            member("msgtrans-inproc", 3, &[], &[]),
            member(TESTKIT, 7, &[], &[("msgtrans-core", Kind::Normal)]),
            subject,
        ])
    }

    #[track_caller]
    fn assert_one(violations: &[String], parts: &[&str]) {
        assert_eq!(violations.len(), 1, "{violations:?}");
        for part in parts {
            assert!(violations[0].contains(part), "{violations:?} lacks {part}");
        }
    }

    #[test]
    fn downward_edges_and_declared_crates_pass() {
        let tcp = member(
            "msgtrans-tcp",
            3,
            &["tokio", "cc"],
            &[
                ("tokio", Kind::Normal),
                ("cc", Kind::Build),
                ("proptest", Kind::Dev),
                ("msgtrans-core", Kind::Normal),
                (TESTKIT, Kind::Dev),
            ],
        );
        assert_eq!(violations_of(tcp), [""; 0]);
    }

    #[test]
    fn an_edge_to_the_same_layer_is_sideways() {
        let tcp = member("msgtrans-tcp", 3, &[], &[("msgtrans-inproc", Kind::Normal)]);
        assert_one(
            &violations_of(tcp),
            &[
                "msgtrans-tcp (layer 3) -> msgtrans-inproc (layer 3)",
                "sideways",
            ],
        );
    }

    #[test]
    fn development_edges_follow_the_same_order() {
        let lockfree = member(
            "msgtrans-lockfree",
            0,
            &[],
            &[("msgtrans-inproc", Kind::Dev)],
        );
        assert_one(
            &violations_of(lockfree),
            &["development dependency", "upwards"],
        );
    }

    #[test]
    fn only_programs_use_the_testkit_outside_of_tests() {
        let command = member("msgtrans-cli", 7, &[], &[(TESTKIT, Kind::Normal)]);
        assert_eq!(violations_of(command), [""; 0]);
        let session = member("msgtrans-session", 3, &[], &[(TESTKIT, Kind::Normal)]);
        assert_one(&violations_of(session), &[TESTKIT, "upwards"]);
    }

    #[test]
    fn programs_are_blind_to_each_other() {
        let command = member("msgtrans-cli", 7, &[], &[]);
        let examples = member("examples", 7, &[], &[("msgtrans-cli", Kind::Normal)]);
        assert_one(&check(&[command, examples]), &["sideways"]);
    }

    #[test]
    fn a_development_edge_to_the_testkit_carries_no_version() {
        let mut tcp = member("msgtrans-tcp", 3, &[], &[(TESTKIT, Kind::Dev)]);
        tcp.dependencies[0].versioned = true;
        assert_one(&violations_of(tcp), &["without a version"]);
    }

    #[test]
    fn an_undeclared_outside_crate_is_named() {
        let tcp = member("msgtrans-tcp", 3, &[], &[("openssl", Kind::Build)]);
        assert_one(
            &violations_of(tcp),
            &["msgtrans-tcp -> openssl", "build dependency", "external"],
        );
    }

    #[test]
    fn a_declared_crate_must_be_used_outside_of_tests() {
        let tcp = member("msgtrans-tcp", 3, &["tokio"], &[("tokio", Kind::Dev)]);
        assert_one(&violations_of(tcp), &["msgtrans-tcp", "tokio", "remove"]);
    }

    #[test]
    fn a_manifest_without_its_statement_is_named() {
        let silent = Member {
            name: "msgtrans-new".to_owned(),
            ..Member::default()
        };
        let violations = violations_of(silent);
        assert_eq!(violations.len(), 2, "{violations:?}");
        assert!(violations.iter().all(|text| text.contains("msgtrans-new")));
    }

    #[test]
    fn a_layer_that_does_not_exist_is_named() {
        assert_one(
            &violations_of(member("msgtrans-new", 8, &[], &[])),
            &["layer 8"],
        );
    }

    #[test]
    fn target_specific_and_optional_dependencies_count() {
        let metadata = serde_json::json!({ "packages": [{
            "name": "msgtrans-lockfree",
            "metadata": { "msgtrans": { "layer": 0, "external": ["loom"] } },
            "dependencies": [
                { "name": "loom", "kind": null, "req": "^0.7", "target": "cfg(msgtrans_loom)" },
                { "name": "zstd", "kind": null, "req": "^0.14", "optional": true },
            ],
        }]});
        let members = members_of(&metadata).expect("the fixture is well formed");
        assert_one(&check(&members), &["zstd"]);
    }
}
