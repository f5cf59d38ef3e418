//! Echoes and one-way messages of a whole server over loopback; the client is a thread that writes a batch and reads what
//! comes back, in one call each, so that nearly all that is counted is the server's.

use crate::{BATCH, PAYLOAD};
use bench_kit::frame::{self, HEADER_LEN, Header};
use bench_kit::websocket::{self, BINARY, HEADER_MAX};
use msgtrans::{Handler, HandlerError, Packet, Session, TransportServer};
use msgtrans_lockfree::Counter;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use tokio::sync::oneshot;

const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0xe8];
const KEY: &str = "bXNndHJhbnMtYmVuY2gtMQ==";
/// Batches of one-way messages in front of a request: as many as a read brings when nobody waits for answers.
const BATCHES: u32 = 50;

struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session.send(packet).await?;
        Ok(())
    }
}

/// As `msgtrans serve --sink`.
#[derive(Default)]
struct Sink {
    count: Counter,
}

impl Handler for Sink {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        self.count.add(1);
        Ok(())
    }

    async fn on_request(&self, _: &Session, _: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(self.count.get().to_be_bytes().to_vec()))
    }
}

pub(crate) fn tcp(times: u32) -> Result<(), String> {
    serve("tcp://127.0.0.1:0", BATCH as usize, times)
}

pub(crate) fn ws(times: u32) -> Result<(), String> {
    serve("ws://127.0.0.1:0", BATCH as usize, times)
}

pub(crate) fn lone_tcp(times: u32) -> Result<(), String> {
    serve("tcp://127.0.0.1:0", 1, times)
}

pub(crate) fn lone_ws(times: u32) -> Result<(), String> {
    serve("ws://127.0.0.1:0", 1, times)
}

/// One-way messages, and after some batches a request whose response carries their count.
pub(crate) fn one_way(times: u32) -> Result<(), String> {
    run("tcp://127.0.0.1:0", Sink::default(), move |url| {
        sender(url, times)
    })
}

/// `together` messages are written before the first of them is read back.
fn serve(url: &str, together: usize, times: u32) -> Result<(), String> {
    run(url, Echo, move |url| client(url, together, times))
}

fn run(
    url: &str,
    handler: impl Handler,
    client: impl FnOnce(&str) -> io::Result<()> + Send + 'static,
) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        // As `msgtrans serve` where nothing needs the timers.
        .enable_io()
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let server = TransportServer::builder()
            .with_protocol(url)
            .with_handler(handler)
            .build()
            .await
            .map_err(|error| error.to_string())?;
        server.start().map_err(|error| error.to_string())?;
        let endpoints = server.local_endpoints();
        let url = endpoints.first().ok_or("it listens nowhere")?.to_string();
        let (done, ended) = oneshot::channel();
        std::thread::spawn(move || {
            // Who waits for it ends the process.
            let _ = done.send(client(&url).map_err(|error| error.to_string()));
        });
        ended.await.map_err(|error| error.to_string())?
    })
}

/// A connection that the server has welcomed, and whether it speaks WebSocket.
fn connect(url: &str) -> io::Result<(TcpStream, bool)> {
    let (scheme, address) = url.split_once("://").unwrap_or_default();
    let ws = scheme == "ws";
    let address = address.trim_end_matches('/');
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    if ws {
        upgrade(&mut stream, address)?;
    }
    let mut hello = Vec::new();
    frame::push_tlv(&mut hello, 1, &16_842_767u32.to_be_bytes());
    frame::push_tlv(&mut hello, 2, &0u32.to_be_bytes());
    stream.write_all(&enveloped(ws, frame::HELLO, 0, &hello))?;
    // Welcome is all that comes, and it is short enough to come whole.
    let mut welcome = [0; 1024];
    if stream.read(&mut welcome)? < HEADER_LEN {
        return Err(io::Error::other("no Welcome"));
    }
    Ok((stream, ws))
}

fn sender(url: &str, times: u32) -> io::Result<()> {
    let (mut stream, _) = connect(url)?;
    let batch: Vec<_> = (1..=BATCH).map(|id| message(false, id).0).collect();
    let mut batches = batch.concat().repeat(BATCHES as usize);
    batches.extend(header(frame::REQUEST, 1, 0).encode());
    let mut response = [0; HEADER_LEN + size_of::<u64>()];
    for turn in 1..=times / BATCHES {
        stream.write_all(&batches)?;
        stream.read_exact(&mut response)?;
        let due = u64::from(turn * BATCHES * BATCH);
        if response[HEADER_LEN..] != due.to_be_bytes() {
            return Err(io::Error::other("another count than was sent"));
        }
    }
    Ok(())
}

fn client(url: &str, together: usize, times: u32) -> io::Result<()> {
    let (mut stream, ws) = connect(url)?;
    let (sent, due): (Vec<_>, Vec<_>) = (1..=BATCH).map(|id| message(ws, id)).unzip();
    let batches = sent.chunks(together).zip(due.chunks(together));
    let batches: Vec<_> = batches
        .map(|(sent, due)| (sent.concat(), due.concat()))
        .collect();
    let mut got = vec![0; due.concat().len()];
    for _ in 0..times {
        for (sent, due) in &batches {
            let got = &mut got[..due.len()];
            stream.write_all(sent)?;
            stream.read_exact(got)?;
            if got != due {
                return Err(io::Error::other("another echo than was sent"));
            }
        }
    }
    Ok(())
}

/// What is sent, and what comes back for it.
fn message(ws: bool, id: u32) -> (Vec<u8>, Vec<u8>) {
    let payload = [id as u8; PAYLOAD];
    let mut due = Vec::new();
    if ws {
        due.extend([BINARY, (HEADER_LEN + PAYLOAD) as u8]);
    }
    due.extend(header(frame::ONE_WAY, id, PAYLOAD).encode());
    due.extend(payload);
    (enveloped(ws, frame::ONE_WAY, id, &payload), due)
}

fn upgrade(stream: &mut TcpStream, host: &str) -> io::Result<()> {
    let request = websocket::upgrade_request(host, KEY, Some("msgtrans.v2"));
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    while websocket::http_head_len(&head).is_none() {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return Err(io::Error::other("no upgrade"));
    }
    Ok(())
}

fn header(packet_type: u8, message_id: u32, payload: usize) -> Header {
    Header {
        version: 2,
        packet_type,
        message_id,
        payload_len: payload as u32,
        ..Header::default()
    }
}

fn enveloped(ws: bool, packet_type: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let frame = [
        &header(packet_type, id, payload.len()).encode()[..],
        payload,
    ]
    .concat();
    if !ws {
        return frame;
    }
    let mut head = [0; HEADER_MAX];
    let len = websocket::encode_head(&mut head, BINARY, frame.len(), Some(MASK));
    let mut out = head[..len].to_vec();
    websocket::extend_masked(&mut out, &frame, MASK);
    out
}
