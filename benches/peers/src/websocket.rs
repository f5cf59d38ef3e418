//! WebSocket libraries: tokio-tungstenite in the two ways people write it, and fastwebsockets as in its example.

use fastwebsockets::{FragmentCollector, OpCode, WebSocketError, upgrade};
use futures_util::{FutureExt, SinkExt, StreamExt};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::io;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite;

/// `batched` flushes when nothing more is there, else after each message.
pub(crate) fn tungstenite(batched: bool) -> io::Result<()> {
    accept(move |stream| async move {
        // Errors end the connection; the load notices and fails the run.
        let _ = match batched {
            false => echo_each(stream).await,
            true => echo_batched(stream).await,
        };
    })
}

async fn echo_each(stream: TcpStream) -> tungstenite::Result<()> {
    let websocket = tokio_tungstenite::accept_async(stream).await?;
    let (mut write, mut read) = websocket.split();
    while let Some(message) = read.next().await {
        let message = message?;
        if message.is_binary() {
            write.send(message).await?;
        }
    }
    Ok(())
}

async fn echo_batched(stream: TcpStream) -> tungstenite::Result<()> {
    let mut websocket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = websocket.next().await {
        let mut message = Some(message?);
        while let Some(due) = message {
            if due.is_binary() {
                websocket.feed(due).await?;
            }
            message = match websocket.next().now_or_never() {
                Some(Some(next)) => Some(next?),
                _ => None,
            };
        }
        websocket.flush().await?;
    }
    Ok(())
}

pub(crate) fn fastwebsockets() -> io::Result<()> {
    accept(|stream| async move {
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(upgrade_fast))
            .with_upgrades();
        let _ = connection.await;
    })
}

async fn upgrade_fast(
    mut request: Request<Incoming>,
) -> Result<hyper::Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade::upgrade(&mut request)?;
    tokio::spawn(async move {
        let _ = echo_fast(upgraded).await;
    });
    Ok(response)
}

async fn echo_fast(upgraded: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut websocket = FragmentCollector::new(upgraded.await?);
    // Its own bound is 64 MiB.
    loop {
        let frame = websocket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => websocket.write_frame(frame).await?,
            _ => {}
        }
    }
}

/// A task for each connection, without Nagle's delay.
fn accept<F, T>(serve: F) -> io::Result<()>
where
    F: Fn(TcpStream) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = bench_kit::listen::loopback(0)?;
    bench_kit::listen::announce("ws", &listener)?;
    crate::runtime()?.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(serve(stream));
        }
    })
}
