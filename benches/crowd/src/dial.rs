//! From a URL to a stream of bytes, whatever carries them.

use crate::{Hold, Trouble, tls};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{IdleTimeout, TransportConfig, VarInt};
use rustls::pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// The kernel's buffers of a UDP socket, as far as it gives them: all handshakes of a socket share them.
const UDP_BUFFER: usize = 7 * 1024 * 1024;
/// Keeps the path alive, as clients do.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const IDLE_MS: u32 = 60_000;

/// Both directions of a session.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream, and what has to live as long as it does.
pub(crate) struct Dialled {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) connection: Option<quinn::Connection>,
}

enum How {
    Tcp,
    Tls(TlsConnector),
    Quic(Vec<quinn::Endpoint>),
    Unix(PathBuf),
}

/// Dials one target again and again.
pub(crate) struct Dialler {
    how: How,
    /// Whether frames go inside WebSocket messages.
    pub(crate) websocket: bool,
    /// `ADDRESS:PORT`, where there is one.
    pub(crate) host: String,
    address: SocketAddr,
    sources: u8,
}

impl Dialler {
    pub(crate) fn new(hold: &Hold) -> Result<Self, Trouble> {
        let (scheme, rest) = hold.target.split_once("://").ok_or("no URL")?;
        let rest = rest.split('?').next().unwrap_or_default();
        let how = match scheme {
            "tcp" | "ws" => How::Tcp,
            "tls" | "wss" => How::Tls(TlsConnector::from(Arc::new(tls::client(&[])?))),
            "quic" => How::Quic(endpoints(hold)?),
            "unix" => How::Unix(rest.into()),
            other => return Err(format!("{other}: no such protocol here").into()),
        };
        let host = rest.trim_end_matches('/').to_owned();
        let address = match how {
            How::Unix(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            _ => host.parse()?,
        };
        Ok(Self {
            how,
            websocket: matches!(scheme, "ws" | "wss"),
            host,
            address,
            sources: hold.sources,
        })
    }

    /// The `index`th stream.
    pub(crate) async fn dial(&self, index: usize) -> Result<Dialled, Trouble> {
        let stream: Box<dyn Stream> = match &self.how {
            How::Tcp => Box::new(self.tcp(index).await?),
            How::Tls(connector) => {
                let name = ServerName::try_from("localhost")?;
                Box::new(connector.connect(name, self.tcp(index).await?).await?)
            }
            How::Unix(path) => Box::new(UnixStream::connect(path).await?),
            How::Quic(endpoints) => {
                let endpoint = &endpoints[index % endpoints.len()];
                let connection = endpoint.connect(self.address, "localhost")?.await?;
                let (send, recv) = connection.open_bi().await?;
                return Ok(Dialled {
                    stream: Box::new(tokio::io::join(recv, send)),
                    connection: Some(connection),
                });
            }
        };
        Ok(Dialled {
            stream,
            connection: None,
        })
    }

    async fn tcp(&self, index: usize) -> Result<TcpStream, Trouble> {
        let socket = TcpSocket::new_v4()?;
        if self.sources > 0 {
            socket.bind(SocketAddr::from((source(index, self.sources), 0)))?;
        }
        socket.set_nodelay(true)?;
        Ok(socket.connect(self.address).await?)
    }
}

fn source(index: usize, sources: u8) -> Ipv4Addr {
    let host = 2 + (index % usize::from(sources)) as u32;
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 0, 0).to_bits() + host)
}

fn endpoints(hold: &Hold) -> Result<Vec<quinn::Endpoint>, Trouble> {
    let crypto = QuicClientConfig::try_from(tls::client(&[tls::ALPN])?)?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        // Paths need not be searched for nothing to be sent on them.
        .mtu_discovery_config(None);
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    let hosts = (0..usize::from(hold.sources.max(1))).map(|index| match hold.sources {
        0 => Ipv4Addr::LOCALHOST,
        sources => source(index, sources),
    });
    hosts
        .map(|host| {
            let mut endpoint = quinn::Endpoint::new(
                quinn::EndpointConfig::default(),
                None,
                udp(SocketAddrV4::new(host, 0))?,
                Arc::new(quinn::TokioRuntime),
            )?;
            endpoint.set_default_client_config(config.clone());
            Ok(endpoint)
        })
        .collect()
}

/// A UDP socket with room for a burst.
pub(crate) fn udp(address: SocketAddrV4) -> Result<UdpSocket, Trouble> {
    let socket = UdpSocket::bind(address)?;
    let options = socket2::SockRef::from(&socket);
    options.set_recv_buffer_size(UDP_BUFFER)?;
    options.set_send_buffer_size(UDP_BUFFER)?;
    Ok(socket)
}
