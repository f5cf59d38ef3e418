//! The committed corpus, run on a stable compiler without a fuzzer: what was found once stays found.

use std::fs;
use std::path::{Path, PathBuf};

use msgtrans_fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}

#[test]
fn every_input_of_the_corpus_passes_its_target() {
    for target in TARGETS {
        let folder = corpus().join(target.name);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let mut inputs = 0;
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let bytes = fs::read(&path).expect("a readable input");
            let outcome = std::panic::catch_unwind(|| (target.run)(&bytes));
            assert!(
                outcome.is_ok(),
                "{} fails on {}",
                target.name,
                path.display()
            );
            inputs += 1;
        }
        assert!(inputs > 0, "{} has no corpus", target.name);
    }
}

#[test]
fn every_target_has_a_program_and_every_program_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut programs: Vec<String> = fs::read_dir(folder)
        .expect("the folder of the programs")
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| {
            path.file_stem()
                .expect("a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let mut targets: Vec<String> = TARGETS
        .iter()
        .map(|target| target.name.to_owned())
        .collect();
    programs.sort_unstable();
    targets.sort_unstable();
    assert_eq!(programs, targets);
}

#[test]
fn no_target_fails_on_nothing_or_on_bytes_of_one_kind() {
    for target in TARGETS {
        for byte in [0, 1, 2, 127, 128, 255] {
            for len in [0, 1, 16, 64, 1024] {
                (target.run)(&vec![byte; len]);
            }
        }
    }
}
