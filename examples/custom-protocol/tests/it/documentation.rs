//! The pages show code of this crate; it is the code of this crate.

/// The lines of `text` without their indentation: a snippet may be cut out of an `impl`.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

#[test]
fn snippets_are_in_the_files_that_they_name() {
    const MARK: &str = "// examples/custom-protocol/";
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let page = std::fs::read_to_string(format!("{root}../../docs/ADDING_A_PROTOCOL.md"))
        .expect("the page");
    let mut checked = 0;
    for block in page.split("```").skip(1).step_by(2) {
        let Some((_, code)) = block.split_once('\n') else {
            continue;
        };
        let Some((file, snippet)) = code.strip_prefix(MARK).and_then(|at| at.split_once('\n'))
        else {
            continue;
        };
        let source = std::fs::read_to_string(format!("{root}{file}")).expect(file);
        let source = lines(&source);
        // A line of dots stands for lines that are left out.
        for part in lines(snippet).split(|line| *line == "// …") {
            assert!(
                !part.is_empty() && source.windows(part.len()).any(|window| window == part),
                "{file} does not have\n{}",
                part.join("\n")
            );
        }
        checked += 1;
    }
    assert!(checked >= 4, "only {checked} snippets name their file");
}
