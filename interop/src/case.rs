//! The cases: each is written once and runs with either crate as the client.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::peer::{
    ANSWER_IN_ZLIB, ANSWER_IN_ZSTD, Client, Codec, Message, NEVER_ENDED, Outcome, Protocol, Server,
    Setup, Side, UNANSWERED,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const SIZES: [usize; 6] = [0, 1, 1000, 64 * KIB, MIB, 16 * MIB];

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Client,
    Server,
}

/// Which crate is at which end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    PublishedClient,
    OurClient,
}

impl Direction {
    pub(crate) const ALL: [Self; 2] = [Self::PublishedClient, Self::OurClient];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    OneWay(From, usize),
    Request(From, usize),
    ManyMessages(From),
    Flood(From),
    ManyRequests(From),
    FirstFrame,
    Fields(From),
    Compressed(From, Codec, usize),
    BothAtOnce { count: usize, len: usize },
    PushBeforeTheFirstWord,
    ListenOnly,
    RequestsToAListener,
    Unanswered(From),
    TooLarge(From),
    Silence,
    Close(From),
    CloseBehindMessages(From),
    Shutdown,
    Vanish,
    Reconnect,
    EitherVersion,
}

impl Case {
    pub(crate) fn all() -> Vec<Self> {
        let sides = [From::Client, From::Server];
        let mut all = Vec::new();
        for from in sides {
            all.extend(SIZES.map(|len| Self::OneWay(from, len)));
        }
        for from in sides {
            all.extend(SIZES.map(|len| Self::Request(from, len)));
        }
        all.extend(sides.map(Self::ManyMessages));
        all.extend(sides.map(Self::Flood));
        all.extend(sides.map(Self::ManyRequests));
        all.push(Self::FirstFrame);
        all.extend(sides.map(Self::Fields));
        for codec in [Codec::Zstd, Codec::Zlib] {
            for len in [100 * KIB, 16 * MIB] {
                all.extend(sides.map(|from| Self::Compressed(from, codec, len)));
            }
        }
        all.push(Self::BothAtOnce {
            count: 200,
            len: 10 * KIB,
        });
        all.push(Self::BothAtOnce {
            count: 1,
            len: 16 * MIB,
        });
        all.push(Self::PushBeforeTheFirstWord);
        all.push(Self::ListenOnly);
        all.push(Self::RequestsToAListener);
        all.extend(sides.map(Self::Unanswered));
        all.extend(sides.map(Self::TooLarge));
        all.push(Self::Silence);
        all.extend(sides.map(Self::Close));
        all.extend(sides.map(Self::CloseBehindMessages));
        all.push(Self::Shutdown);
        all.push(Self::Vanish);
        all.push(Self::Reconnect);
        all.push(Self::EitherVersion);
        all
    }

    /// Why the published crate cannot do this, where it cannot.
    pub(crate) fn skipped(self, protocol: Protocol, direction: Direction) -> Option<&'static str> {
        match (self, protocol, direction) {
            (Self::EitherVersion, _, Direction::PublishedClient) => {
                Some("the published crate knows version 1 alone")
            }
            (
                Self::ListenOnly | Self::RequestsToAListener,
                Protocol::Quic,
                Direction::PublishedClient,
            ) => Some(
                "the published client opens its QUIC stream and writes nothing: no server can see a stream \
                 before its first byte, so nothing can be sent to a client that only listens",
            ),
            _ => None,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OneWay(from, len) => write!(f, "message of {}, from the {from}", Size(len)),
            Self::Request(from, len) => write!(f, "request of {}, from the {from}", Size(len)),
            Self::ManyMessages(from) => write!(f, "1000 messages in order, from the {from}"),
            Self::Flood(from) => write!(f, "4000 messages in a flood, from the {from}"),
            Self::FirstFrame => f.write_str("first frame of 15 MiB"),
            Self::ManyRequests(from) => write!(f, "64 requests at once, from the {from}"),
            Self::Fields(from) => write!(f, "biz_type and extended header, from the {from}"),
            Self::Compressed(from, codec, len) => {
                let codec = format!("{codec:?}").to_lowercase();
                write!(f, "{codec} of {}, from the {from}", Size(len))
            }
            Self::BothAtOnce { count, len } => {
                write!(f, "both at once, {count} times {} each way", Size(len))
            }
            Self::PushBeforeTheFirstWord => f.write_str("server speaks before the client does"),
            Self::ListenOnly => f.write_str("20 messages to a client that only listens"),
            Self::RequestsToAListener => f.write_str("requests to a client that only listens"),
            Self::Unanswered(from) => write!(f, "request that gets no answer, from the {from}"),
            Self::TooLarge(from) => write!(f, "message of 16 MiB and a byte, from the {from}"),
            Self::Silence => f.write_str("3 s of silence"),
            Self::Close(from) => write!(f, "close by the {from}"),
            Self::CloseBehindMessages(from) => write!(f, "close by the {from} behind 100 messages"),
            Self::Shutdown => f.write_str("server shuts down"),
            Self::Vanish => f.write_str("client is dropped"),
            Self::Reconnect => f.write_str("client closes and connects again"),
            Self::EitherVersion => f.write_str("client that would rather speak version 2"),
        }
    }
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

struct Size(usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            len if len >= MIB => write!(f, "{} MiB", len / MIB),
            len if len >= KIB => write!(f, "{} KiB", len / KIB),
            len => write!(f, "{len} B"),
        }
    }
}

/// Runs one case on a server, a client and a connection of its own.
pub(crate) async fn run<S: Server, C: Client>(case: Case, protocol: Protocol) -> Outcome<()> {
    let setup = Setup {
        protocol,
        pings: case == Case::Silence,
    };
    let mut server = S::start(setup).await?;
    let outcome = on::<S, C>(&mut server, case, setup).await;
    server.stop();
    outcome
}

/// Runs `$check(beginning side, other side, …)`.
macro_rules! from {
    ($from:expr, $server:expr, $client:expr, $check:ident $(, $argument:expr)*) => {
        match $from {
            From::Client => $check($client, $server $(, $argument)*).await,
            From::Server => $check($server, $client $(, $argument)*).await,
        }
    };
}

async fn on<S: Server, C: Client>(server: &mut S, case: Case, setup: Setup) -> Outcome<()> {
    if case == Case::EitherVersion {
        let client = C::connect_offering_both(setup, server.port()).await?;
        let client = &mut client.ok_or("the crate knows version 1 alone")?;
        return greet_without_waste(server, client).await;
    }
    let mut client = C::connect(setup, server.port()).await?;
    if case == Case::Vanish {
        greet(server, &mut client).await?;
        drop(client);
        // Whether that counts as good order is the crate's own affair.
        return server.inbox().end().await.or_else(unless_it_never_came);
    }
    let client = &mut client;
    match case {
        Case::FirstFrame => return first_frame(server, client).await,
        Case::PushBeforeTheFirstWord => return push_before_the_first_word(server, client).await,
        Case::ListenOnly => return listen_only(server, client).await,
        Case::RequestsToAListener => return requests_to_a_listener(server, client).await,
        _ => greet(server, client).await?,
    }
    match case {
        Case::OneWay(from, len) => from!(from, server, client, one_way, len),
        Case::Request(from, len) => from!(from, server, client, request, len),
        Case::ManyMessages(from) => from!(from, server, client, many_messages, 1000),
        Case::Flood(from) => from!(from, server, client, flood),
        Case::ManyRequests(from) => from!(from, server, client, many_requests),
        Case::Fields(from) => from!(from, server, client, fields),
        Case::Compressed(from, codec, len) => from!(from, server, client, compressed, codec, len),
        Case::BothAtOnce { count, len } => both_at_once(server, client, count, len).await,
        Case::Unanswered(from) => from!(from, server, client, unanswered),
        Case::TooLarge(from) => from!(from, server, client, too_large),
        Case::Silence => silence(server, client).await,
        Case::Close(from) => from!(from, server, client, close_behind, 0),
        Case::CloseBehindMessages(from) => from!(from, server, client, close_behind, 100),
        Case::Shutdown => {
            server.shut_down().await;
            client.inbox().end().await
        }
        Case::Reconnect => reconnect(server, client).await,
        Case::PushBeforeTheFirstWord
        | Case::ListenOnly
        | Case::RequestsToAListener
        | Case::FirstFrame
        | Case::Vanish
        | Case::EitherVersion => Ok(()),
    }
}

/// The client's first word, after which both sides know of the session.
async fn greet(server: &mut impl Server, client: &mut impl Client) -> Outcome<()> {
    let hello = Message::of("hello");
    client.send(hello.clone()).await?;
    server.session().await?;
    server.inbox().message().await?.must_be(&hello)
}

/// Sessions that an attempt at version 2 left behind are passed over.
async fn greet_without_waste(server: &mut impl Server, client: &mut impl Client) -> Outcome<()> {
    let hello = Message::of("hello");
    let answer = client.request(hello.clone()).await?;
    same(&answer, &hello.payload)?;
    server.inbox().request().await?.must_be(&hello)
}

async fn one_way(from: &mut impl Side, to: &mut impl Side, len: usize) -> Outcome<()> {
    let message = Message::of(noise(len));
    // Together: a write is done when the other side has read.
    let (sent, arrived) = tokio::join!(from.send(message.clone()), to.inbox().message());
    sent?;
    arrived?.must_be(&message)?;
    to.inbox().must_be_empty()
}

async fn request(from: &mut impl Side, to: &mut impl Side, len: usize) -> Outcome<()> {
    let message = Message::of(noise(len));
    let answer = from.request(message.clone()).await?;
    same(&answer, &message.payload)?;
    to.inbox().request().await?.must_be(&message)
}

async fn many_messages(from: &mut impl Side, to: &mut impl Side, count: usize) -> Outcome<()> {
    let sending = async {
        for number in 0..count {
            from.send(numbered(number, 100)).await?;
        }
        Ok::<_, String>(())
    };
    let (sent, arrived) = tokio::join!(sending, expect_numbered(to, count, 100));
    sent.and(arrived)
}

/// Lengths of all kinds, so that frames lie across every boundary of buffers; fewer than deadlock the published crate.
async fn flood(from: &mut impl Side, to: &mut impl Side) -> Outcome<()> {
    const COUNT: usize = 4000;
    let len = |number: usize| number * 37 % 1500;
    let sending = async {
        for number in 0..COUNT {
            from.throw(numbered(number, len(number)).payload).await?;
        }
        Ok::<_, String>(())
    };
    let reading = async {
        for number in 0..COUNT {
            let arrived = to.inbox().message().await;
            let arrived = arrived.map_err(|why| format!("message {number} of {COUNT}: {why}"))?;
            arrived.must_be(&numbered(number, len(number)))?;
        }
        Ok::<_, String>(())
    };
    let (sent, arrived) = tokio::join!(sending, reading);
    sent.and(arrived)
}

/// Large, and behind nothing that has made the session known.
async fn first_frame(server: &mut impl Server, client: &mut impl Client) -> Outcome<()> {
    request(client, server, 15 * MIB).await
}

async fn expect_numbered(to: &mut impl Side, count: usize, len: usize) -> Outcome<()> {
    for number in 0..count {
        let arrived = to.inbox().message().await;
        let arrived = arrived.map_err(|error| format!("message {number} of {count}: {error}"))?;
        arrived.must_be(&numbered(number, len))?;
    }
    Ok(())
}

async fn many_requests(from: &mut impl Side, to: &mut impl Side) -> Outcome<()> {
    let from = &*from;
    let ask = |first: usize| async move {
        for number in first..first + 8 {
            let message = numbered(number, 500);
            let answer = from.request(message.clone()).await?;
            same(&answer, &message.payload)?;
        }
        Ok::<_, String>(())
    };
    // Eight at a time from each of eight askers.
    let (a, b, c, d, e, f, g, h) = tokio::join!(
        ask(0),
        ask(8),
        ask(16),
        ask(24),
        ask(32),
        ask(40),
        ask(48),
        ask(56)
    );
    a.and(b).and(c).and(d).and(e).and(f).and(g).and(h)?;
    for _ in 0..64 {
        to.inbox().request().await?;
    }
    Ok(())
}

async fn fields(from: &mut impl Side, to: &mut impl Side) -> Outcome<()> {
    for (biz_type, ext_header) in [(7, "route:42"), (200, ""), (0, "alone")] {
        let ext_header = Bytes::from_static(ext_header.as_bytes());
        let message = Message {
            biz_type,
            ext_header,
            ..Message::of("body")
        };
        from.send(message.clone()).await?;
        to.inbox().message().await?.must_be(&message)?;
        let answer = from.request(message.clone()).await?;
        same(&answer, &message.payload)?;
        to.inbox().request().await?.must_be(&message)?;
    }
    let long = Message {
        ext_header: noise(65_535),
        ..Message::of("")
    };
    from.send(long.clone()).await?;
    to.inbox().message().await?.must_be(&long)
}

async fn compressed(
    from: &mut impl Side,
    to: &mut impl Side,
    codec: Codec,
    len: usize,
) -> Outcome<()> {
    let answer_type = if codec == Codec::Zstd {
        ANSWER_IN_ZSTD
    } else {
        ANSWER_IN_ZLIB
    };
    let payload: Bytes = b"the same words again; "
        .iter()
        .copied()
        .cycle()
        .take(len)
        .collect();
    let message = Message {
        codec,
        ..Message::of(payload)
    };
    from.send(message.clone()).await?;
    to.inbox().message().await?.must_be(&message)?;
    let message = Message {
        biz_type: answer_type,
        ..message
    };
    let answer = from.request(message.clone()).await?;
    same(&answer, &message.payload)?;
    to.inbox().request().await?.must_be(&message)?;
    // What a side counts shows when it has looked up from its work, at the latest for the next request.
    request(from, to, 1).await?;
    // Three payloads went over the wire; not one of them at its full length.
    let traffic = from.traffic().or(to.traffic()).ok_or("nobody counted")?;
    match traffic {
        (read, written) if read > 0 && written > 0 && read + written < len as u64 => Ok(()),
        other => Err(format!(
            "{other:?} bytes read and written for payloads of {len}"
        )),
    }
}

async fn both_at_once(
    server: &mut impl Server,
    client: &mut impl Client,
    count: usize,
    len: usize,
) -> Outcome<()> {
    async fn send_all(from: &impl Side, count: usize, len: usize) -> Outcome<()> {
        for number in 0..count {
            from.send(numbered(number, len)).await?;
        }
        Ok(())
    }
    let (down, up) = tokio::join!(send_all(server, count, len), send_all(client, count, len));
    down.and(up)?;
    expect_numbered(server, count, len).await?;
    expect_numbered(client, count, len).await
}

async fn push_before_the_first_word(
    server: &mut impl Server,
    client: &mut impl Client,
) -> Outcome<()> {
    server.session().await?;
    let (push, hello) = (Message::of("the server first"), Message::of("hello"));
    let speak_late = async {
        sleep(Duration::from_millis(300)).await;
        client.send(hello.clone()).await
    };
    // Together: over QUIC a push is written when the client's stream has appeared.
    let (pushed, spoke) = tokio::join!(server.send(push.clone()), speak_late);
    pushed.and(spoke)?;
    client.inbox().message().await?.must_be(&push)?;
    server.inbox().message().await?.must_be(&hello)
}

async fn listen_only(server: &mut impl Server, client: &mut impl Client) -> Outcome<()> {
    server.session().await?;
    for number in 0..20 {
        let message = numbered(number, 5000);
        server.send(message.clone()).await?;
        client.inbox().message().await?.must_be(&message)?;
        sleep(Duration::from_millis(25)).await;
    }
    server.inbox().must_be_empty()
}

async fn requests_to_a_listener(server: &mut impl Server, client: &mut impl Client) -> Outcome<()> {
    server.session().await?;
    for len in [1, 100 * KIB] {
        request(server, client, len).await?;
    }
    Ok(())
}

async fn unanswered(from: &mut impl Side, to: &mut impl Side) -> Outcome<()> {
    let message = Message {
        biz_type: UNANSWERED,
        ..Message::of("in vain")
    };
    let wait = Duration::from_millis(500);
    if let Some(answer) = from.request_within(message.clone(), wait).await? {
        return Err(format!("an answer of {} bytes", answer.len()));
    }
    to.inbox().request().await?.must_be(&message)?;
    // The session goes on.
    request(from, to, 1000).await
}

/// Whether the sender refuses or the receiver closes, nothing of it may arrive.
async fn too_large(from: &mut impl Side, to: &mut impl Side) -> Outcome<()> {
    let sent = from.send(Message::of(noise(16 * MIB + 1))).await;
    match timeout(Duration::from_secs(5), to.inbox().end()).await {
        Ok(_) => to.inbox().must_be_empty(),
        Err(_) if sent.is_err() => request(from, to, 1000).await,
        Err(_) => Err("it was sent and the session goes on".to_owned()),
    }
}

/// Long enough for the published crate to ask over WebSocket three times whether the other side lives.
async fn silence(server: &mut impl Server, client: &mut impl Client) -> Outcome<()> {
    sleep(Duration::from_secs(3)).await;
    request(client, server, 1000).await?;
    request(server, client, 1000).await
}

async fn close_behind(from: &mut impl Side, to: &mut impl Side, count: usize) -> Outcome<()> {
    for number in 0..count {
        from.send(numbered(number, 1000)).await?;
    }
    from.close().await?;
    expect_numbered(to, count, 1000).await?;
    to.inbox().end().await
}

async fn reconnect(server: &mut impl Server, client: &mut impl Client) -> Outcome<()> {
    for _ in 0..3 {
        client.close().await?;
        server.inbox().end().await?;
        client.reconnect().await?;
        greet(server, client).await?;
        request(client, server, 1000).await?;
    }
    Ok(())
}

/// Bytes that do not compress, the same in every run.
fn noise(len: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ len as u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// A message of `len` bytes that says which it is.
fn numbered(number: usize, len: usize) -> Message {
    let mut payload = number.to_be_bytes().to_vec();
    payload.extend_from_slice(&noise(len.saturating_sub(payload.len())));
    Message::of(payload)
}

/// However the session has ended, it has.
fn unless_it_never_came(why: String) -> Outcome<()> {
    if why == NEVER_ENDED { Err(why) } else { Ok(()) }
}

fn same(answer: &Bytes, asked: &Bytes) -> Outcome<()> {
    if answer == asked {
        Ok(())
    } else {
        Err(format!(
            "{:?} was answered with {:?}",
            Message::of(asked.clone()),
            Message::of(answer.clone())
        ))
    }
}
