//! One business code, any protocol.
//!
//! Handlers see packets and sessions; whether those arrive over TCP, WebSocket, QUIC or in process is a line of
//! configuration.
//!
//! ```
//! use msgtrans::{Handler, HandlerError, Packet, Session, TransportClient, TransportServer};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
//!         Ok(Packet::response(request.payload))
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let server = TransportServer::builder().with_protocol("inproc://doc").with_handler(Echo).build().await?;
//! server.start()?;
//!
//! let client = TransportClient::builder().with_protocol("inproc://doc").build().await?;
//! client.connect().await?;
//! assert_eq!(client.request("hello").await?.payload, "hello");
//! client.disconnect().await?;
//! # server.shutdown().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! | feature | what it adds | default |
//! |---|---|---|
//! | `tcp` | `tcp://`, [`TcpServerConfig`], [`TcpClientConfig`] | yes |
//! | `websocket` | `ws://`, [`WebSocketServerConfig`], [`WebSocketClientConfig`] | yes |
//! | `quic` | `quic://`, [`QuicServerConfig`], [`QuicClientConfig`], development certificates | yes |
//! | `inproc` | `inproc://`, [`InprocServerConfig`], [`InprocClientConfig`] | yes |
//! | `compression` | zstd and zlib payloads | yes |
//! | `tls` | `tls://`, and `wss://` beside `websocket`; [`tls`] with certificates, authorities and pins | no |
//! | `unix` | `unix://`, [`UnixServerConfig`], [`UnixClientConfig`]; nothing on systems without Unix sockets | no |
//! | `full` | all of the above | no |
//! | `dangerous-insecure` | clients that may be told to believe any server | no |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod protocols;

/// The READMEs' programs and those of the migration page, compiled as doctests so that they cannot drift.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../README.zh-CN.md")]
#[doc = include_str!("../../../docs/FROM_MSGTRANS_2.md")]
#[doc = include_str!("../../../docs/ADDING_A_PROTOCOL.md")]
mod pages {}

// The public interface is:
pub use bytes::Bytes;
#[cfg(feature = "inproc")]
pub use msgtrans_inproc::{InprocClientConfig, InprocServerConfig};
#[cfg(feature = "quic")]
pub use msgtrans_quic::{
    QuicClientConfig, QuicCongestion, QuicPreset, QuicServerConfig, UdpOffloads,
};
#[cfg(feature = "tcp")]
pub use msgtrans_tcp::{TcpClientConfig, TcpServerConfig};
#[cfg(any(feature = "quic", feature = "tls"))]
pub use msgtrans_tls as tls;
#[cfg(all(feature = "unix", unix))]
pub use msgtrans_unix::{UnixClientConfig, UnixServerConfig};
#[cfg(feature = "websocket")]
pub use msgtrans_websocket::{WebSocketClientConfig, WebSocketServerConfig};

pub use msgtrans_client::{ReconnectConfig, RetryConfig};
pub use msgtrans_core::{
    BindError, CloseReason, Code, Compression, ConfigError, ConnectError, ConnectionInfo,
    DecodeError, EncodeError, Flags, Goodbye, HandlerError, Initiator, Limits, Meta, Packet,
    PacketType, PeerAddress, RequestError, SendError, SendErrorKind, SessionId, Severity,
    TransportError, WireVersion, WireVersions,
};
pub use msgtrans_server::{
    BroadcastReport, ListenerStats, ProcessStats, ShutdownReport, ThreadPerCore,
};
pub use msgtrans_session::{
    CompressionConfig, ConnectRequest, EventStream, Handler, LatencyStats, LoggingMiddleware,
    Middleware, RateLimiterConfig, Refusal, Rejections, RequestFuture, Responder, Session,
    SessionConfig, SessionStats, TransportEvent, TransportStats,
};
pub use msgtrans_transport::{
    Connection, Connector, Endpoint, IntoConnector, IntoServerProtocol, Listener, ProtocolConfig,
    Schemes, ServerProtocol, StreamConnection,
};
pub use protocols::BuiltIn;

/// A server with the built-in URL schemes; see [`msgtrans_server::TransportServer`].
pub type TransportServer = msgtrans_server::TransportServer<BuiltIn>;
/// Builds a [`TransportServer`]; see [`msgtrans_server::TransportServerBuilder`].
pub type TransportServerBuilder = msgtrans_server::TransportServerBuilder<BuiltIn>;
/// A client with the built-in URL schemes; see [`msgtrans_client::TransportClient`].
pub type TransportClient = msgtrans_client::TransportClient<BuiltIn>;
/// Builds a [`TransportClient`]; see [`msgtrans_client::TransportClientBuilder`].
pub type TransportClientBuilder = msgtrans_client::TransportClientBuilder<BuiltIn>;

/// Servers and clients with a table of URL schemes of the application's own, which falls back to [`BuiltIn`]:
/// `type TransportServer = msgtrans::custom::TransportServer<AppSchemes>`.
pub mod custom {
    pub use msgtrans_client::{TransportClient, TransportClientBuilder};
    pub use msgtrans_server::{TransportServer, TransportServerBuilder};
}
