//! Two tasks of one process: messages through `inproc://` beside a pair of tokio channels, and beside the memory alone.

pub(crate) mod pipelined;

use crate::{Time, Trouble, Who};
use bench_kit::process::cpu_ns;
use bytes::Bytes;
use hdrhistogram::Histogram;
use msgtrans::{
    Handler, HandlerError, Packet, Session, TransportClient, TransportEvent, TransportServer,
};
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const URL: &str = "inproc://bench";
const SMALL: usize = 64;
const LARGE: usize = 1024 * 1024;
/// Together more than any cache holds, so that reading them is reading memory.
const BUFFERS: usize = 256;
/// Messages of 1 MiB under way: what the bounds of a session allow, and less than all buffers.
const WINDOW: u64 = 2;
/// What the two directions of a channel hold.
const ROOM: usize = 16;
/// One turn in so many is timed.
const TIMED: u64 = 16;

/// The clock of a run.
struct Clock {
    begin: Instant,
    warm_up: Duration,
    duration: Duration,
    started: Option<(Instant, u64, u64)>,
    turns: u64,
    latency: Histogram<u64>,
}

impl Clock {
    fn new(time: &Time) -> Result<Self, Trouble> {
        let (warm_up, duration) = time.durations()?;
        Ok(Self {
            begin: Instant::now(),
            warm_up,
            duration,
            started: None,
            turns: 0,
            latency: Histogram::new_with_max(60_000_000_000, 3)?,
        })
    }

    /// Called for each turn; the moment where it is one that is timed, `None` in `Err` when time is over.
    fn turn(&mut self, every: u64) -> Result<Option<Option<Instant>>, Trouble> {
        self.turns += 1;
        if !self.turns.is_multiple_of(every) {
            return Ok(Some(None));
        }
        let now = Instant::now();
        match self.started {
            None if now - self.begin >= self.warm_up => {
                self.started = Some((now, cpu_ns(std::process::id())?, self.turns));
            }
            Some((started, ..)) if now - started >= self.duration => return Ok(None),
            _ => {}
        }
        Ok(Some(Some(now)))
    }

    fn record(&mut self, began: Instant) -> Result<(), Trouble> {
        if self.started.is_some() {
            let taken = (began.elapsed().as_nanos() as u64).clamp(1, self.latency.high());
            self.latency.record(taken)?;
        }
        Ok(())
    }

    /// Prints what was measured; `bytes` of a turn give a bandwidth.
    fn print(&self, bytes: usize) -> Result<(), Trouble> {
        let (began, cpu, turns) = self.started.ok_or("no measured time")?;
        let cpu = cpu_ns(std::process::id())? - cpu;
        let turns = (self.turns - turns) as f64;
        let seconds = began.elapsed().as_secs_f64();
        let micros = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let mut line = json!({
            "messages": turns,
            "messages_per_s": turns / seconds,
            "cpu_ns_per_message": cpu as f64 / turns,
            "bytes_per_s": bytes as f64 * turns / seconds,
        });
        if !self.latency.is_empty() {
            line["latency_us"] =
                json!({ "p50": micros(0.5), "p99": micros(0.99), "p999": micros(0.999) });
        }
        println!("{line}");
        Ok(())
    }
}

struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session.send(packet).await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

async fn client_of(handler: impl Handler) -> Result<(TransportServer, TransportClient), Trouble> {
    let server = TransportServer::builder()
        .with_protocol(URL)
        .with_handler(handler)
        .build()
        .await?;
    server.start()?;
    let client = TransportClient::builder()
        .with_protocol(URL)
        .build()
        .await?;
    client.connect().await?;
    Ok((server, client))
}

/// 64 B there and back.
pub(crate) async fn tasks(who: Who, requests: bool, time: &Time) -> Result<(), Trouble> {
    let payload = Bytes::from(vec![0x5a; SMALL]);
    let mut clock = Clock::new(time)?;
    match (who, requests) {
        (Who::Ours, true) => {
            let (_server, client) = client_of(Echo).await?;
            while let Some(began) = clock.turn(TIMED)? {
                let answer = client.request(payload.clone()).await?;
                check(&answer.payload, &payload)?;
                began.map_or(Ok(()), |began| clock.record(began))?;
            }
        }
        (Who::Ours, false) => {
            let (_server, client) = client_of(Echo).await?;
            let mut events = client.events();
            while let Some(began) = clock.turn(TIMED)? {
                client.send(payload.clone()).await?;
                let answer = loop {
                    match events.next().await {
                        Some(TransportEvent::MessageReceived { packet, .. }) => break packet,
                        Some(TransportEvent::ConnectionEstablished { .. }) => {}
                        other => return Err(format!("{other:?}").into()),
                    }
                };
                check(&answer.payload, &payload)?;
                began.map_or(Ok(()), |began| clock.record(began))?;
            }
        }
        (Who::Hand, _) => {
            let (there, mut at_peer) = mpsc::channel::<Bytes>(ROOM);
            let (back, mut answers) = mpsc::channel::<Bytes>(ROOM);
            tokio::spawn(async move {
                while let Some(message) = at_peer.recv().await {
                    if back.send(message).await.is_err() {
                        return;
                    }
                }
            });
            while let Some(began) = clock.turn(TIMED)? {
                there.send(payload.clone()).await?;
                let answer = answers.recv().await.ok_or("the peer has gone")?;
                check(&answer, &payload)?;
                began.map_or(Ok(()), |began| clock.record(began))?;
            }
        }
    }
    clock.print(2 * SMALL)
}

fn check(answer: &Bytes, payload: &Bytes) -> Result<(), Trouble> {
    if answer == payload {
        Ok(())
    } else {
        Err("another payload came back".into())
    }
}

/// Reads every byte of what comes.
#[derive(Default)]
struct Reader {
    messages: AtomicU64,
    sum: AtomicU64,
}

/// Eight bytes at a time.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().fold(0u64, |sum, word| {
        sum.wrapping_add(u64::from_ne_bytes(*word))
    });
    rest.iter()
        .fold(words, |sum, byte| sum.wrapping_add(u64::from(*byte)))
}

impl Handler for ReaderHandle {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        let reader = &self.0;
        // Relaxed: one task adds, and whoever reads waits for its message first.
        reader.sum.fetch_add(sum(&packet.payload), Relaxed);
        let messages = reader.messages.fetch_add(1, Relaxed) + 1;
        session
            .send(Packet::binary(messages.to_be_bytes().to_vec()))
            .await?;
        Ok(())
    }
}

struct ReaderHandle(Arc<Reader>);

/// 1 MiB in one direction, every byte read.
pub(crate) async fn bulk(who: Who, time: &Time) -> Result<(), Trouble> {
    let buffers: Vec<Bytes> = (0..BUFFERS)
        .map(|index| Bytes::from(vec![index as u8 | 1; LARGE]))
        .collect();
    let mut clock = Clock::new(time)?;
    let mut expected = 0u64;
    match who {
        Who::Ours => {
            let reader = Arc::new(Reader::default());
            let (_server, client) = client_of(ReaderHandle(reader.clone())).await?;
            let mut events = client.events();
            let (mut sent, mut taken) = (0u64, 0u64);
            let mut over = false;
            while !over || taken < sent {
                while !over && sent - taken < WINDOW {
                    over = clock.turn(1)?.is_none();
                    let buffer = &buffers[sent as usize % BUFFERS];
                    expected = expected.wrapping_add(sum_of(sent as usize % BUFFERS));
                    client.send(buffer.clone()).await?;
                    sent += 1;
                }
                match events.next().await {
                    Some(TransportEvent::MessageReceived { .. }) => taken += 1,
                    Some(TransportEvent::ConnectionEstablished { .. }) => {}
                    other => return Err(format!("{other:?}").into()),
                }
            }
            if reader.sum.load(Relaxed) != expected {
                return Err("the reader has seen other bytes".into());
            }
        }
        Who::Hand => {
            let (mut sent, mut seen) = (0usize, 0u64);
            while clock.turn(1)?.is_some() {
                let buffer = black_box(&buffers[sent % BUFFERS]);
                expected = expected.wrapping_add(sum_of(sent % BUFFERS));
                seen = seen.wrapping_add(sum(buffer));
                sent += 1;
            }
            if seen != expected {
                return Err("the reader has seen other bytes".into());
            }
        }
    }
    clock.print(LARGE)
}

/// What [`sum`] makes of the buffer of this index, which is filled with one value.
fn sum_of(index: usize) -> u64 {
    let word = u64::from_ne_bytes([index as u8 | 1; 8]);
    word.wrapping_mul((LARGE / 8) as u64)
}
