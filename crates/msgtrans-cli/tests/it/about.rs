//! What the command prints about itself: completions and the manual page.

use crate::command::{msgtrans, stderr, stdout};

/// The subcommands, as `--help` lists them, without `help`.
fn subcommands() -> Vec<String> {
    let help = stdout(&msgtrans(&["--help"]));
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names: Vec<_> = list
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect();
    assert!(names.len() >= 8, "{help}");
    names
}

#[test]
fn bash_completes_every_subcommand() {
    let output = msgtrans(&["completions", "bash"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let script = stdout(&output);
    for name in subcommands() {
        assert!(script.contains(&format!("msgtrans,{name})")), "{name}");
    }
    assert!(script.contains("--insecure"), "options are completed too");
}

#[test]
fn each_shell_has_its_script_and_another_is_wrong_usage() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = msgtrans(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(stdout(&output).contains("completions"), "{shell}");
    }
    let output = msgtrans(&["completions", "csh"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("bash"), "{}", stderr(&output));
}

#[test]
fn the_manual_is_one_page_with_every_subcommand_and_its_options() {
    let output = msgtrans(&["man"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = stdout(&output);
    let count = |macro_name: &str| {
        let found = page.lines().filter(|line| line.starts_with(macro_name));
        found.count()
    };
    assert_eq!(count(".TH "), 1, "one page");
    assert_eq!(count(".SH OPTIONS"), 1, "subcommands have no sections");
    for name in subcommands() {
        let heading = format!(".SS \"msgtrans {name}\"");
        assert!(page.lines().any(|line| line == heading), "{name}");
    }
    for option in [
        "\\-\\-json",
        "\\-\\-sink",
        "\\-\\-biz\\-type",
        "\\-\\-force",
    ] {
        assert!(page.contains(option), "{option}");
    }
}
