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
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use msgtrans_actor::Timers;
use msgtrans_core::{ConnectError, WireVersion, WireVersions};
use msgtrans_mempool::worker;
use msgtrans_transport::socket::poll_again;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_read_buf;

use crate::handshake::{
    ClientUpgrade, HEAD_LEN_MAX, Refusal, ServerUpgrade, Subprotocol, Upgrade, UpgradeError,
    UpgradePolicy,
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

/// Reads a request and answers it, in one poll where the whole request is there; is polled again at least once where
/// it is not, or is refused. The caller bounds the time.
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
    let mut told = false;
    loop {
        let read = poll_fn(|cx| poll_request(stream, cx, &mut upgrade, &mut input, policy));
        let outcome = read.await.map_err(lost)?;
        if !matches!(outcome, Ok(Some(_))) && !std::mem::replace(&mut told, true) {
            poll_again().await;
        }
        match outcome {
            Ok(None) => {}
            Ok(Some(granted)) => {
                write_all(stream, &granted.response).await.map_err(lost)?;
                return Ok(upgraded(granted.subprotocol, input));
            }
            Err(refusal) => {
                let response = refusal.response();
                let timers = Timers::start();
                let refusing = timers.timeout(LINGER, refuse(stream, &response));
                // Whether the refusal arrives changes nothing about it. Boxed, as most peers are not refused.
                let _ = Box::pin(refusing).await;
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

/// One read, and a look at the request so far. What is not of a whole request is left in `input`: nearly every request is
/// whole at the first read, and never copied out of the buffer that it was read into.
fn poll_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    upgrade: &mut ServerUpgrade,
    input: &mut BytesMut,
    policy: &UpgradePolicy,
) -> Poll<io::Result<Result<Option<Upgrade>, Refusal>>> {
    let room = HEAD_LEN_MAX.saturating_sub(input.len()).max(1);
    worker::with_read_buffer(|buffer| {
        let stream = Pin::new(stream);
        let count = ready!(poll_read_buf(stream, cx, &mut buffer.limit(room)))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        if !input.is_empty() {
            input.extend_from_slice(buffer);
            return Poll::Ready(Ok(upgrade.read(input, policy)));
        }
        let looked = upgrade.look(buffer, policy);
        let taken = match &looked {
            Ok(Some((_, len))) => *len,
            Ok(None) => 0,
            Err(_) => buffer.len(),
        };
        input.extend_from_slice(buffer.get(taken..).unwrap_or_default());
        Poll::Ready(Ok(looked.map(|granted| granted.map(|(upgrade, _)| upgrade))))
    })
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
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            bytes.advance(count);
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
