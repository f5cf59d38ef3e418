//! `msgtrans completions`: the script with which a shell completes this command.

use clap_complete::Shell;

use crate::failure::Failure;
use crate::output::Output;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell that will read it
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut command: clap::Command, output: &Output) -> Result<(), Failure> {
    // By way of memory: the generators panic when they cannot write.
    let mut script = Vec::new();
    let name = command.get_name().to_owned();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    Ok(output.bytes(&script)?)
}
