//! Where the bytes of a steady server lie: in buffers that were there before.
//!
//! A test binary of its own, because the figures are of the whole process.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use msgtrans::{
    Bytes, Endpoint, Handler, HandlerError, Packet, Session, TransportClient, TransportServer,
};
use tokio::time::timeout;

/// Longer than any machine needs.
const PATIENCE: Duration = Duration::from_secs(120);
/// Messages whose payload the handler still holds, slices of what was read.
const KEPT: usize = 24;
/// Messages of each client.
const MESSAGES: usize = 1_000;
/// From less than a cache line to more than a read buffer.
const SIZES: [usize; 8] = [64, 200, 1_000, 5_000, 30_000, 65_536, 150_000, 1 << 20];

/// Keeps the last payloads, and what each of them must look like.
#[derive(Debug, Default)]
struct Keeper(Mutex<VecDeque<(u8, Bytes)>>);

impl Handler for Keeper {
    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        let mut kept = self.0.lock().expect("nobody panics");
        let fill = packet.payload[0];
        kept.push_back((fill, packet.payload));
        if kept.len() > KEPT {
            let (fill, payload) = kept.pop_front().expect("one too many");
            // A byte of every page.
            let mut bytes = payload.iter().step_by(4096).chain(payload.last());
            assert!(bytes.all(|byte| *byte == fill), "overwritten");
        }
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

/// Sends messages of all sizes in an order that does not repeat, and waits until all were handled.
async fn talk(endpoint: Endpoint, seed: u64) {
    let client = TransportClient::builder()
        .with_protocol(endpoint)
        .build()
        .await
        .expect("builds");
    client.connect().await.expect("connects");
    let mut random = seed;
    for index in 0..MESSAGES {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let size = SIZES[(random >> 61) as usize];
        let packet = Packet::binary(vec![index as u8; size]);
        client.send(packet).await.expect("sent");
        if index % 64 == 0 {
            // What came before was handled before: nobody runs far ahead.
            client.request(Packet::request("")).await.expect("answered");
        }
    }
    client.request(Packet::request("")).await.expect("answered");
    client.disconnect().await.expect("closes");
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what the test is run for"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_server_takes_over_nine_of_ten_buffers_without_allocating() {
    let endpoint: Endpoint = "tcp://127.0.0.1:0".parse().expect("parses");
    let server = TransportServer::builder()
        .with_protocol(endpoint)
        .with_handler(Keeper::default())
        .build()
        .await
        .expect("builds");
    server.start().expect("starts");
    let endpoint = server.local_endpoints()[0].clone();
    let clients = [1, 2, 3].map(|seed| tokio::spawn(talk(endpoint.clone(), seed)));
    for client in clients {
        timeout(PATIENCE, client)
            .await
            .expect("in time")
            .expect("no panic");
    }
    let stats = server.sample_process().await;
    let (reads, frames) = (stats.read_buffer_hit_rate, stats.frame_buffer_hit_rate);
    let (held, free) = (stats.buffer_pool_bytes, stats.read_buffer_shared_bytes);
    println!(
        "hits: reads {reads:.4}, large frames {frames:.4}; the pool holds {held} bytes, {free} of them free"
    );
    assert!(reads > 0.9, "{stats:?}");
    assert!(frames > 0.9, "{stats:?}");
    // Its three tiers, when all of them are full.
    assert!((1 << 20..40 << 20).contains(&held), "{stats:?}");
    server.shutdown().await;
}
