//! Where the workspace lies, and how the tasks call cargo in it.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The workspace that xtask belongs to.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// Cargo says at run time where xtask lies, so that a copied or moved tree works too.
    pub(crate) fn locate() -> Self {
        let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir
            .parent()
            .map_or_else(|| manifest_dir.clone(), Path::to_path_buf);
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `cargo ARGS` in the root of the workspace.
    pub(crate) fn cargo<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root);
        forget_this_package(&mut command);
        command
    }

    /// `cargo metadata` of the workspace members, without their dependencies.
    pub(crate) fn metadata(&self) -> Result<Value, String> {
        let text = stdout_of(&mut self.cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
        serde_json::from_str(&text).map_err(|error| format!("cargo metadata is not JSON: {error}"))
    }

    /// Where cargo builds, as the environment and the configuration say.
    pub(crate) fn target_directory(&self) -> Result<PathBuf, String> {
        let metadata = self.metadata()?;
        let path = metadata["target_directory"].as_str();
        path.map(PathBuf::from)
            .ok_or_else(|| "cargo metadata names no target directory".to_owned())
    }

    /// Whether `cargo SUBCOMMAND --version` works.
    pub(crate) fn has_subcommand(&self, subcommand: &str) -> bool {
        self.cargo([subcommand, "--version"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

/// Runs the command with the terminal of the task; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{}`: {error}", describe(command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}` ended with {status}", describe(command)))
    }
}

/// Runs the command and returns what it printed; its complaints go to the terminal.
pub(crate) fn stdout_of(command: &mut Command) -> Result<String, String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start `{}`: {error}", describe(command)))?;
    if !output.status.success() {
        return Err(format!(
            "`{}` ended with {}",
            describe(command),
            output.status
        ));
    }
    String::from_utf8(output.stdout)
        .map_err(|_| format!("`{}` printed text that is not UTF-8", describe(command)))
}

/// The command as one would type it, with the program's name instead of its path.
pub(crate) fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy()
        .into_owned();
    for argument in command.get_args() {
        let _ = write!(text, " {}", argument.to_string_lossy());
    }
    text
}

/// `cargo run` describes xtask itself in the environment. Build scripts which watch those variables (ring's does) would be
/// run again whenever a task and a plain cargo call take turns, so they are taken out.
pub(crate) fn forget_this_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(describes_this_package) {
            command.env_remove(name);
        }
    }
}

fn describes_this_package(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_")
        || variable.starts_with("CARGO_MANIFEST_")
        || variable == "CARGO_PRIMARY_PACKAGE"
        || variable == "OUT_DIR"
}
