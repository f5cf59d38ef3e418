//! The same echo on one current-thread tokio runtime: raw, and through `Framed` in the two ways people write it.

use bench_kit::frame::{self, HEADER_LEN};
use bench_kit::listen;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{FutureExt, SinkExt, StreamExt};
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Decoder, Encoder, Framed, LengthDelimitedCodec};

/// Each connection's read buffer. Small, so that accepting costs what tokio costs; rtt needs no more.
const RAW_READ: usize = 4096;
const FRAME_MAX: usize = 64 * 1024 * 1024;

/// Reads and writes back what was read; with `greet` a Hello comes first, and a Welcome goes back.
pub(crate) fn raw(port: u16, greet: bool) -> io::Result<()> {
    let mut session = 0;
    serve(port, move |mut stream| {
        session += 1;
        async move {
            let mut buffer = vec![0; RAW_READ];
            if greet {
                // A Hello is short and written at once: who sends it in parts is no load of ours.
                let Ok(len) = stream.read(&mut buffer).await else {
                    return;
                };
                let Some(welcome) = frame::welcome_to(&buffer[..len], session) else {
                    return;
                };
                if stream.write_all(&welcome).await.is_err() {
                    return;
                }
            }
            loop {
                match stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(len) => {
                        if stream.write_all(&buffer[..len]).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    })
}

/// Whole frames through `Framed`; `batched` flushes when nothing more is there, else after each.
pub(crate) fn framed(port: u16, batched: bool) -> io::Result<()> {
    serve(port, move |stream| async move {
        let mut framed = Framed::new(stream, FrameCodec::new());
        // Errors end the connection; the load notices and fails the run.
        let _ = if batched {
            echo_batched(&mut framed).await
        } else {
            echo_each(&mut framed).await
        };
    })
}

async fn echo_each(framed: &mut Framed<TcpStream, FrameCodec>) -> io::Result<()> {
    while let Some(frame) = framed.next().await {
        framed.send(frame?.freeze()).await?;
    }
    Ok(())
}

async fn echo_batched(framed: &mut Framed<TcpStream, FrameCodec>) -> io::Result<()> {
    while let Some(frame) = framed.next().await {
        framed.feed(frame?.freeze()).await?;
        while let Some(Some(frame)) = framed.next().now_or_never() {
            framed.feed(frame?.freeze()).await?;
        }
        framed.flush().await?;
    }
    Ok(())
}

fn serve<F, Fut>(port: u16, mut connection: F) -> io::Result<()>
where
    F: FnMut(TcpStream) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = listen::loopback(port)?;
        listen::announce("tcp", &listener)?;
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(connection(stream));
        }
    })
}

/// The library's length-delimited decoder told where our length is; encoding appends the frame as it is.
struct FrameCodec(LengthDelimitedCodec);

impl FrameCodec {
    fn new() -> Self {
        Self(
            LengthDelimitedCodec::builder()
                .length_field_offset(10)
                .length_field_length(4)
                .length_adjustment(HEADER_LEN as isize)
                .num_skip(0)
                .max_frame_length(FRAME_MAX)
                .new_codec(),
        )
    }
}

impl Decoder for FrameCodec {
    type Item = BytesMut;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<BytesMut>> {
        self.0.decode(from)
    }
}

impl Encoder<Bytes> for FrameCodec {
    type Error = io::Error;

    fn encode(&mut self, frame: Bytes, into: &mut BytesMut) -> io::Result<()> {
        into.reserve(frame.len());
        into.put_slice(&frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_cuts_at_the_length_in_the_header() {
        let mut bytes = BytesMut::new();
        for len in [0u32, 5] {
            bytes.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&b"hello"[..len as usize]);
        }
        let mut codec = FrameCodec::new();
        let lens: Vec<usize> = std::iter::from_fn(|| codec.decode(&mut bytes).expect("frames"))
            .map(|frame| frame.len())
            .collect();
        assert_eq!(lens, [HEADER_LEN, HEADER_LEN + 5]);
    }
}
