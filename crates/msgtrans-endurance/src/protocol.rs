//! [`Protocol`]: what connections are made over, on the side of the server and of its clients.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use msgtrans::tls::{ClientTls, Identity, ServerTls, SpkiPin};
use msgtrans::{
    QuicClientConfig, QuicServerConfig, TcpClientConfig, TcpServerConfig, TransportClient,
    TransportClientBuilder, TransportServerBuilder, WebSocketClientConfig, WebSocketServerConfig,
};

/// A QUIC client that has gone without a word is gone for the server after this.
const QUIC_IDLE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Tls,
    Ws,
    Wss,
    Quic,
    Unix,
}

impl Protocol {
    pub(crate) const ALL: &[Self] = &[
        Self::Tcp,
        Self::Tls,
        Self::Ws,
        Self::Wss,
        Self::Quic,
        Self::Unix,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Quic => "quic",
            Self::Unix => "unix",
        }
    }

    /// Adds a listener at a free port, or a path of this process.
    pub(crate) fn listen(
        self,
        builder: TransportServerBuilder,
        identity: &Identity,
    ) -> TransportServerBuilder {
        const ANY: &str = "127.0.0.1:0";
        let tls = || ServerTls::new(identity.clone());
        match self {
            Self::Tcp => builder.with_protocol(TcpServerConfig::new(ANY)),
            Self::Tls => builder.with_protocol(TcpServerConfig::new(ANY).tls(tls())),
            Self::Ws => builder.with_protocol(WebSocketServerConfig::new(ANY)),
            Self::Wss => builder.with_protocol(WebSocketServerConfig::new(ANY).tls(tls())),
            Self::Quic => builder.with_protocol(
                QuicServerConfig::new(ANY)
                    .with_identity(identity.clone())
                    .max_idle_timeout(QUIC_IDLE),
            ),
            Self::Unix => {
                let url = format!("unix://{}", socket_path().display());
                builder.with_protocol(url.as_str())
            }
        }
    }

    /// A client that will dial `address`: `host:port`, or the path of a socket.
    pub(crate) fn dial(self, address: &str, pin: SpkiPin) -> TransportClientBuilder {
        let builder = TransportClient::builder();
        let tls = || ClientTls::new().pin(pin);
        match self {
            Self::Tcp => builder.with_protocol(TcpClientConfig::new(address)),
            Self::Tls => builder.with_protocol(TcpClientConfig::new(address).tls(tls())),
            Self::Ws => builder.with_protocol(WebSocketClientConfig::new(address)),
            Self::Wss => builder.with_protocol(WebSocketClientConfig::new(address).tls(tls())),
            Self::Quic => builder.with_protocol(QuicClientConfig::new(address).with_pin(pin)),
            Self::Unix => builder.with_protocol(format!("unix://{address}").as_str()),
        }
    }
}

/// Short, because the system allows a hundred bytes or so.
fn socket_path() -> PathBuf {
    std::env::temp_dir().join(format!("msgtrans-{}.sock", std::process::id()))
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|known| known.name() == name);
        found
            .copied()
            .ok_or_else(|| format!("`{name}` is none of tcp, tls, ws, wss, quic, unix"))
    }
}

/// Protocols, by commas.
#[derive(Clone, Debug)]
pub(crate) struct Protocols(pub(crate) Vec<Protocol>);

impl Protocols {
    pub(crate) fn all() -> Self {
        Self(Protocol::ALL.to_vec())
    }
}

impl FromStr for Protocols {
    type Err = String;

    fn from_str(names: &str) -> Result<Self, String> {
        names
            .split(',')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|protocol| protocol.name()).collect();
        f.write_str(&names.join(","))
    }
}
