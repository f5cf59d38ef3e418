//! The files of a run: looked at before anything is measured, because twenty minutes later is too late.

use std::fs::{self, OpenOptions};
use std::path::PathBuf;

/// A file that will be written, in a folder that is there.
pub(crate) struct Output(PathBuf);

impl Output {
    /// Makes the folder and opens the file for writing without changing it; a file that was not there is not left
    /// behind.
    pub(crate) fn at(path: PathBuf) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        if let Some(folder) = path.parent().filter(|it| !it.as_os_str().is_empty()) {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let existed = path.exists();
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(failed)?;
        if !existed {
            fs::remove_file(&path).map_err(failed)?;
        }
        Ok(Self(path))
    }

    /// Writes it and says so.
    pub(crate) fn write(&self, text: &str) -> Result<(), String> {
        let Self(path) = self;
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        eprintln!("run: {}", path.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_known_before_and_what_can_is_left_alone() {
        let folder = std::env::temp_dir().join(format!("msgtrans-output-{}", std::process::id()));
        let inside = folder.join("new/bench.json");
        let output = Output::at(inside.clone()).expect("a writable place");
        assert!(!inside.exists(), "looking leaves nothing behind");
        output.write("{}").expect("written");
        Output::at(inside.clone()).expect("writable still");
        assert_eq!(fs::read_to_string(&inside).expect("the file"), "{}");
        // A file where a folder should be, and a folder where a file should be.
        assert!(Output::at(inside.join("below.json")).is_err());
        assert!(Output::at(folder.clone()).is_err());
        fs::remove_dir_all(&folder).expect("cleaned up");
    }
}
