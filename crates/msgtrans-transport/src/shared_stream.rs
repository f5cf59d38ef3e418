//! [`SharedTcp`] and [`SharedUnix`]: sockets that others than their connection may write to, one at a time.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::shortcut::ByteWay;

/// A socket whose peer has gone is an error and no signal, as in the standard library's writes.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MSG_NOSIGNAL: std::ffi::c_int = 0x4000;

/// Whether a socket that took a write in part says by itself when there is room again: with epoll and kqueue. Elsewhere
/// only behind a write that found none.
const TELLS_OF_ROOM: bool = cfg!(any(
    target_os = "linux",
    target_os = "android",
    target_os = "macos",
    target_os = "ios",
    target_os = "freebsd",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "dragonfly",
));

macro_rules! shared_stream {
    ($(#[$doc:meta])* $Shared:ident, $End:ident, $Stream:ty, $Read:ty, $Write:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $Shared {
            read: $Read,
            end: Arc<$End>,
        }

        /// The end that is written to; the socket closes when both it and the reading end are gone.
        #[derive(Debug)]
        struct $End(Option<$Write>);

        impl $End {
            fn with<R>(&self, f: impl FnOnce(&$Stream) -> io::Result<R>) -> io::Result<R> {
                let write = self.0.as_ref().ok_or(io::ErrorKind::NotConnected)?;
                f(write.as_ref())
            }

            /// As tokio's own write: one that is taken in part says that the socket is full, and the next one waits
            /// without finding out. The readiness that is taken back is the one seen before, so none that comes meanwhile
            /// is lost.
            fn write_known(
                stream: &$Stream,
                len: usize,
                write: impl FnOnce() -> io::Result<usize>,
            ) -> io::Result<usize> {
                let mut taken = None;
                let outcome = stream.try_io(Interest::WRITABLE, || {
                    let count = write()?;
                    if TELLS_OF_ROOM && count > 0 && count < len {
                        taken = Some(count);
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    Ok(count)
                });
                taken.map_or(outcome, Ok)
            }
        }

        impl Drop for $End {
            /// A half of a socket says goodbye when it is dropped; a socket that is dropped only closes.
            fn drop(&mut self) {
                if let Some(write) = self.0.take() {
                    write.forget();
                }
            }
        }

        impl ByteWay for $End {
            /// Past the runtime's word for the socket too, which lies in cache lines of its own: it may go on saying that
            /// there is room where this finds none, and whoever believes it finds out by one more call.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.with(|stream| SockRef::from(stream).send_with_flags(bytes, MSG_NOSIGNAL))
            }

            #[cfg(not(any(target_os = "linux", target_os = "android")))]
            fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
                self.with(|stream| {
                    Self::write_known(stream, bytes.len(), || stream.try_write(bytes))
                })
            }
        }

        impl $Shared {
            /// The socket, ready to be shared.
            pub fn new(stream: $Stream) -> Self {
                let (read, write) = stream.into_split();
                Self {
                    read,
                    end: Arc::new($End(Some(write))),
                }
            }

            /// The socket itself.
            pub fn socket(&self) -> &$Stream {
                self.read.as_ref()
            }

            /// The way to write past the connection that has the socket.
            pub fn byte_way(&self) -> Weak<dyn ByteWay> {
                let end: Weak<$End> = Arc::downgrade(&self.end);
                end
            }
        }

        impl AsyncRead for $Shared {
            #[inline]
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                into: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                Pin::new(&mut self.read).poll_read(cx, into)
            }
        }

        impl AsyncWrite for $Shared {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                let stream = self.socket();
                loop {
                    ready!(stream.poll_write_ready(cx))?;
                    match $End::write_known(stream, bytes.len(), || stream.try_write(bytes)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        outcome => return Poll::Ready(outcome),
                    }
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                parts: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                let stream = self.socket();
                let len = parts.iter().map(|part| part.len()).sum();
                loop {
                    ready!(stream.poll_write_ready(cx))?;
                    match $End::write_known(stream, len, || stream.try_write_vectored(parts)) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        outcome => return Poll::Ready(outcome),
                    }
                }
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(match SockRef::from(self.socket()).shutdown(Shutdown::Write) {
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                    outcome => outcome,
                })
            }
        }
    };
}

shared_stream! {
    /// A TCP socket that its connection reads and writes, and others may write to while it does not.
    SharedTcp, TcpEnd, tokio::net::TcpStream, tokio::net::tcp::OwnedReadHalf, tokio::net::tcp::OwnedWriteHalf
}

#[cfg(unix)]
shared_stream! {
    /// The same of a Unix socket.
    SharedUnix, UnixEnd, tokio::net::UnixStream, tokio::net::unix::OwnedReadHalf, tokio::net::unix::OwnedWriteHalf
}
