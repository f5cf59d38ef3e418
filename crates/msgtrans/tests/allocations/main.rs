//! What a packet costs of the heap once a session is warm: nothing.
//!
//! A test binary of its own, because it counts the allocations of the whole process. The peer is a plain socket that
//! allocates nothing, so what is counted is the server's.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Buf;
use msgtrans::{Endpoint, Handler, HandlerError, Packet, Session, TransportServer, WireVersion};
use msgtrans_core::{OutBuffer, encode};
use msgtrans_mempool::CountingAllocator;

#[global_allocator]
static HEAP: CountingAllocator = CountingAllocator::new();

/// Longer than any machine needs.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most allocations a packet may cost, spread over many: buffers that are lost to another thread, growth of queues.
const PER_PACKET_MAX: f64 = 0.01;
/// Messages in flight where there are many.
const WINDOW: usize = 32;

#[derive(Debug)]
struct Echo;

impl Handler for Echo {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session.send(packet).await?;
        Ok(())
    }
}

/// One frame of 64 bytes of payload.
fn frame() -> Vec<u8> {
    let mut out = OutBuffer::new();
    let packet = Packet::binary(vec![7; 64]).with_message_id(1);
    encode(&packet, WireVersion::V1, &mut out).expect("encodes");
    out.copy_to_bytes(out.remaining()).to_vec()
}

/// The same as a masked WebSocket message, and the length of the answer to it.
fn masked(frame: &[u8]) -> (Vec<u8>, usize) {
    let key = [0x12, 0x34, 0x56, 0x78];
    let mut message = vec![0x82, 0x80 | frame.len() as u8];
    message.extend(key);
    message.extend(
        frame
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    (message, 2 + frame.len())
}

/// A peer after its protocol's own handshake, and what it says in one message.
fn dial(endpoint: &Endpoint) -> (TcpStream, Vec<u8>, usize) {
    let port = endpoint.port().expect("a port");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("no delay");
    let frame = frame();
    if endpoint.scheme() == "tcp" {
        let len = frame.len();
        return (stream, frame, len);
    }
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: msgtrans.v1\r\n\r\n"
    );
    stream.write_all(upgrade.as_bytes()).expect("written");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.extend(byte);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "refused");
    let (message, answer) = masked(&frame);
    (stream, message, answer)
}

/// Allocations a packet, of `rounds` in which `window` messages are written at once and their echoes read.
fn count(
    stream: &mut TcpStream,
    message: &[u8],
    answer: usize,
    window: usize,
    rounds: usize,
) -> f64 {
    let messages = message.repeat(window);
    let mut answers = vec![0; answer * window];
    let mut turn = |rounds: usize| {
        for _ in 0..rounds {
            stream.write_all(&messages).expect("written");
            stream.read_exact(&mut answers).expect("echoed");
        }
    };
    turn(rounds / 10);
    let before = HEAP.allocations();
    turn(rounds);
    (HEAP.allocations() - before) as f64 / (rounds * window) as f64
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what the test is run for"
)]
fn check(scheme: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let server = runtime.block_on(async {
        let endpoint: Endpoint = format!("{scheme}://127.0.0.1:0").parse().expect("parses");
        let server = TransportServer::builder()
            .with_protocol(endpoint)
            .with_handler(Echo)
            .build()
            .await
            .expect("builds");
        server.start().expect("starts");
        server
    });
    let (mut stream, message, answer) = dial(&server.local_endpoints()[0]);
    for (window, rounds) in [(1, 10_000), (WINDOW, 1_000)] {
        let each = count(&mut stream, &message, answer, window, rounds);
        println!("{scheme}, {window} at a time: {each} allocations a packet");
        assert!(
            each <= PER_PACKET_MAX,
            "{scheme}, {window} at a time: {each} allocations a packet"
        );
    }
    drop(stream);
    runtime.block_on(server.shutdown());
}

/// One test: what runs beside it would be counted too.
#[test]
fn a_warm_session_allocates_nothing_for_a_packet() {
    check("tcp");
    check("ws");
}
