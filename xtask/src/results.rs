//! `docs/RESULTS.md`: the last result of each long command, one section a command.

use std::fs;
use std::process::Command;

use crate::workspace::Workspace;

const PATH: &str = "docs/RESULTS.md";

/// Replaces the section of `command`, or appends one, and says when and on which machine it ran.
pub(crate) fn record(workspace: &Workspace, command: &str, text: &str) -> Result<(), String> {
    let path = workspace.root().join(PATH);
    let page = fs::read_to_string(&path).map_err(|error| format!("cannot read {PATH}: {error}"))?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let section = format!(
        "## `{command}`\n\n{}, {cores} cores, commit {}.\n\n{}\n",
        first_line("date", &["-u", "+%Y-%m-%d"]),
        first_line("git", &["rev-parse", "--short", "HEAD"]),
        text.trim_end()
    );
    fs::write(&path, with_section(&page, command, &section))
        .map_err(|error| format!("cannot write {PATH}: {error}"))?;
    println!("recorded in {PATH}");
    Ok(())
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    );
    text.lines().next().unwrap_or("unknown").to_owned()
}

fn with_section(page: &str, command: &str, section: &str) -> String {
    let heading = format!("## `{command}`\n");
    let Some(start) = page.find(&heading) else {
        return format!("{}\n\n{section}", page.trim_end());
    };
    let (before, rest) = page.split_at(start);
    match rest[heading.len()..].find("\n## ") {
        Some(end) => {
            let after = &rest[heading.len() + end + 1..];
            format!("{before}{section}\n{after}")
        }
        None => format!("{before}{section}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_its_neighbours_stay() {
        let page = "# R\n\nIntro.\n\n## `a`\n\nold\n\n## `b`\n\nstays\n";
        let section = "## `a`\n\nnew\n";
        let once = with_section(page, "a", section);
        assert_eq!(once, "# R\n\nIntro.\n\n## `a`\n\nnew\n\n## `b`\n\nstays\n");
        assert_eq!(with_section(&once, "a", section), once);
        let added = with_section(page, "c", "## `c`\n\nx\n");
        assert!(added.ends_with("stays\n\n## `c`\n\nx\n"));
    }
}
