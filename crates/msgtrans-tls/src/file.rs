//! Reading PEM files: bounded, and private keys only when nobody else can.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::fs::{File, Metadata};
use std::io::Read;
use std::path::Path;

use crate::TlsError;

/// Largest PEM file read, in bytes. The bundle of all public CAs is about 220 KiB.
const PEM_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Whether the permissions of a key file matter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyFileMode {
    OwnerOnly,
    Any,
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let (file, _) = open(path)?;
    read_bounded(file, path)
}

pub(crate) fn read_key(path: &Path, mode: KeyFileMode) -> Result<Vec<u8>, TlsError> {
    // Asked of the open file, not of the path, which might name another file a moment later.
    let (file, metadata) = open(path)?;
    if mode == KeyFileMode::OwnerOnly {
        check_owner_only(path, &metadata)?;
    }
    read_bounded(file, path)
}

fn open(path: &Path) -> Result<(File, Metadata), TlsError> {
    File::open(path)
        .and_then(|file| {
            let metadata = file.metadata()?;
            Ok((file, metadata))
        })
        .map_err(|source| TlsError::Read {
            path: path.to_owned(),
            source,
        })
}

fn read_bounded(file: File, path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    // The limit is on what arrives: devices and pipes state no length.
    file.take(PEM_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| TlsError::Read {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > PEM_FILE_BYTES_MAX {
        return Err(TlsError::FileTooLarge {
            path: path.to_owned(),
            max: PEM_FILE_BYTES_MAX,
        });
    }
    Ok(bytes)
}

#[cfg(unix)]
fn check_owner_only(path: &Path, metadata: &Metadata) -> Result<(), TlsError> {
    use std::os::unix::fs::PermissionsExt;

    /// Read and write for group and others. Execute is left out: it opens nothing.
    const OTHERS: u32 = 0o066;

    let mode = metadata.permissions().mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    Err(TlsError::ExposedKeyFile {
        path: path.to_owned(),
        mode,
    })
}

/// Elsewhere access lists decide, which `std` cannot read.
#[cfg(not(unix))]
fn check_owner_only(_: &Path, _: &Metadata) -> Result<(), TlsError> {
    Ok(())
}
