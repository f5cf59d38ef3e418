//! `msgtrans man`: one page in roff for the command and all that it can be told to do.

use std::io::{self, Write};

use clap_mangen::Man;

use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn run(command: clap::Command, output: &Output) -> Result<(), Failure> {
    // Writing to memory does not fail; if it did, nothing of the page would have been printed.
    let page = page(command)?;
    Ok(output.bytes(&page)?)
}

/// A page with the subcommands in it. The generator would write a page for each, of which only the first could be read
/// from standard output.
fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    // `help` says the same as the page.
    let mut command = command
        .disable_help_subcommand(true)
        .subcommand_value_name("COMMAND");
    command.build();
    let man = Man::new(command.clone()).manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for subcommand in command.get_subcommands() {
        let name = subcommand.get_bin_name().unwrap_or(subcommand.get_name());
        writeln!(page, ".SS \"{name}\"")?;
        let man = Man::new(subcommand.clone());
        let mut sections = Vec::new();
        man.render_synopsis_section(&mut sections)?;
        man.render_description_section(&mut sections)?;
        man.render_options_section(&mut sections)?;
        page.extend_from_slice(&without_headings(&sections));
    }
    man.render_extra_section(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

/// Paragraphs in place of sections: what is part of a section has no headings of its own. Text never begins with a dot
/// in roff, so these lines are the generator's.
fn without_headings(sections: &[u8]) -> Vec<u8> {
    let mut paragraphs = Vec::with_capacity(sections.len());
    for line in sections.split_inclusive(|byte| *byte == b'\n') {
        paragraphs.extend_from_slice(if line.starts_with(b".SH ") {
            b".PP\n"
        } else {
            line
        });
    }
    paragraphs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_become_paragraphs_and_text_stays() {
        let sections = b".SH OPTIONS\n.TP\n\\fB\\-\\-json\\fR\nsay .SH here\n";
        let paragraphs = without_headings(sections);
        assert_eq!(
            String::from_utf8_lossy(&paragraphs),
            ".PP\n.TP\n\\fB\\-\\-json\\fR\nsay .SH here\n"
        );
    }
}
