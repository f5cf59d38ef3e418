//! See the binaries beside this file.
