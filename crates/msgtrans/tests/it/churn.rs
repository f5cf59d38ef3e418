//! Much at once: sessions that come and go, and streams that are garbage from some byte on.

use msgtrans::{Code, Handler, HandlerError, Packet, PacketType, Session, WireVersion};
use msgtrans_core::{Goodbye, Hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::raw::{Raw, frame};
use crate::support::{Protocol, run, start, until};

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

/// xorshift64: the same streams on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

/// Handshake, some of everything, Goodbye.
fn good_stream(version: WireVersion) -> Vec<u8> {
    let mut packets = Vec::new();
    if version == WireVersion::V2 {
        packets.push(Hello::default().to_packet());
        packets.push(Packet::numbered(PacketType::Ping, 1, "ping"));
        packets.push(Packet::numbered(PacketType::Cancel, 9, ""));
        packets.push(Packet::failure(4, Code::INTERNAL, "no"));
    }
    packets.push(Packet::text("hello").with_ext_header("header"));
    packets.push(Packet::request("?").with_message_id(9));
    packets.push(Packet::response("!").with_message_id(3));
    packets.push(Packet::binary(vec![6; 5_000]));
    if version == WireVersion::V2 {
        let goodbye = Goodbye::new(Code::NORMAL, "bye");
        packets.push(goodbye.to_packet(PacketType::Goodbye));
    }
    packets
        .iter()
        .flat_map(|packet| frame(packet, version))
        .collect()
}

#[test]
fn a_stream_with_any_byte_changed_ends_its_session_and_nothing_else() {
    run(async {
        let builder = Protocol::Tcp.server().with_handler(Echo);
        let server = start(builder).await;
        let steady = Protocol::Tcp.connected(&server).await;
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for round in 0..400 {
            let version = if round % 2 == 0 {
                WireVersion::V2
            } else {
                WireVersion::V1
            };
            let mut bytes = good_stream(version);
            for _ in 0..=random.below(3) {
                let index = random.below(bytes.len());
                bytes[index] = u8::try_from(random.below(256)).expect("a byte");
            }
            bytes.truncate(random.below(bytes.len()) + 1);
            let mut raw = Raw::v1(&server).await;
            // The server may close in the middle of it.
            let _ = raw.stream.write_all(&bytes).await;
            let _ = raw.stream.shutdown().await;
            let mut answer = Vec::new();
            let _ = raw.stream.read_to_end(&mut answer).await;
            let reply = steady.request("still there?").await.expect("answered");
            assert_eq!(reply.payload, "still there?");
        }
        until(|| server.session_count() == 1).await;
    });
}
