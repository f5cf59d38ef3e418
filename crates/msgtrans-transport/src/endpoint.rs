//! [`Endpoint`]: `scheme://host:port/path?option=value`, the one-line configuration of a protocol.
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

use std::fmt;
use std::str::FromStr;

use msgtrans_core::ConfigError;
use thiserror::Error;

/// Where to listen or dial, as a URL. The scheme is open text: protocols of other crates have theirs.
///
/// `tcp://0.0.0.0:8080?nodelay=true`, `ws://localhost:8081/chat`, `quic://[::1]:8082`, `inproc://name`,
/// `unix:///run/app.sock`. `websocket://` is another spelling of `ws://`. There is no percent-decoding: options are
/// plain words and numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: String,
    host: String,
    port: Option<u16>,
    path: String,
    options: Vec<(String, String)>,
}

/// A URL that is none, and where it stops being one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{what} at position {position} of \"{url}\"")]
pub struct ParseEndpointError {
    url: String,
    position: usize,
    what: &'static str,
}

impl From<ParseEndpointError> for ConfigError {
    fn from(error: ParseEndpointError) -> Self {
        let ParseEndpointError {
            url,
            position,
            what,
        } = error;
        ConfigError::new(
            "endpoint",
            format_args!("\"{url}\""),
            format!("{what} at position {position}"),
        )
    }
}

impl Endpoint {
    /// An endpoint of a scheme, a host without brackets and a port.
    pub fn new(scheme: impl Into<String>, host: impl Into<String>, port: Option<u16>) -> Self {
        Self {
            scheme: scheme.into(),
            host: host.into(),
            port,
            path: String::new(),
            options: Vec::new(),
        }
    }

    /// An endpoint of a scheme at `host:port` or `[v6]:port`, as typed configurations take it.
    ///
    /// # Errors
    /// The address is no host and port, or holds more than that.
    pub fn from_address(scheme: &str, address: &str) -> Result<Self, ConfigError> {
        let fail = |what: &str| {
            ConfigError::new(
                "address",
                format_args!("\"{address}\""),
                format!("must be host:port, not {what}"),
            )
        };
        if let Some(c) = address.chars().find(|c| "/?#&".contains(*c) || is_odd(*c)) {
            return Err(fail(&format!("with {c:?} in it")));
        }
        match split_authority(address) {
            Ok((host, Some(port))) => Ok(Self::new(scheme, host, Some(port))),
            Ok((_, None)) => Err(fail("without a port")),
            Err((_, what)) => Err(fail(what)),
        }
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong and at which byte.
    pub fn parse(url: &str) -> Result<Self, ParseEndpointError> {
        let fail = |position, what| {
            Err(ParseEndpointError {
                url: url.to_owned(),
                position,
                what,
            })
        };
        let Some(colon) = url.find("://") else {
            return fail(0, "no scheme such as tcp://");
        };
        let scheme = &url[..colon];
        let valid = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.');
        if !scheme.starts_with(|c: char| c.is_ascii_alphabetic()) || !scheme.bytes().all(valid) {
            return fail(0, "an invalid scheme");
        }
        if let Some(position) = url.find(|c| c == '#' || is_odd(c)) {
            return fail(position, "a character that no endpoint has");
        }
        let start = colon.saturating_add(3);
        let query = url[start..]
            .find('?')
            .map_or(url.len(), |at| start.saturating_add(at));
        let slash = url[start..query]
            .find('/')
            .map_or(query, |at| start.saturating_add(at));
        let (host, port) = match split_authority(&url[start..slash]) {
            Ok(parts) => parts,
            Err((at, what)) => return fail(start.saturating_add(at), what),
        };
        let path = &url[slash..query];
        if host.is_empty() && path.is_empty() {
            return fail(start, "no host");
        }
        let mut options: Vec<(String, String)> = Vec::new();
        let mut position = query.saturating_add(1);
        for pair in url
            .get(position..)
            .unwrap_or("")
            .split('&')
            .filter(|_| query < url.len())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
            if name.is_empty() {
                return fail(position, "an option without a name");
            }
            if options.iter().any(|(known, _)| known == name) {
                return fail(position, "an option given twice");
            }
            options.push((name.to_owned(), value.to_owned()));
            position = position.saturating_add(pair.len()).saturating_add(1);
        }
        let scheme = scheme.to_ascii_lowercase();
        let scheme = if scheme == "websocket" {
            "ws".to_owned()
        } else {
            scheme
        };
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            options,
        })
    }

    /// The protocol, in lower case.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The host or name, IPv6 addresses without brackets; empty where the path says it all.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, where one stands.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path with its leading slash, or nothing.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `host:port` as a resolver takes it.
    ///
    /// # Errors
    /// There is no port.
    pub fn authority(&self) -> Result<String, ConfigError> {
        let port = self.port.ok_or_else(|| {
            ConfigError::new("endpoint", format_args!("\"{self}\""), "needs a port")
        })?;
        Ok(if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        })
    }

    /// The same endpoint at another port.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The same endpoint with another path.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// The same endpoint with one more option.
    #[must_use]
    pub fn with_option(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.options.push((name.into(), value.to_string()));
        self
    }

    /// The same endpoint without its options.
    #[must_use]
    pub fn without_options(mut self) -> Self {
        self.options.clear();
        self
    }

    /// The options, to be taken one by one; what is left at the end is unknown.
    pub fn options(&self) -> EndpointOptions<'_> {
        EndpointOptions {
            endpoint: self,
            taken: vec![false; self.options.len()],
        }
    }
}

/// What would not survive a log line, a shell or a resolver.
fn is_odd(c: char) -> bool {
    c.is_control() || c.is_whitespace()
}

/// `host:port`, `[v6]:port` or a name alone.
fn split_authority(text: &str) -> Result<(&str, Option<u16>), (usize, &'static str)> {
    let (host, rest, rest_at) = match text.strip_prefix('[') {
        Some(inner) => match inner.split_once(']') {
            Some((host, rest)) if host.contains(':') => (host, rest, host.len().saturating_add(2)),
            Some(_) => return Err((0, "brackets without an IPv6 address")),
            None => return Err((0, "a bracket that is never closed")),
        },
        None => match text.rfind(':') {
            Some(at) => (&text[..at], &text[at..], at),
            None => (text, "", text.len()),
        },
    };
    if !text.starts_with('[') && host.contains(':') {
        return Err((0, "an IPv6 address without brackets"));
    }
    if let Some(at) = host.find(['[', ']']) {
        return Err((at, "a bracket inside a host"));
    }
    match rest.strip_prefix(':') {
        // Digits alone: `parse` would take a sign too.
        Some(port) => match port.parse() {
            Ok(port) if !host.is_empty() && !rest.contains('+') => Ok((host, Some(port))),
            Ok(_) if host.is_empty() => Err((0, "no host")),
            _ => Err((
                rest_at.saturating_add(1),
                "a port that is not a number up to 65535",
            )),
        },
        None if rest.is_empty() => Ok((host, None)),
        None => Err((rest_at, "something between host and port")),
    }
}

impl FromStr for Endpoint {
    type Err = ParseEndpointError;

    fn from_str(url: &str) -> Result<Self, Self::Err> {
        Self::parse(url)
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = ParseEndpointError;

    fn try_from(url: &str) -> Result<Self, Self::Error> {
        Self::parse(url)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if self.host.contains(':') && !cfg!(msgtrans_planted = "10") {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)?;
        for (index, (name, value)) in self.options.iter().enumerate() {
            write!(f, "{}{name}={value}", if index == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// An endpoint's options on their way into a typed configuration.
#[derive(Debug)]
#[must_use = "call `finish`, so that a misspelt option is an error"]
pub struct EndpointOptions<'a> {
    endpoint: &'a Endpoint,
    taken: Vec<bool>,
}

impl EndpointOptions<'_> {
    /// The value of `name`, parsed; `None` where it is not given.
    ///
    /// # Errors
    /// Names the option, its value and what it must be.
    pub fn take<T: FromStr>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ConfigError> {
        let mut options = self.endpoint.options.iter().zip(&mut self.taken);
        let Some(((_, value), taken)) = options.find(|((known, _), _)| known == name) else {
            return Ok(None);
        };
        *taken = true;
        value
            .parse()
            .map(Some)
            .map_err(|_| ConfigError::new(name, value, format!("must be {expected}")))
    }

    /// Like [`take`](Self::take) for times: `500ms`, `10s`, `2m`.
    ///
    /// # Errors
    /// Names the option, its value and what it must be.
    pub fn take_duration(
        &mut self,
        name: &str,
    ) -> Result<Option<std::time::Duration>, ConfigError> {
        let Some(text) = self.take::<String>(name, "a time")? else {
            return Ok(None);
        };
        let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let digits = text.strip_suffix(unit).unwrap_or_default();
        let unit = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            _ => None,
        };
        let value = digits
            .parse::<u64>()
            .ok()
            .zip(unit)
            .and_then(|(value, unit)| value.checked_mul(unit));
        match value {
            Some(ms) => Ok(Some(std::time::Duration::from_millis(ms))),
            None => Err(ConfigError::new(
                name,
                text,
                "must be a time such as 500ms, 10s or 2m",
            )),
        }
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// Names the first option that nobody took.
    pub fn finish(self) -> Result<(), ConfigError> {
        let mut options = self.endpoint.options.iter().zip(&self.taken);
        match options.find(|(_, taken)| !**taken) {
            None => Ok(()),
            Some(((name, value), _)) => {
                let scheme = &self.endpoint.scheme;
                Err(ConfigError::new(
                    name,
                    value,
                    format!("{scheme}:// has no such option here"),
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests;
