//! Our crate as client and as server, both speaking version 1.

use std::time::Duration;

use bytes::Bytes;
use ours::{
    CloseReason, Code, Compression, EventStream, Handler, HandlerError, Packet, RequestError,
    RetryConfig, Session, TransportClient, TransportEvent, TransportServer, WireVersion,
    WireVersions,
};

use crate::peer::{
    Client, Codec, Inbox, Message, Outbox, Outcome, PATIENCE, Protocol, Server, Setup, Side,
    answer_to, failed,
};

fn compression(codec: Codec) -> Compression {
    match codec {
        Codec::Plain => Compression::None,
        Codec::Zstd => Compression::Zstd,
        Codec::Zlib => Compression::Zlib,
    }
}

fn to_packet(message: Message) -> Packet {
    Packet::binary(message.payload)
        .with_biz_type(message.biz_type)
        .with_ext_header(message.ext_header)
        .with_compression(compression(message.codec))
}

fn from_packet(packet: &Packet) -> Message {
    Message {
        biz_type: packet.biz_type,
        ext_header: packet.ext_header.to_bytes(),
        payload: packet.payload.clone(),
        codec: Codec::Plain,
    }
}

/// Notes everything and answers requests.
struct Recorder(Outbox);

impl Handler for Recorder {
    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        self.0.message(from_packet(&packet));
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        let message = from_packet(&request);
        let codec = answer_to(&message);
        self.0.request(message);
        match codec {
            Some(codec) => {
                Ok(Packet::response(request.payload).with_compression(compression(codec)))
            }
            None => Err(HandlerError::with_code(Code::UNSUPPORTED, "never answered")),
        }
    }

    async fn on_disconnect(&self, _: &Session, reason: &CloseReason) {
        self.0.end(if reason.is_clean() {
            Ok(())
        } else {
            Err(reason.to_string())
        });
    }
}

async fn send(session: &Session, message: Message) -> Outcome<()> {
    session
        .send_confirmed(to_packet(message))
        .await
        .map_err(failed("our send"))
}

async fn throw(session: &Session, payload: Bytes) -> Outcome<()> {
    let sent = session.send(Packet::binary(payload)).await;
    sent.map_err(failed("our send"))
}

async fn request(session: &Session, message: Message, wait: Duration) -> Outcome<Option<Bytes>> {
    match session.request_with(to_packet(message), wait).await {
        Ok(answer) => Ok(Some(answer.payload)),
        Err(RequestError::Timeout { .. }) => Ok(None),
        Err(error) => Err(format!("our request: {error}")),
    }
}

fn traffic(session: &Session) -> (u64, u64) {
    let stats = session.stats();
    (stats.bytes_in, stats.bytes_out)
}

pub(crate) struct OurServer {
    server: TransportServer,
    events: EventStream,
    session: Option<Session>,
    inbox: Inbox,
}

impl OurServer {
    fn current(&self) -> Outcome<&Session> {
        self.session
            .as_ref()
            .ok_or_else(|| "our server has no session".to_owned())
    }
}

impl Side for OurServer {
    fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    async fn send(&self, message: Message) -> Outcome<()> {
        send(self.current()?, message).await
    }

    async fn throw(&self, payload: Bytes) -> Outcome<()> {
        throw(self.current()?, payload).await
    }

    async fn request_within(&self, message: Message, wait: Duration) -> Outcome<Option<Bytes>> {
        request(self.current()?, message, wait).await
    }

    async fn close(&mut self) -> Outcome<()> {
        self.current()?.close(Code::NORMAL, "");
        Ok(())
    }

    fn traffic(&self) -> Option<(u64, u64)> {
        self.session.as_ref().map(traffic)
    }
}

impl Server for OurServer {
    async fn start(setup: Setup) -> Outcome<Self> {
        let (outbox, inbox) = Inbox::new();
        let server = TransportServer::builder()
            .with_protocol(format!("{}://127.0.0.1:0", setup.protocol.name()).as_str())
            .with_handler(Recorder(outbox))
            .build()
            .await
            .map_err(failed("our server"))?;
        server.start().map_err(failed("our server"))?;
        let events = server.events();
        Ok(Self {
            server,
            events,
            session: None,
            inbox,
        })
    }

    fn port(&self) -> u16 {
        self.server
            .local_endpoints()
            .first()
            .and_then(|it| it.port())
            .unwrap_or_default()
    }

    async fn session(&mut self) -> Outcome<()> {
        let server = &self.server;
        let events = &mut self.events;
        let opened = async {
            loop {
                match events.next().await {
                    Some(TransportEvent::ConnectionEstablished { session_id, .. }) => {
                        let session = server.session(session_id);
                        return session.ok_or_else(|| "the session is gone already".to_owned());
                    }
                    Some(_) => {}
                    None => return Err("our server has stopped".to_owned()),
                }
            }
        };
        let opened = tokio::time::timeout(PATIENCE, opened).await;
        let session = opened.unwrap_or_else(|_| Err("no session opened".to_owned()))?;
        if session.version() != Some(WireVersion::V1) {
            return Err(format!("the session is {:?}", session.version()));
        }
        self.session = Some(session);
        Ok(())
    }

    async fn shut_down(&mut self) {
        self.server.shutdown().await;
    }

    fn stop(self) {
        // The last handle takes the listener with it.
    }
}

pub(crate) struct OurClient {
    client: TransportClient,
    inbox: Inbox,
}

impl OurClient {
    /// A client that offers `wire` and ends up with version 1.
    async fn offering(wire: WireVersions, protocol: Protocol, port: u16) -> Outcome<Self> {
        let trust = if protocol == Protocol::Quic {
            "?insecure=true"
        } else {
            ""
        };
        let url = format!("{}://127.0.0.1:{port}{trust}", protocol.name());
        let (outbox, inbox) = Inbox::new();
        // The published server may not listen yet when `serve` has been called.
        let retry = RetryConfig::exponential_backoff(100, Duration::from_millis(20));
        let client = TransportClient::builder()
            .with_protocol(url.as_str())
            .wire(wire)
            .retry_strategy(retry.cap(Duration::from_millis(100)))
            .auto_reconnect(false)
            .with_handler(Recorder(outbox))
            .build()
            .await
            .map_err(failed("our client"))?;
        let mut this = Self { client, inbox };
        this.reconnect().await?;
        Ok(this)
    }

    fn current(&self) -> Outcome<Session> {
        self.client
            .session()
            .ok_or_else(|| "our client has no session".to_owned())
    }
}

impl Side for OurClient {
    fn inbox(&mut self) -> &mut Inbox {
        &mut self.inbox
    }

    async fn send(&self, message: Message) -> Outcome<()> {
        send(&self.current()?, message).await
    }

    async fn throw(&self, payload: Bytes) -> Outcome<()> {
        throw(&self.current()?, payload).await
    }

    async fn request_within(&self, message: Message, wait: Duration) -> Outcome<Option<Bytes>> {
        request(&self.current()?, message, wait).await
    }

    async fn close(&mut self) -> Outcome<()> {
        self.client
            .disconnect()
            .await
            .map_err(failed("our disconnect"))
    }

    fn traffic(&self) -> Option<(u64, u64)> {
        self.client.session().as_ref().map(traffic)
    }
}

impl Client for OurClient {
    async fn connect(setup: Setup, port: u16) -> Outcome<Self> {
        Self::offering(WireVersions::V1, setup.protocol, port).await
    }

    async fn connect_offering_both(setup: Setup, port: u16) -> Outcome<Option<Self>> {
        Self::offering(WireVersions::Any, setup.protocol, port)
            .await
            .map(Some)
    }

    async fn reconnect(&mut self) -> Outcome<()> {
        let connected = tokio::time::timeout(PATIENCE, self.client.connect()).await;
        connected
            .map_err(|_| "our connect never ended".to_owned())?
            .map_err(failed("our connect"))?;
        match self.current()?.version() {
            Some(WireVersion::V1) => Ok(()),
            other => Err(format!("the session is {other:?}")),
        }
    }
}
