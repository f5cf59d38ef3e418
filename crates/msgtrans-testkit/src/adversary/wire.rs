//! [`Wire`]: frames by hand over any stream.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::frame::{Frame, kind};

/// How long an adversary waits for what must come. Far more than it takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A TCP connection from an address of the adversary's choice: the whole of 127.0.0.0/8 is its own.
///
/// # Errors
/// The address cannot be bound, nobody listens.
pub async fn tcp_from(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match source {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(source, 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A stream on which frames are written and read by hand.
#[derive(Debug)]
pub struct Wire<T> {
    /// The stream itself.
    pub stream: T,
}

impl Wire<TcpStream> {
    /// Dials over TCP.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn tcp(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream })
    }

    /// Goes away with a reset instead of an end.
    pub fn reset(self) {
        // Without the option it is an ordinary close, which the server must survive as well.
        let _ = self.stream.set_zero_linger();
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    /// Over this stream.
    pub fn over(stream: T) -> Self {
        Self { stream }
    }

    /// Says Hello and hears Welcome.
    ///
    /// # Errors
    /// The server did not answer, or with something else.
    pub async fn open(&mut self) -> io::Result<Frame> {
        self.send(&Frame::hello()).await?;
        let answer = self.recv().await.ok_or(io::ErrorKind::UnexpectedEof)?;
        if answer.packet_type == kind::WELCOME {
            Ok(answer)
        } else {
            Err(io::Error::other(format!("{answer:?} instead of Welcome")))
        }
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.write(&frame.bytes()).await
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next frame; `None` at the end of the stream, however it came, and when nothing comes in time.
    pub async fn recv(&mut self) -> Option<Frame> {
        timeout(PATIENCE, Frame::read(&mut self.stream))
            .await
            .ok()?
    }

    /// The next frame of this type; others are passed over.
    pub async fn recv_kind(&mut self, packet_type: u8) -> Option<Frame> {
        loop {
            let frame = self.recv().await?;
            if frame.packet_type == packet_type {
                return Some(frame);
            }
        }
    }

    /// Reads to the end and returns how many bytes still came; `None`: the peer does not close.
    pub async fn ended(&mut self) -> Option<usize> {
        let mut rest = vec![0; 16 * 1024];
        let reading = async {
            let mut total = 0;
            loop {
                match self.stream.read(&mut rest).await {
                    // A reset is an end too: the peer had bytes of ours unread.
                    Ok(0) | Err(_) => return total,
                    Ok(len) => total += len,
                }
            }
        };
        timeout(PATIENCE, reading).await.ok()
    }
}
