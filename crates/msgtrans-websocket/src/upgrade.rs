//! The upgrade over a byte stream: [`handshake`](crate::handshake) driven until it grants or refuses.
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
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use msgtrans_actor::Timers;
use msgtrans_core::{ConnectError, WireVersion, WireVersions};
use msgtrans_mempool::worker;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::handshake::{
    ClientUpgrade, HEAD_LEN_MAX, ServerUpgrade, Subprotocol, UpgradeError, UpgradePolicy,
};

/// How long, and for how many bytes, a refused peer is read before the socket is closed: closing over
/// unread input sends a reset that destroys the refusal.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// What an upgrade leaves behind.
pub(crate) struct Upgraded {
    pub(crate) negotiated: Option<WireVersion>,
    /// The frames that came right behind it.
    pub(crate) early: BytesMut,
}

/// The subprotocols that stand for `wire`, most wanted first.
pub(crate) fn subprotocols(wire: WireVersions) -> &'static [Subprotocol] {
    match wire {
        WireVersions::V1 => &[Subprotocol::V1],
        WireVersions::V2 => &[Subprotocol::V2],
        WireVersions::Any => &[Subprotocol::V2, Subprotocol::V1],
    }
}

/// Reads a request and answers it. The caller bounds the time.
pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    peer: &impl fmt::Display,
    policy: &UpgradePolicy,
) -> Result<Upgraded, ConnectError> {
    let lost = |source| ConnectError::Io {
        endpoint: peer.to_string(),
        source,
    };
    let mut upgrade = ServerUpgrade::new();
    let mut input = BytesMut::new();
    loop {
        read_more(stream, &mut input).await.map_err(lost)?;
        match upgrade.read(&mut input, policy) {
            Ok(None) => {}
            Ok(Some(granted)) => {
                write_all(stream, &granted.response).await.map_err(lost)?;
                return Ok(upgraded(granted.subprotocol, input));
            }
            Err(refusal) => {
                // Whether the refusal arrives changes nothing about it.
                let response = refusal.response();
                let refused = refuse(stream, &response);
                let _ = Timers::start().timeout(LINGER, refused).await;
                return Err(failed(peer, refusal.to_string(), false));
            }
        }
    }
}

/// Asks for the upgrade and checks the answer. The caller bounds the time.
pub(crate) async fn request<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    endpoint: &impl fmt::Display,
    mut upgrade: ClientUpgrade,
) -> Result<Upgraded, ConnectError> {
    let lost = |source| ConnectError::Io {
        endpoint: endpoint.to_string(),
        source,
    };
    write_all(stream, upgrade.request()).await.map_err(lost)?;
    let mut input = BytesMut::new();
    loop {
        read_more(stream, &mut input).await.map_err(lost)?;
        match upgrade.read(&mut input) {
            Ok(None) => {}
            Ok(Some(subprotocol)) => return Ok(upgraded(subprotocol, input)),
            Err(error) => {
                let busy = matches!(
                    error,
                    UpgradeError::Refused {
                        status: 408 | 429 | 500..,
                        ..
                    }
                );
                return Err(failed(endpoint, error.to_string(), busy));
            }
        }
    }
}

fn upgraded(subprotocol: Option<Subprotocol>, early: BytesMut) -> Upgraded {
    let negotiated = subprotocol.map(|subprotocol| match subprotocol {
        Subprotocol::V1 => WireVersion::V1,
        Subprotocol::V2 => WireVersion::V2,
    });
    // An empty buffer would keep its memory for as long as the connection lives.
    let early = if early.is_empty() {
        BytesMut::new()
    } else {
        early
    };
    Upgraded { negotiated, early }
}

fn failed(endpoint: &impl fmt::Display, what: String, retryable: bool) -> ConnectError {
    let endpoint = endpoint.to_string();
    ConnectError::Handshake {
        endpoint,
        stage: "upgrade",
        what,
        retryable,
    }
}

/// One read onto the end of `input`. Holds no buffer while nothing comes: slow upgrades are cheap.
async fn read_more<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) -> io::Result<()> {
    // The head is refused at this length, so there is room whenever it is still incomplete.
    let room = HEAD_LEN_MAX.saturating_sub(input.len()).max(1);
    poll_fn(|cx| {
        let mut buffer = worker::take_read_buffer();
        let stream = Pin::new(&mut *stream);
        let count = ready!(poll_read_buf(
            stream,
            cx,
            &mut buffer.bytes_mut().limit(room)
        ))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        input.extend_from_slice(buffer.bytes_mut());
        Poll::Ready(Ok(()))
    })
    .await
}

async fn write_all<S: AsyncWrite + Unpin>(stream: &mut S, mut bytes: &[u8]) -> io::Result<()> {
    poll_fn(|cx| {
        while !bytes.is_empty() {
            if ready!(poll_write_buf(Pin::new(&mut *stream), cx, &mut bytes))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Pin::new(&mut *stream).poll_flush(cx)
    })
    .await
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    response: &[u8],
) -> io::Result<()> {
    write_all(stream, response).await?;
    poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await?;
    let mut left = LINGER_BYTES_MAX;
    poll_fn(|cx| {
        while left > 0 {
            let mut buffer = worker::take_read_buffer();
            let stream = Pin::new(&mut *stream);
            let count = ready!(poll_read_buf(
                stream,
                cx,
                &mut buffer.bytes_mut().limit(left)
            ))?;
            if count == 0 {
                break;
            }
            left = left.saturating_sub(count);
        }
        Poll::Ready(Ok(()))
    })
    .await
}
