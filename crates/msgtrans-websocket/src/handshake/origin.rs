//! Which web pages may open a connection: the defence against cross-site WebSocket hijacking.
//!
//! A browser lets any page dial any server and sends the user's cookies along; the Origin header,
//! which a page cannot forge, is all that tells the server. Programs other than browsers send none,
//! or whatever they like, and are not what this defends against.
// A peer's bytes pass here: nothing that can panic.
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

/// A scheme, a host and a port, as a browser names the page that dials.
///
/// Parsed from `scheme://host[:port]` and nothing more; compared exactly, letters without their case,
/// a missing port being the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    scheme: String,
    host: String,
    /// `None` only for schemes that have no default port, such as those of browser extensions.
    port: Option<u16>,
}

/// Text that is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an origin of the form scheme://host[:port]")]
pub struct OriginError {
    text: String,
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        Self::parse(text).ok_or_else(|| OriginError {
            text: text.to_owned(),
        })
    }
}

impl Origin {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let starts_with_letter = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if !starts_with_letter || !scheme.chars().all(legal) {
            return None;
        }
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = split_authority(authority)?;
        let port = port.or_else(|| default_port(&scheme));
        Some(Self {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// Whether the page came from the host that it now dials, whose Host header is `host`.
    fn is_same(&self, host: &str, tls: bool) -> bool {
        let Some((host, port)) = split_authority(host) else {
            return false;
        };
        let Some(scheme_port) = default_port(&self.scheme) else {
            return false;
        };
        // Without TLS of our own the scheme is unknown, because a proxy may have ended it: then a
        // missing port means the same on both sides. With it a page over plain HTTP, which anybody on
        // the way can write, is a foreign one.
        let default = if tls { 443 } else { scheme_port };
        (!tls || scheme_port == 443)
            && self.host.eq_ignore_ascii_case(host)
            && self.port == Some(port.unwrap_or(default))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        match self.port {
            Some(port) if self.port != default_port(&self.scheme) => write!(f, ":{port}"),
            _ => Ok(()),
        }
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// `host[:port]` with a host that is a name, an IPv4 address or an IPv6 address in brackets.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_len = if authority.starts_with('[') {
        authority.find(']')?.saturating_add(1)
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(host_len);
    let legal = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            !host.is_empty() && host.chars().all(legal)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if digits.chars().all(|c| c.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    legal.then_some((host, port))
}

/// Which origins a listener serves. A request without an Origin header is not from a web page and
/// always passes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Pages from the very host and port that the request names in its Host header (default).
    #[default]
    SameHost,
    /// Pages from these origins and no others, the own one included.
    AllowList(Vec<Origin>),
    /// Any page of any site may connect with its visitor's cookies and network access. Right only for
    /// public data without authentication.
    DangerousAny,
}

impl OriginPolicy {
    /// Whether a page of `origin` may dial `host`; `tls` where this very listener ends TLS.
    pub(super) fn allows(&self, origin: &str, host: &str, tls: bool) -> bool {
        match (self, Origin::parse(origin)) {
            (Self::DangerousAny, _) => true,
            // "null" is every sandboxed frame and local file: no origin at all.
            (_, None) => false,
            (Self::SameHost, Some(origin)) => origin.is_same(host, tls),
            (Self::AllowList(list), Some(origin)) => list.contains(&origin),
        }
    }
}
