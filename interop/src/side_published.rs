//! The published crate as client and as server.
//!
//! Its client stops answering when nobody reads its events, so a task always does; its server deadlocks when a handler
//! waits for its own session, so handlers here only note and answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use published::{
    ClientEvent, ClientEvents, CloseReason, CompressionType, ConnectionInfo, Packet,
    QuicClientConfig, QuicServerConfig, RequestOptions, Responder, RetryConfig, SendOptions,
    SessionHandler, SessionId, SessionSender, TcpClientConfig, TcpServerConfig, TransportClient,
    TransportClientBuilder, TransportError, TransportServer, TransportServerBuilder,
    WebSocketClientConfig, WebSocketServerConfig,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::peer::{
    Client, Codec, Inbox, Message, Outbox, Outcome, PATIENCE, Protocol, Server, Setup, Side,
    answer_to, failed,
};

/// How often it asks over WebSocket whether ours lives, and how long it waits for the answer; 30 s and 10 s if it is
/// not told.
const PING: Duration = Duration::from_secs(1);

fn compression(codec: Codec) -> CompressionType {
    match codec {
        Codec::Plain => CompressionType::None,
        Codec::Zstd => CompressionType::Zstd,
        Codec::Zlib => CompressionType::Zlib,
    }
}

fn send_options(message: &Message) -> SendOptions {
    let options = SendOptions::new()
        .biz_type(message.biz_type)
        .compression(compression(message.codec));
    if message.ext_header.is_empty() {
        options
    } else {
        options.ext_header(message.ext_header.clone())
    }
}

fn request_options(message: &Message, wait: Duration) -> RequestOptions {
    let options = RequestOptions::new()
        .biz_type(message.biz_type)
        .compression(compression(message.codec))
        .timeout(wait);
    if message.ext_header.is_empty() {
        options
    } else {
        options.ext_header(message.ext_header.clone())
    }
}

fn answered(answer: Result<Bytes, TransportError>) -> Outcome<Option<Bytes>> {
    match answer {
        Ok(payload) => Ok(Some(payload)),
        Err(TransportError::Timeout { .. }) => Ok(None),
        Err(error) => Err(format!("its request: {error}")),
    }
}

fn how(reason: &CloseReason) -> Outcome<()> {
    match reason {
        CloseReason::Normal => Ok(()),
        other => Err(format!("it says {other:?}")),
    }
}

/// Notes everything and answers requests.
struct Recorder {
    outbox: Outbox,
    sessions: UnboundedSender<SessionId>,
}

#[async_trait]
impl SessionHandler for Recorder {
    async fn on_connected(&self, session: SessionId, _: ConnectionInfo) {
        // A case that has ended wants no more sessions.
        let _ = self.sessions.send(session);
    }

    async fn on_message(&self, _: SessionId, packet: Packet, _: SessionSender) {
        self.outbox.message(from_packet(&packet));
    }

    async fn on_request(&self, _: SessionId, request: Packet, responder: Responder) {
        let message = from_packet(&request);
        let codec = answer_to(&message);
        self.outbox.request(message);
        if let Some(codec) = codec {
            let options = SendOptions::new().compression(compression(codec));
            // Who waits for the answer sees the failure.
            let _ = responder
                .respond_with_options(request.payload().clone(), options)
                .await;
        }
    }

    async fn on_disconnected(&self, _: SessionId, reason: CloseReason) {
        self.outbox.end(how(&reason));
    }
}

fn from_packet(packet: &Packet) -> Message {
    Message {
        biz_type: packet.biz_type(),
        ext_header: Bytes::copy_from_slice(packet.ext_header()),
        payload: packet.payload().clone(),
        codec: Codec::Plain,
    }
}

pub(crate) struct PublishedServer {
    server: TransportServer,
    port: u16,
    sessions: UnboundedReceiver<SessionId>,
    session: Option<SessionId>,
    inbox: Inbox,
}

impl PublishedServer {
    fn current(&self) -> Outcome<SessionId> {
        self.session
            .ok_or_else(|| "its server has no session".to_owned())
    }
}

impl Side for PublishedServer {
    fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    async fn send(&self, message: Message) -> Outcome<()> {
        let options = send_options(&message);
        let sent = self
            .server
            .send_with_options(self.current()?, message.payload, options);
        sent.await.map(|_| ()).map_err(failed("its send"))
    }

    async fn request_within(&self, message: Message, wait: Duration) -> Outcome<Option<Bytes>> {
        let options = request_options(&message, wait);
        let session = self.current()?;
        answered(
            self.server
                .request_with_options(session, message.payload, options)
                .await,
        )
    }

    async fn close(&mut self) -> Outcome<()> {
        self.server
            .close_session(self.current()?)
            .await
            .map_err(failed("its close"))
    }
}

impl Server for PublishedServer {
    async fn start(setup: Setup) -> Outcome<Self> {
        let port = setup.protocol.free_port()?;
        let address = format!("127.0.0.1:{port}");
        let builder = TransportServerBuilder::new();
        let builder = match setup.protocol {
            Protocol::Tcp => {
                builder.protocol(TcpServerConfig::new(&address).map_err(failed("its config"))?)
            }
            Protocol::Ws => {
                let config = WebSocketServerConfig::new(&address).map_err(failed("its config"))?;
                builder.protocol(if setup.pings {
                    config.ping_interval(Some(PING)).pong_timeout(PING)
                } else {
                    config
                })
            }
            Protocol::Quic => {
                builder.protocol(QuicServerConfig::new(&address).map_err(failed("its config"))?)
            }
        };
        let (outbox, inbox) = Inbox::new();
        let (sessions_in, sessions) = unbounded_channel();
        let recorder = Recorder {
            outbox,
            sessions: sessions_in,
        };
        let server = builder
            .build(Arc::new(recorder))
            .await
            .map_err(failed("its server"))?;
        let serving = server.clone();
        tokio::spawn(async move { serving.serve().await });
        Ok(Self {
            server,
            port,
            sessions,
            session: None,
            inbox,
        })
    }

    fn port(&self) -> u16 {
        self.port
    }

    async fn session(&mut self) -> Outcome<()> {
        let session = timeout(PATIENCE, self.sessions.recv()).await;
        self.session = session.map_err(|_| "its server saw no session".to_owned())?;
        self.current().map(|_| ())
    }

    async fn shut_down(&mut self) {
        self.server.shutdown_with_timeout(PATIENCE).await;
    }

    fn stop(self) {
        // Over QUIC it takes seconds.
        tokio::spawn(async move {
            self.server
                .shutdown_with_timeout(Duration::from_secs(5))
                .await
        });
    }
}

pub(crate) struct PublishedClient {
    client: TransportClient,
    inbox: Inbox,
}

/// Reads the client's events until it is gone.
async fn read_events(mut events: ClientEvents, outbox: Outbox) {
    while let Some(event) = events.next().await {
        match event {
            ClientEvent::Message(message) => outbox.message(Message {
                biz_type: message.biz_type(),
                ext_header: Bytes::copy_from_slice(message.ext_header().unwrap_or_default()),
                payload: message.payload().clone(),
                codec: Codec::Plain,
            }),
            ClientEvent::Request(request) => {
                let message = Message {
                    biz_type: request.biz_type(),
                    ext_header: Bytes::copy_from_slice(request.ext_header().unwrap_or_default()),
                    payload: request.payload().clone(),
                    codec: Codec::Plain,
                };
                let codec = answer_to(&message);
                let payload = message.payload.clone();
                outbox.request(message);
                if let Some(codec) = codec {
                    let options = SendOptions::new().compression(compression(codec));
                    // Apart, because waiting for the write here would hold up the very events behind it.
                    tokio::spawn(request.respond_with_options(payload, options));
                }
            }
            ClientEvent::Disconnected { reason } => outbox.end(how(&reason)),
            _ => {}
        }
    }
}

impl Side for PublishedClient {
    fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    async fn send(&self, message: Message) -> Outcome<()> {
        let options = send_options(&message);
        let sent = self
            .client
            .send_with_options(message.payload, options)
            .await;
        sent.map_err(failed("its send"))
    }

    async fn throw(&self, payload: Bytes) -> Outcome<()> {
        let sent = self.client.send_detached(&payload).await;
        sent.map(|_| ()).map_err(failed("its send"))
    }

    async fn request_within(&self, message: Message, wait: Duration) -> Outcome<Option<Bytes>> {
        let options = request_options(&message, wait);
        answered(
            self.client
                .request_with_options(message.payload, options)
                .await,
        )
    }

    async fn close(&mut self) -> Outcome<()> {
        self.client
            .disconnect()
            .await
            .map_err(failed("its disconnect"))
    }
}

impl Client for PublishedClient {
    async fn connect(setup: Setup, port: u16) -> Outcome<Self> {
        let address = format!("127.0.0.1:{port}");
        let builder =
            TransportClientBuilder::new().retry_strategy(RetryConfig::default().max_retries(0));
        let builder = match setup.protocol {
            Protocol::Tcp => {
                builder.protocol(TcpClientConfig::new(&address).map_err(failed("its config"))?)
            }
            Protocol::Ws => {
                let url = format!("ws://{address}/");
                let config = WebSocketClientConfig::new(&url).map_err(failed("its config"))?;
                builder.protocol(if setup.pings {
                    config.ping_interval(Some(PING)).pong_timeout(PING)
                } else {
                    config
                })
            }
            Protocol::Quic => {
                let config = QuicClientConfig::new(&address).map_err(failed("its config"))?;
                builder.protocol(config.server_name("localhost").danger_skip_verification())
            }
        };
        let client = builder.build().await.map_err(failed("its client"))?;
        let events = client.events().await.map_err(failed("its events"))?;
        let (outbox, inbox) = Inbox::new();
        tokio::spawn(read_events(events, outbox));
        let mut this = Self { client, inbox };
        this.reconnect().await?;
        Ok(this)
    }

    async fn connect_offering_both(_: Setup, _: u16) -> Outcome<Option<Self>> {
        Ok(None)
    }

    async fn reconnect(&mut self) -> Outcome<()> {
        let connected = timeout(PATIENCE, self.client.connect()).await;
        connected
            .map_err(|_| "its connect never ended".to_owned())?
            .map_err(failed("its connect"))
    }
}
