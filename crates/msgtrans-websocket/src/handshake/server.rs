//! The server's side: read a request under limits, decide, answer.
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

use std::mem::MaybeUninit;
use std::str;

use bytes::{Buf, BytesMut};
use httparse::{Header, Request, Status};
use tungstenite::handshake::derive_accept_key;
use tungstenite::http::Uri;

use super::head::{self, HEAD_HEADERS_MAX, HEAD_LEN_MAX, HeadLimit, HeadScan, Single};
use super::{OriginPolicy, Subprotocol};

/// What a listener demands of an upgrade.
#[derive(Debug, Clone, Default)]
pub struct UpgradePolicy {
    /// The path that is served, compared exactly and without the query; `None`: every path.
    pub path: Option<String>,
    /// Which web pages may connect.
    pub origins: OriginPolicy,
    /// Whether this listener ends TLS itself, so that a page over plain HTTP is a foreign one.
    pub tls: bool,
    /// The subprotocols that are spoken, most wanted first. Empty: none is negotiated, whatever is
    /// offered.
    pub subprotocols: Vec<Subprotocol>,
}

/// A request that is granted.
#[derive(Debug)]
pub struct Upgrade {
    /// The whole answer, to be written before anything else.
    pub response: Vec<u8>,
    /// What the connection will speak; `None` where the client offered nothing, so that the first
    /// frame decides.
    pub subprotocol: Option<Subprotocol>,
}

/// A request that is not granted. [`status`](Self::status) and the message make up the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes are not an HTTP/1.1 request.
    #[error("request is not well-formed HTTP/1.1")]
    Malformed,
    /// The head does not end within [`HEAD_LEN_MAX`] bytes.
    #[error("request head exceeds the limit of {HEAD_LEN_MAX} bytes")]
    HeadTooLong,
    /// The head has more than [`HEAD_HEADERS_MAX`] header lines.
    #[error("request has more than {HEAD_HEADERS_MAX} headers")]
    TooManyHeaders,
    /// A method other than GET.
    #[error("method must be GET")]
    Method,
    /// A plain request, not one to upgrade to WebSocket.
    #[error("this endpoint speaks WebSocket only")]
    NotAnUpgrade,
    /// A version of WebSocket other than 13.
    #[error("websocket version must be 13")]
    Version,
    /// `Sec-WebSocket-Key` is absent, repeated, or not 16 bytes in Base64.
    #[error("sec-websocket-key must be 16 bytes in base64")]
    Key,
    /// `Host` is absent or repeated.
    #[error("request must have one host header")]
    Host,
    /// The request announces a body, where frames are to begin.
    #[error("request must not have a body")]
    Body,
    /// Nothing is served under this path.
    #[error("nothing is served under this path")]
    Path,
    /// The page that dials may not.
    #[error("origin is not allowed")]
    Origin,
    /// Subprotocols are offered, and none that this listener speaks.
    #[error("none of the offered subprotocols is spoken here")]
    Subprotocol,
}

impl Refusal {
    /// The HTTP status of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        self.status_line().0
    }

    fn status_line(self) -> (u16, &'static str) {
        match self {
            Self::Malformed | Self::Key | Self::Host | Self::Body | Self::Subprotocol => {
                (400, "Bad Request")
            }
            Self::Origin => (403, "Forbidden"),
            Self::Path => (404, "Not Found"),
            Self::Method => (405, "Method Not Allowed"),
            Self::NotAnUpgrade | Self::Version => (426, "Upgrade Required"),
            Self::HeadTooLong | Self::TooManyHeaders => (431, "Request Header Fields Too Large"),
        }
    }

    /// The whole answer; the connection is closed after it.
    #[must_use]
    pub fn response(self) -> Vec<u8> {
        let (status, name) = self.status_line();
        let more = match self {
            Self::Method => "Allow: GET\r\n",
            Self::NotAnUpgrade | Self::Version => {
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            }
            _ => "",
        };
        // Whoever sends Upgrade names it in Connection as well.
        let connection = if status == 426 {
            "Upgrade, close"
        } else {
            "close"
        };
        let body = format!("{self}\n");
        format!(
            "HTTP/1.1 {status} {name}\r\nConnection: {connection}\r\n{more}\
             Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len(),
        )
        .into_bytes()
    }

    fn from_parser(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            _ => Self::Malformed,
        }
    }
}

impl From<HeadLimit> for Refusal {
    fn from(limit: HeadLimit) -> Self {
        match limit {
            HeadLimit::Length => Self::HeadTooLong,
            HeadLimit::Headers => Self::TooManyHeaders,
        }
    }
}

/// The answer to who is let in, up to the value that answers the key.
const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Accept: ";
const CHOSEN: &str = "\r\nSec-WebSocket-Protocol: ";
const HEAD_END: &str = "\r\n\r\n";
/// The answer to the key and the longest subprotocol, with the lines around them.
const ANSWER_LEN_MAX: usize = GRANTED.len() + 28 + CHOSEN.len() + 11 + HEAD_END.len();

/// Reads one upgrade request as its bytes arrive.
#[derive(Debug, Default)]
pub struct ServerUpgrade {
    scan: HeadScan,
}

impl ServerUpgrade {
    /// A reader at the beginning of a connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at all that has arrived so far; `None` while the head is incomplete. The caller leaves the
    /// bytes in `input`, appends to them, and stops reading at [`HEAD_LEN_MAX`] bytes.
    ///
    /// On success the head is taken from `input`; what stands behind it are frames that the client sent
    /// too early, to be read once the answer is written.
    ///
    /// # Errors
    /// The reason to refuse, as early as the bytes show it. Write [`Refusal::response`] and close; what
    /// is left in `input` is worth nothing.
    ///
    /// Cost: each byte is looked at once while the head is incomplete, and parsed once at its end.
    pub fn read(
        &mut self,
        input: &mut BytesMut,
        policy: &UpgradePolicy,
    ) -> Result<Option<Upgrade>, Refusal> {
        let Some((upgrade, len)) = self.look(input, policy)? else {
            return Ok(None);
        };
        input.advance(len);
        Ok(Some(upgrade))
    }

    /// The same of bytes that stay where they are: all that has arrived so far. The second value is the head's length.
    pub(crate) fn look(
        &mut self,
        bytes: &[u8],
        policy: &UpgradePolicy,
    ) -> Result<Option<(Upgrade, usize)>, Refusal> {
        // A TLS hello or a bare MsgTrans frame will never end in a blank line: do not wait for it.
        if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            return Err(Refusal::Malformed);
        }
        let mut room = [const { MaybeUninit::uninit() }; HEAD_HEADERS_MAX];
        // Nearly every head comes at once and with nothing behind it. What the parser has any doubt about is looked at
        // again, so that how the bytes were cut decides nothing.
        if self.scan.is_new() && bytes.len() <= HEAD_LEN_MAX && bytes.ends_with(HEAD_END.as_bytes())
        {
            let mut request = Request::new(&mut []);
            let parsed = request.parse_with_uninit_headers(bytes, &mut room);
            if parsed == Ok(Status::Complete(bytes.len())) {
                return decide(&request, policy).map(|upgrade| Some((upgrade, bytes.len())));
            }
        }
        let Some(len) = self.scan.find_end(bytes)? else {
            return Ok(None);
        };
        let head = bytes.get(..len).unwrap_or(bytes);
        let mut room = [const { MaybeUninit::uninit() }; HEAD_HEADERS_MAX];
        let mut request = Request::new(&mut []);
        match request.parse_with_uninit_headers(head, &mut room) {
            Ok(Status::Complete(parsed)) if parsed == len => {
                decide(&request, policy).map(|upgrade| Some((upgrade, len)))
            }
            Ok(_) => Err(Refusal::Malformed),
            Err(error) => Err(Refusal::from_parser(error)),
        }
    }
}

/// RFC 6455 section 4.2, what a server must check, then what this one demands. The headers are read where they lie and
/// the answer is written as it is decided: tungstenite would build a map of headers for each.
fn decide(request: &Request<'_, '_>, policy: &UpgradePolicy) -> Result<Upgrade, Refusal> {
    if request.method != Some("GET") {
        return Err(Refusal::Method);
    }
    if request.version != Some(1) {
        return Err(Refusal::Malformed);
    }
    let target = request.path.unwrap_or_default();
    let uri;
    let path = if is_plain_path(target) {
        target
    } else {
        uri = target.parse::<Uri>().map_err(|_| Refusal::Malformed)?;
        uri.path()
    };
    let headers: &[Header<'_>] = request.headers;
    let upgrades = head::list(headers, "connection")
        .flat_map(|item| item.split(|byte| *byte == b' '))
        .any(|item| item.eq_ignore_ascii_case(b"upgrade"));
    let to_websocket = head::values(headers, "upgrade")
        .next()
        .is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"));
    if !upgrades || !to_websocket {
        return Err(Refusal::NotAnUpgrade);
    }
    if head::values(headers, "sec-websocket-version").next() != Some(b"13") {
        return Err(Refusal::Version);
    }
    let key = match head::single(headers, "sec-websocket-key") {
        Single::Text(key) if is_key(key) => key,
        _ => return Err(Refusal::Key),
    };
    let Single::Text(host) = head::single(headers, "host") else {
        return Err(Refusal::Host);
    };
    if has_body(headers) {
        return Err(Refusal::Body);
    }
    if policy.path.as_deref().is_some_and(|served| served != path) {
        return Err(Refusal::Path);
    }
    match head::single(headers, "origin") {
        Single::Absent => {}
        Single::Text(origin) if allows(policy, origin, host) => {}
        _ => return Err(Refusal::Origin),
    }
    let subprotocol = choose(headers, &policy.subprotocols)?;

    let mut response = String::with_capacity(ANSWER_LEN_MAX);
    response.push_str(GRANTED);
    response.push_str(&derive_accept_key(key));
    if let Some(subprotocol) = subprotocol {
        response.push_str(CHOSEN);
        response.push_str(subprotocol.as_str());
    }
    response.push_str(HEAD_END);
    Ok(Upgrade {
        response: response.into_bytes(),
        subprotocol,
    })
}

/// Whether this is a path and nothing else, of letters that stand for themselves.
fn is_plain_path(target: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'.' | b'_' | b'~');
    target.starts_with('/') && target.bytes().all(plain)
}

/// Whether a page of `origin` may dial `host`. Apart, because few peers are pages.
fn allows(policy: &UpgradePolicy, origin: &[u8], host: &[u8]) -> bool {
    match (str::from_utf8(origin), str::from_utf8(host)) {
        (Ok(origin), Ok(host)) => policy.origins.allows(origin, host, policy.tls),
        _ => false,
    }
}

/// Whether this is Base64 of 16 bytes: the last letter stands for two bits of them.
fn is_key(key: &[u8]) -> bool {
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key {
        [letters @ .., last, b'=', b'='] => {
            letters.len() == 21 && letters.iter().all(letter) && b"AQgw".contains(last)
        }
        _ => false,
    }
}

/// Whether bytes of a body would be taken for frames, or frames for a body by a proxy before us.
fn has_body(headers: &[Header<'_>]) -> bool {
    head::values(headers, "transfer-encoding").next().is_some()
        || head::values(headers, "content-length").any(|len| len != b"0")
}

/// The first of ours that the client offers.
fn choose(headers: &[Header<'_>], ours: &[Subprotocol]) -> Result<Option<Subprotocol>, Refusal> {
    let offers = || head::list(headers, "sec-websocket-protocol");
    if ours.is_empty() || offers().next().is_none() {
        return Ok(None);
    }
    let offered = |ours: &&Subprotocol| offers().any(|offer| offer == ours.as_str().as_bytes());
    ours.iter()
        .find(offered)
        .copied()
        .map(Some)
        .ok_or(Refusal::Subprotocol)
}
