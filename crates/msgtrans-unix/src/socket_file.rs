//! [`SocketFile`]: the file that a listener made, replaced and removed with care.

use std::fs::{self, Metadata, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// Removes its file when it is dropped, unless another has taken its place.
pub(crate) struct SocketFile {
    path: PathBuf,
    id: FileId,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// The file that a path names now, not what a link there leads to.
    fn at(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// Listens at `path`, after taking it over from a server that is dead.
pub(crate) async fn listen(
    path: &Path,
    mode: u32,
    backlog: u32,
) -> io::Result<(UnixListener, SocketFile)> {
    let socket = match bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            remove_stale(path).await?;
            bind(path)
        }
        bound => bound,
    }?;
    let file = SocketFile {
        path: path.to_owned(),
        id: FileId::at(path)?,
    };
    // Before anybody can connect: until it listens, a socket refuses.
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    let listener = socket.listen(backlog)?;
    // Another server that started at the same instant may have taken this socket for a dead one while it refused.
    if !file.is_there() {
        return Err(in_use("another server has taken the path over"));
    }
    Ok((listener, file))
}

fn bind(path: &Path) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    Ok(socket)
}

/// Removes the socket file of a server that is dead, and nothing else.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.file_type().is_socket() {
        return Err(in_use("the path names a file that is no socket"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        // Gone meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        // Also one whose backlog is full, or whose owner lets nobody in.
        _ => return Err(in_use("a server listens at the path")),
    }
    if FileId::at(path)? != FileId::of(&metadata) {
        return Err(in_use("another server has taken the path over"));
    }
    tracing::info!(path = %path.display(), "replaces the socket file of a server that is gone");
    fs::remove_file(path)
}

fn in_use(what: &str) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, what)
}

impl SocketFile {
    fn is_there(&self) -> bool {
        FileId::at(&self.path).is_ok_and(|id| id == self.id)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_there() {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a socket file");
        }
    }
}
