//! What a case asks of a client and of a server, whichever crate they come from.

use std::fmt;
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

/// Why a case failed, in words.
pub(crate) type Outcome<T> = Result<T, String>;

/// Far longer than anything here takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the two sides speak over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Ws,
    Quic,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Ws, Self::Quic];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Ws => "ws",
            Self::Quic => "quic",
        }
    }

    /// A port that nobody listens on. Our server takes 0; the published one never says which port it got.
    pub(crate) fn free_port(self) -> Outcome<u16> {
        let address = match self {
            Self::Tcp | Self::Ws => TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()),
            Self::Quic => UdpSocket::bind("127.0.0.1:0").and_then(|it| it.local_addr()),
        };
        Ok(address.map_err(failed("no free port"))?.port())
    }
}

/// How the sides of a case are set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) protocol: Protocol,
    /// Whether the published crate asks each second over WebSocket whether ours lives, and closes on no answer within
    /// another. Off where payloads are large: it also closes when it has been too busy itself to read the answer.
    pub(crate) pings: bool,
}

impl From<Protocol> for Setup {
    fn from(protocol: Protocol) -> Self {
        Self {
            protocol,
            pings: false,
        }
    }
}

/// How a payload goes over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Codec {
    #[default]
    Plain,
    Zstd,
    Zlib,
}

/// A message or request without what the session adds to it.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) biz_type: u8,
    pub(crate) ext_header: Bytes,
    pub(crate) payload: Bytes,
    /// How to send it; what arrives has been decompressed.
    pub(crate) codec: Codec,
}

impl Message {
    pub(crate) fn of(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: payload.into(),
            ..Self::default()
        }
    }

    /// Fails unless this is what `sent` was.
    pub(crate) fn must_be(&self, sent: &Self) -> Outcome<()> {
        let mut sent = sent.clone();
        sent.codec = Codec::Plain;
        if *self == sent {
            Ok(())
        } else {
            Err(format!("{sent:?} arrived as {self:?}"))
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (len, sum) = (self.payload.len(), sum(&self.payload));
        write!(
            f,
            "{len} bytes (sum {sum:x}, type {}, header {:?})",
            self.biz_type, self.ext_header
        )
    }
}

/// Tells payloads apart in messages of failure.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(*byte))
    })
}

/// A request of this type is never answered.
pub(crate) const UNANSWERED: u8 = 250;
/// A request of this type is answered with a zstd payload.
pub(crate) const ANSWER_IN_ZSTD: u8 = 251;
/// A request of this type is answered with a zlib payload.
pub(crate) const ANSWER_IN_ZLIB: u8 = 252;

/// How every side here answers requests: with their payload, compressed as the type asks; or not at all.
pub(crate) fn answer_to(request: &Message) -> Option<Codec> {
    match request.biz_type {
        UNANSWERED => None,
        ANSWER_IN_ZSTD => Some(Codec::Zstd),
        ANSWER_IN_ZLIB => Some(Codec::Zlib),
        _ => Some(Codec::Plain),
    }
}

/// One end of the session that a case is about.
pub(crate) trait Side {
    /// What has arrived.
    fn inbox(&mut self) -> &mut Inbox;

    /// Sends a one-way message and waits until it is written.
    async fn send(&self, message: Message) -> Outcome<()>;

    /// Sends a one-way message and waits for nothing, where the crate can.
    async fn throw(&self, payload: Bytes) -> Outcome<()> {
        self.send(Message::of(payload)).await
    }

    /// Makes a request and returns the payload of the answer; `None` when none came within `wait`.
    async fn request_within(&self, request: Message, wait: Duration) -> Outcome<Option<Bytes>>;

    /// Ends the session in good order.
    async fn close(&mut self) -> Outcome<()>;

    /// Bytes read and written so far, where the crate counts them.
    fn traffic(&self) -> Option<(u64, u64)> {
        None
    }

    async fn request(&self, request: Message) -> Outcome<Bytes> {
        let answer = self.request_within(request, PATIENCE).await?;
        answer.ok_or_else(|| "no answer in time".to_owned())
    }
}

/// A server with at most one session.
pub(crate) trait Server: Side + Sized {
    async fn start(setup: Setup) -> Outcome<Self>;

    fn port(&self) -> u16;

    /// Waits for the next session; from then on the side acts on it.
    async fn session(&mut self) -> Outcome<()>;

    /// Ends all sessions in good order and the server with them.
    async fn shut_down(&mut self);

    /// Lets go of the port, sooner or later.
    fn stop(self);
}

/// A client that is connected.
pub(crate) trait Client: Side + Sized {
    async fn connect(setup: Setup, port: u16) -> Outcome<Self>;

    /// Connects as a client that would rather speak version 2; `None` where the crate knows no other than 1.
    async fn connect_offering_both(setup: Setup, port: u16) -> Outcome<Option<Self>>;

    /// Connects once more after an end.
    async fn reconnect(&mut self) -> Outcome<()>;
}

/// Where handlers and event loops put what happens.
#[derive(Clone)]
pub(crate) struct Outbox {
    messages: UnboundedSender<Message>,
    requests: UnboundedSender<Message>,
    ends: UnboundedSender<Outcome<()>>,
}

impl Outbox {
    // A case that has ended hears no more: what cannot be sent is nobody's loss.

    pub(crate) fn message(&self, message: Message) {
        let _ = self.messages.send(message);
    }

    pub(crate) fn request(&self, request: Message) {
        let _ = self.requests.send(request);
    }

    pub(crate) fn end(&self, how: Outcome<()>) {
        let _ = self.ends.send(how);
    }
}

/// What has arrived at one side, by kind.
pub(crate) struct Inbox {
    messages: UnboundedReceiver<Message>,
    requests: UnboundedReceiver<Message>,
    ends: UnboundedReceiver<Outcome<()>>,
}

impl Inbox {
    pub(crate) fn new() -> (Outbox, Self) {
        let (messages_in, messages) = unbounded_channel();
        let (requests_in, requests) = unbounded_channel();
        let (ends_in, ends) = unbounded_channel();
        let outbox = Outbox {
            messages: messages_in,
            requests: requests_in,
            ends: ends_in,
        };
        (
            outbox,
            Self {
                messages,
                requests,
                ends,
            },
        )
    }

    /// The next one-way message; an end of the session is an error.
    pub(crate) async fn message(&mut self) -> Outcome<Message> {
        let next = async {
            tokio::select! {
                biased;
                message = self.messages.recv() => message.ok_or_else(gone),
                end = self.ends.recv() => Err(format!("the session ended instead: {end:?}")),
            }
        };
        timeout(PATIENCE, next)
            .await
            .unwrap_or_else(|_| Err("no message came".to_owned()))
    }

    /// The next request, answered already.
    pub(crate) async fn request(&mut self) -> Outcome<Message> {
        let next = async {
            tokio::select! {
                biased;
                request = self.requests.recv() => request.ok_or_else(gone),
                end = self.ends.recv() => Err(format!("the session ended instead: {end:?}")),
            }
        };
        timeout(PATIENCE, next)
            .await
            .unwrap_or_else(|_| Err("no request came".to_owned()))
    }

    /// The end of the session; an error unless it was in good order.
    pub(crate) async fn end(&mut self) -> Outcome<()> {
        match timeout(PATIENCE, self.ends.recv()).await {
            Ok(Some(end)) => end,
            Ok(None) => Err(gone()),
            Err(_) => Err(NEVER_ENDED.to_owned()),
        }
    }

    /// Fails if a message is waiting.
    pub(crate) fn must_be_empty(&mut self) -> Outcome<()> {
        match self.messages.try_recv() {
            Ok(message) => Err(format!("a message that nobody sent: {message:?}")),
            Err(_) => Ok(()),
        }
    }
}

/// What [`Inbox::end`] says when there was none.
pub(crate) const NEVER_ENDED: &str = "the session never ended";

fn gone() -> String {
    "the side is gone".to_owned()
}

/// Puts words before an error.
pub(crate) fn failed<E: fmt::Display>(what: &str) -> impl FnOnce(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}
