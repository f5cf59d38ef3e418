//! What quinn reports, in the words of the seam: each end as what it is, none of them "normal" by default.

use std::io;

use msgtrans_core::{CloseReason, Code, ConnectError};
use msgtrans_transport::ConnectionError;
use quinn::{ApplicationClose, ReadError, TransportErrorCode, VarInt, WriteError};

/// The lowest and highest transport error code that stands for a TLS alert.
const CRYPTO: std::ops::Range<u64> = 0x100..0x200;

/// Why a read failed.
pub(crate) fn read(error: io::Error) -> ConnectionError {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(ReadError::ConnectionLost(lost)) => self::lost(lost.clone()),
        Some(ReadError::Reset(code)) => ConnectionError::Io(io::Error::new(
            io::ErrorKind::ConnectionReset,
            format!("the peer reset its stream with code {code}"),
        )),
        _ => ConnectionError::Io(error),
    }
}

/// Why a write failed.
pub(crate) fn write(error: WriteError) -> ConnectionError {
    match error {
        WriteError::ConnectionLost(lost) => self::lost(lost),
        WriteError::Stopped(code) => ConnectionError::Io(io::Error::new(
            io::ErrorKind::BrokenPipe,
            format!("the peer no longer reads: it stopped the stream with code {code}"),
        )),
        other => ConnectionError::Io(other.into()),
    }
}

/// Why a connection ended.
pub(crate) fn lost(error: quinn::ConnectionError) -> ConnectionError {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            ConnectionError::Closed(peer_reason(&close))
        }
        other => ConnectionError::Io(other.into()),
    }
}

/// What the peer closed with.
fn peer_reason(close: &ApplicationClose) -> CloseReason {
    // A number that is no code of the wire format says only that something went wrong.
    let code = u16::try_from(close.error_code.into_inner()).map_or(Code::PROTOCOL_ERROR, Code);
    CloseReason::peer(code, String::from_utf8_lossy(&close.reason))
}

/// A code as QUIC carries it.
pub(crate) fn close_code(code: Code) -> VarInt {
    VarInt::from_u32(u32::from(code.0))
}

/// Why a connection with `endpoint` did not come to be.
pub(crate) fn handshake(endpoint: &str, error: quinn::ConnectionError) -> ConnectError {
    use quinn::ConnectionError as Lost;
    let fail = |stage, what, retryable| ConnectError::Handshake {
        endpoint: endpoint.to_owned(),
        stage,
        what,
        retryable,
    };
    let of_code = |code: TransportErrorCode, what: String| {
        if CRYPTO.contains(&u64::from(code)) {
            fail("tls", what, false)
        } else {
            // A server that gives a handshake up, for want of time or because it ends, says APPLICATION_ERROR: QUIC has no
            // word for why before there are keys (RFC 9000, 10.2.3).
            let again = matches!(
                code,
                TransportErrorCode::CONNECTION_REFUSED
                    | TransportErrorCode::APPLICATION_ERROR
                    | TransportErrorCode::INTERNAL_ERROR
                    | TransportErrorCode::NO_ERROR
            );
            fail("quic", what, again)
        }
    };
    match error {
        // The same with keys. Whoever refuses has a code for it.
        Lost::ApplicationClosed(close) if close.error_code == close_code(Code::NORMAL) => {
            fail("quic", close.to_string(), true)
        }
        Lost::ApplicationClosed(close) => ConnectError::Refused {
            endpoint: endpoint.to_owned(),
            reason: peer_reason(&close),
            retry_after: None,
        },
        Lost::TransportError(error) => of_code(error.code, error.to_string()),
        Lost::ConnectionClosed(close) => of_code(close.error_code, close.to_string()),
        Lost::Reset | Lost::TimedOut => fail("quic", error.to_string(), true),
        Lost::VersionMismatch | Lost::LocallyClosed | Lost::CidsExhausted => {
            fail("quic", error.to_string(), false)
        }
    }
}
