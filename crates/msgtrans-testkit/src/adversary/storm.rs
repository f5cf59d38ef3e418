//! Adversarial frames by the thousand, over any number of connections at once.
//!
//! Each connection opens a session, sends legal but strange frames in writes that are cut anywhere, and ends with a
//! fatal one, in the middle of a frame, or without a word. A fatal frame must end the connection; a legal one must not.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::frame::Frame;
use super::harness::BoxFuture;
use super::hostile;
use super::seed::Seed;
use super::websocket::{self, ClientFrame, opcode};
use super::wire::Wire;

/// A connection attempt or an end that takes this long does not come.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most legal frames in one connection.
const FRAMES_MAX: usize = 400;
/// The bytes after which what was drawn is written.
const WRITE: usize = 16 * 1024;

/// What a storm needs of a connection.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How packets lie on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Back to back.
    Bytes,
    /// Each in a message of WebSocket; the upgrade has not been asked for yet.
    WebSocket,
}

/// Opens a stream.
pub type Dial = Box<dyn Fn() -> BoxFuture<io::Result<Box<dyn Stream>>> + Send + Sync>;

/// Where a storm goes.
pub struct Target {
    /// What it speaks.
    pub name: &'static str,
    /// How packets lie on its streams.
    pub layer: Layer,
    /// Opens a stream.
    pub dial: Dial,
}

impl Target {
    /// A stream with an open session of version 2.
    ///
    /// # Errors
    /// Nobody listens, or there is no session.
    pub async fn session(&self) -> io::Result<Box<dyn Stream>> {
        open(self.layer, (self.dial)().await?).await
    }

    /// A stream on which the first frame decides the version.
    ///
    /// # Errors
    /// Nobody listens, or the upgrade is refused.
    pub async fn undecided(&self) -> io::Result<Box<dyn Stream>> {
        let mut stream = (self.dial)().await?;
        if self.layer == Layer::WebSocket {
            websocket::upgrade_with(&mut stream, "localhost", "").await?;
        }
        Ok(stream)
    }

    /// A frame as it lies on this target's streams.
    pub fn bytes_of(&self, frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(self.layer, frame, &mut bytes);
        bytes
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.name).finish()
    }
}

/// What a storm has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames sent, the fatal ones among them.
    pub frames: u64,
    /// Connections opened.
    pub connections: u64,
    /// Connections that a fatal frame has ended.
    pub cut: u64,
}

/// Sends at least `frames` frames, spread over `targets`, with `at_once` connections at a time.
///
/// # Errors
/// The first connection that was not treated as it must be, with what reproduces it.
pub async fn run(
    targets: Vec<Target>,
    seed: u64,
    frames: u64,
    at_once: usize,
) -> Result<Tally, String> {
    let targets = Arc::new(targets);
    let sent = Arc::new(AtomicU64::new(0));
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..at_once {
        let (targets, sent, next) = (targets.clone(), sent.clone(), next.clone());
        workers.spawn(async move {
            let mut tally = Tally::default();
            while sent.load(Ordering::Relaxed) < frames {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let index = usize::try_from(number).unwrap_or(0) % targets.len();
                let target = &targets[index];
                let one = connection(target, Seed::new(seed).part(number))
                    .await
                    .map_err(|what| {
                        format!("{} (seed {seed}, connection {number}): {what}", target.name)
                    })?;
                sent.fetch_add(one.frames, Ordering::Relaxed);
                tally.frames += one.frames;
                tally.connections += one.connections;
                tally.cut += one.cut;
            }
            Ok::<_, String>(tally)
        });
    }
    let mut total = Tally::default();
    while let Some(tally) = workers.join_next().await {
        let tally = tally.map_err(|error| error.to_string())??;
        total.frames += tally.frames;
        total.connections += tally.connections;
        total.cut += tally.cut;
    }
    Ok(total)
}

/// How a connection ends.
enum End {
    Fatal(Vec<u8>, &'static str),
    /// In the middle of a frame.
    Torn(Vec<u8>),
    Silent,
}

async fn connection(target: &Target, mut seed: Seed) -> Result<Tally, String> {
    let stream = timeout(PATIENCE, (target.dial)())
        .await
        .map_err(|_| "no connection in time".to_owned())?
        .map_err(|error| format!("no connection: {error}"))?;
    let stream = open(target.layer, stream)
        .await
        .map_err(|error| format!("no session: {error}"))?;
    let (mut reader, mut writer) = split(stream);
    let reading = tokio::spawn(async move {
        let mut answers = vec![0; 16 * 1024];
        while matches!(reader.read(&mut answers).await, Ok(1..)) {}
        reader
    });
    let frames = seed.between(1, FRAMES_MAX);
    let end = end(target.layer, &mut seed);
    let mut batch = Vec::with_capacity(WRITE + 1_024);
    for number in 0..frames {
        put(target.layer, &hostile::legal(&mut seed), &mut batch);
        if batch.len() >= WRITE || number + 1 == frames {
            write(&mut writer, &batch, &mut seed)
                .await
                .map_err(|error| format!("cut after {number} legal frames: {error}"))?;
            batch.clear();
        }
    }
    let mut tally = Tally {
        frames: frames as u64,
        connections: 1,
        cut: 0,
    };
    let (last, why) = match end {
        End::Fatal(bytes, why) => (bytes, Some(why)),
        End::Torn(bytes) => (bytes, None),
        End::Silent => (Vec::new(), None),
    };
    tally.frames += u64::from(!last.is_empty());
    // The server may have closed before all of a fatal frame has gone.
    let _ = writer.write_all(&last).await;
    let _ = writer.flush().await;
    if let Some(why) = why {
        let ended = timeout(PATIENCE, reading).await;
        ended
            .map_err(|_| format!("not closed after {why}"))?
            .map_err(|it| it.to_string())?;
        tally.cut = 1;
    } else {
        reading.abort();
        let _ = reading.await;
    }
    Ok(tally)
}

async fn open(layer: Layer, mut stream: Box<dyn Stream>) -> io::Result<Box<dyn Stream>> {
    match layer {
        Layer::Bytes => {
            let mut wire = Wire::over(stream);
            wire.open().await?;
            Ok(wire.stream)
        }
        Layer::WebSocket => {
            websocket::upgrade(&mut stream, "localhost").await?;
            let hello = ClientFrame::new(opcode::BINARY, Frame::hello().bytes());
            stream.write_all(&hello.bytes()).await?;
            stream.flush().await?;
            let welcome = timeout(PATIENCE, websocket::read(&mut stream)).await?;
            welcome.ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(stream)
        }
    }
}

fn put(layer: Layer, frame: &Frame, batch: &mut Vec<u8>) {
    match layer {
        Layer::Bytes => frame.put(batch),
        Layer::WebSocket => ClientFrame::new(opcode::BINARY, frame.bytes()).put(batch),
    }
}

fn end(layer: Layer, seed: &mut Seed) -> End {
    match (seed.below(8), layer) {
        (0, _) => End::Silent,
        (1, _) => {
            let mut bytes = Vec::new();
            let frame = Frame::v2(super::kind::ONE_WAY).payload(seed.bytes(100));
            put(layer, &frame, &mut bytes);
            bytes.truncate(seed.between(1, bytes.len() - 1));
            End::Torn(bytes)
        }
        (2..=4, Layer::WebSocket) => {
            let (bytes, why) = hostile::fatal_websocket(seed);
            End::Fatal(bytes, why)
        }
        (_, Layer::WebSocket) => {
            let (frame, why) = hostile::fatal(seed);
            End::Fatal(ClientFrame::new(opcode::BINARY, frame).bytes(), why)
        }
        (_, Layer::Bytes) => {
            let (bytes, why) = hostile::fatal(seed);
            End::Fatal(bytes, why)
        }
    }
}

/// Writes in one go, in two, or in a handful of small ones.
async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    seed: &mut Seed,
) -> io::Result<()> {
    let mut rest = bytes;
    for _ in 0..seed.pick(&[0, 0, 1, 1, 5]) {
        let (now, later) = rest.split_at(seed.below(rest.len().min(64) + 1));
        writer.write_all(now).await?;
        writer.flush().await?;
        rest = later;
    }
    writer.write_all(rest).await?;
    writer.flush().await
}
