//! Exchanges over TCP, recorded byte by byte between the two crates for the facade's tests to replay.
//!
//! A recording is a list of turns, each one byte that says who wrote (`P` the published crate, `O` ours), the length as
//! u32, big-endian, and the bytes. The scripts take turns strictly, so that a recording is the same each time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::peer::{Client, Codec, Message, Outcome, Protocol, Server, Side, failed};
use crate::side_ours::{OurClient, OurServer};
use crate::side_published::{PublishedClient, PublishedServer};

/// Where the tests look.
const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../crates/msgtrans/tests/fixtures/interop"
);

/// Records everything anew.
pub(crate) async fn all() -> Outcome<()> {
    let folder = Path::new(FOLDER);
    std::fs::create_dir_all(folder).map_err(failed("no folder"))?;

    let mut tape = Tape::<OurServer, PublishedClient>::start(b'P').await?;
    requests(&mut tape.client).await?;
    tape.end(folder.join("published_client_requests.bin"))
        .await?;

    let mut tape = Tape::<OurServer, PublishedClient>::start(b'P').await?;
    messages(&mut tape.client, &mut tape.server).await?;
    tape.end(folder.join("published_client_messages.bin"))
        .await?;

    let mut tape = Tape::<OurServer, PublishedClient>::start(b'P').await?;
    compressed(&mut tape.client, &mut tape.server).await?;
    tape.end(folder.join("published_client_compressed.bin"))
        .await?;

    let mut tape = Tape::<OurServer, PublishedClient>::start(b'P').await?;
    tape.server.session().await?;
    spoken_to(&mut tape.server, &mut tape.client).await?;
    tape.end(folder.join("published_client_listens.bin"))
        .await?;

    let mut tape = Tape::<PublishedServer, OurClient>::start(b'O').await?;
    requests(&mut tape.client).await?;
    tape.end(folder.join("published_server_answers.bin"))
        .await?;

    let mut tape = Tape::<PublishedServer, OurClient>::start(b'O').await?;
    tape.server.session().await?;
    spoken_to(&mut tape.server, &mut tape.client).await?;
    compressed(&mut tape.server, &mut tape.client).await?;
    tape.end(folder.join("published_server_speaks.bin")).await
}

fn tagged(biz_type: u8, ext_header: &'static str, payload: impl Into<Bytes>) -> Message {
    let ext_header = Bytes::from_static(ext_header.as_bytes());
    Message {
        biz_type,
        ext_header,
        ..Message::of(payload)
    }
}

/// `len` bytes that say where they stand.
fn counted(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// Requests that are answered with their payloads.
async fn requests(from: &mut impl Side) -> Outcome<()> {
    for request in [
        Message::of("?"),
        tagged(7, "route:42", counted(1000)),
        tagged(0, "", ""),
        tagged(255, "", counted(9000)),
    ] {
        let answer = from.request(request.clone()).await?;
        Message::of(answer).must_be(&Message::of(request.payload))?;
    }
    Ok(())
}

/// Messages that are sent back as they came.
async fn messages(from: &mut impl Client, to: &mut impl Server) -> Outcome<()> {
    let messages = [
        Message::of("first"),
        tagged(9, "route:7", counted(3000)),
        tagged(1, "empty", ""),
    ];
    for (number, message) in messages.into_iter().enumerate() {
        from.send(message.clone()).await?;
        if number == 0 {
            to.session().await?;
        }
        to.inbox().message().await?.must_be(&message)?;
        to.send(message.clone()).await?;
        from.inbox().message().await?.must_be(&message)?;
    }
    Ok(())
}

/// Requests that one side compresses, answered plainly; our side may change its compressor, the recording not.
async fn compressed(from: &mut impl Side, to: &mut impl Side) -> Outcome<()> {
    let payload: Vec<u8> = b"again and ".iter().copied().cycle().take(4000).collect();
    for codec in [Codec::Zstd, Codec::Zlib] {
        let request = Message {
            codec,
            ..tagged(3, "", payload.clone())
        };
        let answer = from.request(request.clone()).await?;
        Message::of(answer).must_be(&Message::of(payload.clone()))?;
        to.inbox().request().await?.must_be(&request)?;
    }
    Ok(())
}

/// A client that says nothing of its own.
async fn spoken_to(server: &mut impl Server, client: &mut impl Client) -> Outcome<()> {
    let push = tagged(5, "push", "the server first");
    server.send(push.clone()).await?;
    client.inbox().message().await?.must_be(&push)?;
    for question in [
        tagged(6, "", "anybody there?"),
        tagged(0, "", counted(2000)),
    ] {
        let answer = server.request(question.clone()).await?;
        Message::of(answer).must_be(&Message::of(question.payload.clone()))?;
        client.inbox().request().await?.must_be(&question)?;
    }
    Ok(())
}

/// Who wrote, and what.
type Turns = Arc<Mutex<Vec<(u8, Vec<u8>)>>>;

/// A server, a client, and a wire between them that remembers.
struct Tape<S, C> {
    server: S,
    client: C,
    turns: Turns,
    wire: JoinHandle<Outcome<()>>,
}

impl<S: Server, C: Client> Tape<S, C> {
    /// `client` is who writes on the client's side.
    async fn start(client: u8) -> Outcome<Self> {
        let server = S::start(Protocol::Tcp.into()).await?;
        let target = server.port();
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(failed("no wire"))?;
        let port = listener.local_addr().map_err(failed("no wire"))?.port();
        let turns = Turns::default();
        let wire = tokio::spawn(carry(listener, target, client, turns.clone()));
        let client = C::connect(Protocol::Tcp.into(), port).await?;
        Ok(Self {
            server,
            client,
            turns,
            wire,
        })
    }

    /// The client closes, and the turns go into a file.
    async fn end(mut self, path: PathBuf) -> Outcome<()> {
        self.client.close().await?;
        drop(self.client);
        self.wire.await.map_err(failed("the wire"))??;
        self.server.stop();
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = Vec::new();
        for (who, bytes) in turns.iter() {
            let len = u32::try_from(bytes.len()).map_err(failed("a turn"))?;
            file.push(*who);
            file.extend_from_slice(&len.to_be_bytes());
            file.extend_from_slice(bytes);
        }
        println!(
            "{}: {} turns, {} bytes",
            path.display(),
            turns.len(),
            file.len()
        );
        std::fs::write(&path, file).map_err(failed("not written"))
    }
}

/// Carries one connection to `target`, which may not listen yet.
async fn carry(listener: TcpListener, target: u16, client: u8, turns: Turns) -> Outcome<()> {
    let (down, _) = listener.accept().await.map_err(failed("no client"))?;
    let mut attempts = 0;
    let up = loop {
        match TcpStream::connect(("127.0.0.1", target)).await {
            Ok(stream) => break stream,
            Err(_) if attempts < 200 => {
                attempts += 1;
                sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(format!("no server: {error}")),
        }
    };
    let server = if client == b'P' { b'O' } else { b'P' };
    let (from_client, to_client) = down.into_split();
    let (from_server, to_server) = up.into_split();
    let (up, down) = tokio::join!(
        copy(from_client, to_server, client, &turns),
        copy(from_server, to_client, server, &turns),
    );
    up.and(down)
}

async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    who: u8,
    turns: &Turns,
) -> Outcome<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let len = from.read(&mut buffer).await.map_err(failed("reading"))?;
        if len == 0 {
            // Both sides have closed when both copies are done.
            return to.shutdown().await.or(Ok(()));
        }
        {
            let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
            match turns.last_mut() {
                Some((last, bytes)) if *last == who => bytes.extend_from_slice(&buffer[..len]),
                _ => turns.push((who, buffer[..len].to_vec())),
            }
        }
        to.write_all(&buffer[..len])
            .await
            .map_err(failed("writing"))?;
    }
}
