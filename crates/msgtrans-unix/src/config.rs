//! [`UnixServerConfig`] and [`UnixClientConfig`]: a path, typed or as a URL.

use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use msgtrans_core::{ConfigError, WireVersions};
use msgtrans_transport::{Endpoint, EndpointOptions, ProtocolConfig};

use crate::SCHEME;

/// Its owner may connect, and nobody else.
const MODE: u32 = 0o600;
/// Connections that may wait to be accepted, as over TCP.
const BACKLOG: u32 = 4096;

/// Listens at a path of the file system.
///
/// A socket file that a crashed server left behind is replaced; one where a server answers is an error of binding, as
/// is any other file. The file is removed when the listener is dropped.
///
/// ```
/// use msgtrans_transport::Endpoint;
/// use msgtrans_unix::UnixServerConfig;
///
/// let url = Endpoint::parse("unix:///run/app.sock?mode=660")?;
/// assert_eq!(UnixServerConfig::from_endpoint(&url)?, UnixServerConfig::new("/run/app.sock").mode(0o660));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixServerConfig {
    path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) backlog: u32,
    pub(crate) wire: Option<WireVersions>,
}

/// Dials the path that a server listens at.
///
/// ```
/// use msgtrans_transport::Endpoint;
/// use msgtrans_unix::UnixClientConfig;
///
/// let url = Endpoint::parse("unix:///run/app.sock")?;
/// assert_eq!(UnixClientConfig::from_endpoint(&url)?, UnixClientConfig::new("/run/app.sock"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixClientConfig {
    path: PathBuf,
    pub(crate) wire: Option<WireVersions>,
}

impl UnixServerConfig {
    /// Listens at an absolute path. A bad one is an error of [`validate`](ProtocolConfig::validate) and of binding.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: MODE,
            backlog: BACKLOG,
            wire: None,
        }
    }

    /// Reads a URL: `unix:///path` with the options `mode` (octal, `660`), `backlog` and `wire` (`v1`, `v2`, `auto`).
    ///
    /// # Errors
    /// Another scheme, a host, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let mut this = Self::new(path_of(endpoint)?);
        let mut options = endpoint.options();
        if let Some(mode) = options.take::<String>("mode", "permission bits")? {
            this.mode = parse_mode(&mode)?;
        }
        if let Some(backlog) = options.take("backlog", "a number of connections")? {
            this.backlog = backlog;
        }
        this.wire = take_wire(&mut options)?;
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    /// The permission bits of the socket file, 0o600 by default: whoever may write to it may connect. The bits hold
    /// from the first moment on, whatever the umask is. Some systems look at those of the folder alone.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Connections that may wait to be accepted, 1 to 65 535; 4 096 by default. The system may cut it
    /// (`net.core.somaxconn`).
    #[must_use]
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// The wire versions that this listener accepts; those of the server by default.
    #[must_use]
    pub fn wire(mut self, wire: WireVersions) -> Self {
        self.wire = Some(wire);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl UnixClientConfig {
    /// Dials an absolute path. A bad one is an error of [`validate`](ProtocolConfig::validate) and of dialling.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            wire: None,
        }
    }

    /// Reads a URL: `unix:///path` with the option `wire` (`v1`, `v2`, `auto`).
    ///
    /// # Errors
    /// Another scheme, a host, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let mut this = Self::new(path_of(endpoint)?);
        let mut options = endpoint.options();
        this.wire = take_wire(&mut options)?;
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    /// The wire versions that this client offers; those of the client by default. `Any` tries version 2 and falls back
    /// to version 1.
    #[must_use]
    pub fn wire(mut self, wire: WireVersions) -> Self {
        self.wire = Some(wire);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl ProtocolConfig for UnixServerConfig {
    fn endpoint(&self) -> Endpoint {
        let mut endpoint = endpoint_of(&self.path);
        if self.mode != MODE {
            endpoint = endpoint.with_option("mode", format_args!("{:o}", self.mode));
        }
        if self.backlog != BACKLOG {
            endpoint = endpoint.with_option("backlog", self.backlog);
        }
        put_wire(endpoint, self.wire)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        check_path(&self.path)?;
        if self.mode > 0o777 || self.mode & 0o222 == 0 {
            return Err(ConfigError::new(
                "mode",
                format_args!("{:o}", self.mode),
                "must be octal permission bits up to 777 that let somebody write, and so connect",
            ));
        }
        if !(1..=65_535).contains(&self.backlog) {
            return Err(ConfigError::new(
                "backlog",
                self.backlog,
                "must be from 1 to 65535",
            ));
        }
        Ok(())
    }
}

impl ProtocolConfig for UnixClientConfig {
    fn endpoint(&self) -> Endpoint {
        put_wire(endpoint_of(&self.path), self.wire)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        check_path(&self.path)
    }
}

/// What listens or dials there, without options.
pub(crate) fn endpoint_of(path: &Path) -> Endpoint {
    Endpoint::new(SCHEME, "", None).with_path(path.to_string_lossy())
}

fn path_of(endpoint: &Endpoint) -> Result<&str, ConfigError> {
    if endpoint.scheme() != SCHEME {
        let expected = format!("must be {SCHEME}:// here");
        return Err(ConfigError::new("scheme", endpoint.scheme(), expected));
    }
    if !endpoint.host().is_empty() {
        let expected = "has no host: an absolute path makes three slashes, unix:///run/app.sock";
        return Err(ConfigError::new(
            "endpoint",
            format_args!("\"{endpoint}\""),
            expected,
        ));
    }
    Ok(endpoint.path())
}

fn check_path(path: &Path) -> Result<(), ConfigError> {
    let fail = |expected: String| Err(ConfigError::new("path", path.display(), expected));
    if !path.is_absolute() {
        // Which file a relative one is would change with the working directory.
        return fail("must be absolute".to_owned());
    }
    if path.to_str().is_none() {
        return fail("must be UTF-8".to_owned());
    }
    match SocketAddr::from_pathname(path) {
        Ok(_) => Ok(()),
        Err(error) => fail(format!("cannot be the path of a socket: {error}")),
    }
}

fn parse_mode(text: &str) -> Result<u32, ConfigError> {
    // Digits alone: `from_str_radix` would take a sign too.
    let octal = text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal => Ok(mode),
        _ => Err(ConfigError::new(
            "mode",
            text,
            "must be octal permission bits such as 660",
        )),
    }
}

fn take_wire(options: &mut EndpointOptions<'_>) -> Result<Option<WireVersions>, ConfigError> {
    options.take("wire", "v1, v2 or auto")
}

fn put_wire(endpoint: Endpoint, wire: Option<WireVersions>) -> Endpoint {
    match wire {
        None => endpoint,
        Some(WireVersions::V1) => endpoint.with_option("wire", "v1"),
        Some(WireVersions::V2) => endpoint.with_option("wire", "v2"),
        Some(WireVersions::Any) => endpoint.with_option("wire", "auto"),
    }
}
