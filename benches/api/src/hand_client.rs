//! The client that one writes by hand for nothing but requests on one TCP connection: a reader and a writer task,
//! batches in both, a slab of oneshots between.
//!
//! No deadlines, no bounds, no reconnect, no cancel: what a request costs when nothing else is looked after.

use crate::Trouble;
use bench_kit::frame::{self, HEADER_LEN, HELLO, Header, PING, PONG, REQUEST, RESPONSE, WELCOME};
use bytes::{Buf, Bytes, BytesMut};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

const VERSION: u8 = 2;
const READ: usize = 64 * 1024;
/// Messages taken from the queue at once.
const BATCH: usize = 1024;
/// max_frame in Hello.
const MAX_FRAME: u32 = 1 << 20;

/// See the module.
#[derive(Clone)]
pub(crate) struct HandClient {
    waiting: Arc<Mutex<Slab>>,
    queue: mpsc::UnboundedSender<Out>,
}

/// A frame to write.
struct Out {
    packet_type: u8,
    id: u32,
    payload: Bytes,
}

/// Who waits for which answer: the id is the place, from 1 on.
#[derive(Default)]
struct Slab {
    places: Vec<Option<oneshot::Sender<Bytes>>>,
    free: Vec<u32>,
}

impl Slab {
    fn insert(&mut self, waiter: oneshot::Sender<Bytes>) -> u32 {
        if let Some(id) = self.free.pop() {
            self.places[id as usize - 1] = Some(waiter);
            return id;
        }
        self.places.push(Some(waiter));
        self.places.len() as u32
    }

    fn remove(&mut self, id: u32) -> Option<oneshot::Sender<Bytes>> {
        let at = (id as usize).checked_sub(1)?;
        let waiter = self.places.get_mut(at)?.take()?;
        self.free.push(id);
        Some(waiter)
    }
}

impl HandClient {
    pub(crate) async fn connect(address: &str) -> Result<Self, Trouble> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        greet(&mut stream).await?;
        let (reader, writer) = stream.into_split();
        let (queue, outgoing) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Slab::default()));
        tokio::spawn(write_all(writer, outgoing));
        tokio::spawn(read_all(reader, waiting.clone(), queue.clone()));
        Ok(Self { waiting, queue })
    }

    pub(crate) async fn request(&self, payload: Bytes) -> Result<Bytes, Trouble> {
        let (sender, receiver) = oneshot::channel();
        let id = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sender);
        self.queue.send(Out {
            packet_type: REQUEST,
            id,
            payload,
        })?;
        Ok(receiver.await?)
    }
}

async fn greet(stream: &mut TcpStream) -> Result<(), Trouble> {
    let mut tlvs = Vec::new();
    frame::push_tlv(&mut tlvs, 1, &MAX_FRAME.to_be_bytes());
    frame::push_tlv(&mut tlvs, 2, &0u32.to_be_bytes());
    let mut hello = BytesMut::new();
    push(&mut hello, HELLO, 0, &tlvs);
    stream.write_all(&hello).await?;
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).await?;
    let header = Header::decode(&head).ok_or("no header")?;
    if header.packet_type != WELCOME {
        return Err(format!("expected Welcome, got {header:?}").into());
    }
    let mut rest = vec![0; header.frame_len() - HEADER_LEN];
    stream.read_exact(&mut rest).await?;
    Ok(())
}

fn push(out: &mut BytesMut, packet_type: u8, id: u32, payload: &[u8]) {
    let header = Header {
        version: VERSION,
        packet_type,
        message_id: id,
        payload_len: payload.len() as u32,
        ..Header::default()
    };
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(payload);
}

/// Everything that is queued goes out in one write. The yield lets all who are about to ask do so first.
async fn write_all(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Out>,
) -> std::io::Result<()> {
    let (mut batch, mut bytes) = (Vec::with_capacity(BATCH), BytesMut::new());
    loop {
        let Some(first) = queue.recv().await else {
            return Ok(());
        };
        tokio::task::yield_now().await;
        batch.push(first);
        while let Ok(next) = queue.try_recv() {
            batch.push(next);
        }
        for out in batch.drain(..) {
            push(&mut bytes, out.packet_type, out.id, &out.payload);
        }
        writer.write_all(&bytes).await?;
        bytes.clear();
    }
}

/// Hands each answer to who waits for it, as a slice of what was read.
async fn read_all(
    mut reader: OwnedReadHalf,
    waiting: Arc<Mutex<Slab>>,
    queue: mpsc::UnboundedSender<Out>,
) -> Result<(), Trouble> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(header) = Header::decode(&buffer) {
            if buffer.len() < header.frame_len() {
                break;
            }
            let mut frame = buffer.split_to(header.frame_len()).freeze();
            frame.advance(HEADER_LEN + usize::from(header.ext_header_len));
            match header.packet_type {
                RESPONSE => {
                    if let Some(waiter) = waiting.remove(header.message_id) {
                        // Whoever asked may have gone.
                        let _ = waiter.send(frame);
                    }
                }
                PING => queue.send(Out {
                    packet_type: PONG,
                    id: header.message_id,
                    payload: frame,
                })?,
                _ => {}
            }
        }
    }
}
