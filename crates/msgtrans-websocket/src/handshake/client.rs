//! The client's side: write a request, hold the server to its answer.
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

use bytes::{Buf, BytesMut};
use httparse::{EMPTY_HEADER, Header, Response, Status};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::http::StatusCode;

use super::Subprotocol;
use super::head::{self, HEAD_HEADERS_MAX, HEAD_LEN_MAX, HeadLimit, HeadScan, Single};

/// How much of a refusing server's explanation is kept, in bytes.
const EXPLANATION_LEN_MAX: usize = 200;

/// A request that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// A part that would break out of its line, or that is empty.
    #[error("{part} {text:?} cannot stand in an http request")]
    IllegalText {
        /// `host`, `path` or `origin`.
        part: &'static str,
        /// The text as given.
        text: String,
    },
    /// A path that does not begin with a slash.
    #[error("path {path:?} does not begin with a slash")]
    RelativePath {
        /// The path as given.
        path: String,
    },
}

/// An answer that is not the upgrade we asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The bytes are not an HTTP/1.1 response.
    #[error("response is not well-formed HTTP/1.1")]
    Malformed,
    /// The head does not end within [`HEAD_LEN_MAX`] bytes.
    #[error("response head exceeds the limit of {HEAD_LEN_MAX} bytes")]
    HeadTooLong,
    /// The head has more than [`HEAD_HEADERS_MAX`] header lines.
    #[error("response has more than {HEAD_HEADERS_MAX} headers")]
    TooManyHeaders,
    /// The server declines; redialling the same URL will not help for most of the statuses below 500.
    #[error("server answers http status {status}: {explanation}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of the body as far as it had arrived, printable characters only.
        explanation: String,
    },
    /// Status 101 without the headers of an upgrade to WebSocket.
    #[error("response does not upgrade to websocket")]
    NotAnUpgrade,
    /// The answer does not belong to our request: a cache or a server of another kind.
    #[error("sec-websocket-accept does not answer the key that was sent")]
    AcceptMismatch,
    /// The server turns on an extension that was not offered.
    #[error("server chose an extension that was not offered")]
    UnofferedExtension,
    /// The server chose a subprotocol that was not offered.
    #[error("server chose a subprotocol that was not offered")]
    UnofferedSubprotocol,
}

impl From<HeadLimit> for UpgradeError {
    fn from(limit: HeadLimit) -> Self {
        match limit {
            HeadLimit::Length => Self::HeadTooLong,
            HeadLimit::Headers => Self::TooManyHeaders,
        }
    }
}

/// One upgrade as the client sees it: the request to write, then the answer as it arrives.
#[derive(Debug)]
pub struct ClientUpgrade {
    request: Vec<u8>,
    accept: String,
    offered: Vec<Subprotocol>,
    scan: HeadScan,
}

impl ClientUpgrade {
    /// A request with a fresh key.
    ///
    /// `host` is the Host header: the name or address with its port unless that is the scheme's own,
    /// IPv6 addresses in brackets. `path` may carry a query. `offered` is in order of preference.
    ///
    /// # Errors
    /// [`RequestError`] when a part has bytes that no request may have there; nothing is escaped.
    pub fn new(
        host: &str,
        path: &str,
        offered: &[Subprotocol],
        origin: Option<&str>,
    ) -> Result<Self, RequestError> {
        check_text("host", host)?;
        check_text("path", path)?;
        if !path.starts_with('/') {
            return Err(RequestError::RelativePath {
                path: path.to_owned(),
            });
        }
        let key = generate_key();
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        if !offered.is_empty() {
            let names: Vec<_> = offered.iter().map(|offer| offer.as_str()).collect();
            request.extend(["Sec-WebSocket-Protocol: ", &names.join(", "), "\r\n"]);
        }
        if let Some(origin) = origin {
            check_text("origin", origin)?;
            request.extend(["Origin: ", origin, "\r\n"]);
        }
        request.push_str("\r\n");
        Ok(Self {
            request: request.into_bytes(),
            accept: derive_accept_key(key.as_bytes()),
            offered: offered.to_vec(),
            scan: HeadScan::default(),
        })
    }

    /// The whole request. No frame may be written before the answer is read.
    #[must_use]
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Looks at all that has arrived so far; `None` while the head is incomplete. The caller leaves the
    /// bytes in `input` and appends to them.
    ///
    /// On success the head is taken from `input`; what stands behind it are the server's first frames.
    /// The inner `None` means that the server chose no subprotocol.
    ///
    /// # Errors
    /// [`UpgradeError`], after which the connection is of no use.
    pub fn read(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<Option<Subprotocol>>, UpgradeError> {
        if input.first().is_some_and(|byte| *byte != b'H') {
            return Err(UpgradeError::Malformed);
        }
        let Some(len) = self.scan.find_end(input)? else {
            return Ok(None);
        };
        let (head, body) = input.split_at(len);
        let mut room = [EMPTY_HEADER; HEAD_HEADERS_MAX];
        let mut response = Response::new(&mut room);
        // HTTP/1.0 knows no upgrade.
        let status = match response.parse(head) {
            Ok(Status::Complete(parsed)) if parsed == len && response.version == Some(1) => {
                let code = response.code.unwrap_or_default();
                StatusCode::from_u16(code).map_err(|_| UpgradeError::Malformed)?
            }
            _ => return Err(UpgradeError::Malformed),
        };
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(UpgradeError::Refused {
                status: status.as_u16(),
                explanation: printable(body, status),
            });
        }
        let chosen = self.verify(response.headers)?;
        input.advance(len);
        Ok(Some(chosen))
    }

    #[cfg(test)]
    pub(super) fn accept(&self) -> &str {
        &self.accept
    }

    /// RFC 6455 section 4.1, what a client must check.
    fn verify(&self, headers: &[Header<'_>]) -> Result<Option<Subprotocol>, UpgradeError> {
        let names = |name, expected: &str| {
            head::list(headers, name).any(|item| item.eq_ignore_ascii_case(expected.as_bytes()))
        };
        if !names("upgrade", "websocket") || !names("connection", "upgrade") {
            return Err(UpgradeError::NotAnUpgrade);
        }
        match head::single(headers, "sec-websocket-accept") {
            Single::Text(accept)
                if accept == self.accept.as_bytes() || cfg!(msgtrans_planted = "12") => {}
            _ => return Err(UpgradeError::AcceptMismatch),
        }
        if head::list(headers, "sec-websocket-extensions")
            .next()
            .is_some()
        {
            return Err(UpgradeError::UnofferedExtension);
        }
        match head::single(headers, "sec-websocket-protocol") {
            Single::Absent => Ok(None),
            Single::Text(chosen) => {
                let named = |offer: &&Subprotocol| offer.as_str().as_bytes() == chosen;
                let ours = self.offered.iter().find(named);
                ours.copied()
                    .map(Some)
                    .ok_or(UpgradeError::UnofferedSubprotocol)
            }
            Single::Unusable => Err(UpgradeError::UnofferedSubprotocol),
        }
    }
}

fn check_text(part: &'static str, text: &str) -> Result<(), RequestError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(RequestError::IllegalText {
            part,
            text: text.to_owned(),
        });
    }
    Ok(())
}

/// What the server says to explain itself, or what the status is called.
fn printable(body: &[u8], status: StatusCode) -> String {
    let (body, _) = body.split_at(body.len().min(EXPLANATION_LEN_MAX));
    let text: String = String::from_utf8_lossy(body)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let text = text.trim();
    let name = status.canonical_reason().unwrap_or("no explanation");
    if text.is_empty() {
        name.to_owned()
    } else {
        text.to_owned()
    }
}
