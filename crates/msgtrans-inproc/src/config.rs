//! [`InprocServerConfig`] and [`InprocClientConfig`]: a name, typed or as a URL.

use msgtrans_core::ConfigError;
use msgtrans_transport::{Endpoint, ProtocolConfig};

use crate::SCHEME;

/// Listens under a name that clients of the same process dial.
///
/// The constructor takes what is required and never fails; the rest are knobs named after their fields, with a
/// documented unit, bound and default; `validate` checks everything in one place.
///
/// ```
/// use msgtrans_inproc::InprocServerConfig;
/// use msgtrans_transport::Endpoint;
///
/// let url = Endpoint::parse("inproc://orders?backlog=16")?;
/// assert_eq!(InprocServerConfig::from_endpoint(&url)?, InprocServerConfig::new("orders").backlog(16));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InprocServerConfig {
    pub(crate) name: String,
    pub(crate) backlog: usize,
}

/// Dials a name that a server of the same process listens under.
///
/// ```
/// use msgtrans_inproc::InprocClientConfig;
/// use msgtrans_transport::Endpoint;
///
/// let url = Endpoint::parse("inproc://orders")?;
/// assert_eq!(InprocClientConfig::from_endpoint(&url)?, InprocClientConfig::new("orders"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InprocClientConfig {
    pub(crate) name: String,
}

/// As many as TCP listeners of most systems have; a waiting connection costs a few hundred bytes.
const BACKLOG: usize = 4096;

impl InprocServerConfig {
    /// Listens under `name`. A bad name is an error of [`validate`](ProtocolConfig::validate) and of binding.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            backlog: BACKLOG,
        }
    }

    /// Reads a URL: `inproc://name` with the option `backlog`.
    ///
    /// # Errors
    /// Another scheme, a port, a path, an unknown option or a value that an option cannot have.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let mut this = Self::new(name_of(endpoint)?);
        // Each option is taken; what is left at `finish` is one that nobody knows, and an error instead of a surprise.
        let mut options = endpoint.options();
        if let Some(backlog) = options.take("backlog", "a number of connections")? {
            this.backlog = backlog;
        }
        options.finish()?;
        this.validate()?;
        Ok(this)
    }

    /// Connections that may wait to be accepted, 1 to 65 535; 4 096 by default. Who dials beyond it waits.
    #[must_use]
    pub fn backlog(mut self, connections: usize) -> Self {
        self.backlog = connections;
        self
    }
}

impl InprocClientConfig {
    /// Dials `name`. A bad name is an error of [`validate`](ProtocolConfig::validate) and of dialling.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Reads a URL: `inproc://name`, without options.
    ///
    /// # Errors
    /// Another scheme, a port, a path or an option.
    pub fn from_endpoint(endpoint: &Endpoint) -> Result<Self, ConfigError> {
        let this = Self::new(name_of(endpoint)?);
        endpoint.options().finish()?;
        this.validate()?;
        Ok(this)
    }
}

impl ProtocolConfig for InprocServerConfig {
    // What differs from the default goes into the URL, so that reading it gives the same configuration again.
    fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::new(SCHEME, &self.name, None);
        if self.backlog == BACKLOG {
            endpoint
        } else {
            endpoint.with_option("backlog", self.backlog)
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        if self.backlog == 0 || self.backlog > 65_535 {
            return Err(ConfigError::new(
                "backlog",
                self.backlog,
                "must be from 1 to 65535",
            ));
        }
        check_name(&self.name)
    }
}

impl ProtocolConfig for InprocClientConfig {
    fn endpoint(&self) -> Endpoint {
        Endpoint::new(SCHEME, &self.name, None)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        check_name(&self.name)
    }
}

/// A name is what a URL can say, so that both spellings mean the same.
fn check_name(name: &str) -> Result<(), ConfigError> {
    let readable = Endpoint::parse(&format!("{SCHEME}://{name}"))
        .is_ok_and(|url| url == Endpoint::new(SCHEME, name, None));
    if readable {
        Ok(())
    } else {
        let expected = "must be a plain word: no space, colon, slash, bracket, '?' or '#'";
        Err(ConfigError::new(
            "name",
            format_args!("\"{name}\""),
            expected,
        ))
    }
}

/// The name in a URL that has nothing else in front of its options.
fn name_of(endpoint: &Endpoint) -> Result<&str, ConfigError> {
    if endpoint.scheme() != SCHEME {
        let expected = format!("must be {SCHEME}:// here");
        return Err(ConfigError::new("scheme", endpoint.scheme(), expected));
    }
    if let Some(port) = endpoint.port() {
        let expected = format!("{SCHEME}:// has names and no ports");
        return Err(ConfigError::new("port", port, expected));
    }
    if !endpoint.path().is_empty() {
        let expected = format!("{SCHEME}:// has no paths");
        return Err(ConfigError::new("path", endpoint.path(), expected));
    }
    Ok(endpoint.host())
}
