//! What is sent on a bad path and not lost with it: in order, exactly once, as it was.

use std::time::Duration;

use msgtrans::{Handler, HandlerError, Packet, Session, TransportEvent};
use msgtrans_testkit::chaos::{Direction, Random};

use crate::path::{Path, Protocol, connect, over, payload, run};

over!(tcp: slices_arrive_as_the_messages_that_they_were);
over!(all: what_is_queued_at_a_close_arrives_however_long_it_takes);

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

/// Sends messages through the path, which come back in order, exactly once and as they were; requests go between them.
async fn there_and_back(path: &Path, messages: u32, len_max: u64) {
    let client = connect(path.client()).await;
    let mut events = client.events();
    let mut random = Random::new(5);
    let lengths: Vec<usize> = (0..messages)
        .map(|_| random.below(len_max) as usize)
        .collect();
    let sending = async {
        for (id, len) in (1..).zip(&lengths) {
            let packet = Packet::binary(payload(id, *len)).with_message_id(id);
            client.send(packet).await.expect("queued");
            if id % 50 == 0 {
                let asked = payload(id, 64);
                let answer = client.request(asked.clone()).await.expect("answered");
                assert_eq!(answer.payload, asked);
            }
        }
    };
    let receiving = async {
        for (id, len) in (1..).zip(&lengths) {
            loop {
                match events.next().await.expect("an event") {
                    TransportEvent::MessageReceived { packet, .. } => {
                        assert_eq!(packet.message_id, id);
                        assert!(
                            packet.payload == payload(id, *len),
                            "message {id} is another"
                        );
                        break;
                    }
                    TransportEvent::ConnectionClosed { reason, .. } => panic!("closed: {reason}"),
                    _ => {}
                }
            }
        }
    };
    tokio::join!(sending, receiving);
    // Nothing comes after the last.
    client.disconnect().await.expect("open");
    while let Some(event) = events.next().await {
        match event {
            TransportEvent::MessageReceived { packet, .. } => panic!("{packet:?} again"),
            TransportEvent::ConnectionClosed { .. } => break,
            _ => {}
        }
    }
}

async fn slices_arrive_as_the_messages_that_they_were(protocol: Protocol) {
    let path = Path::to(protocol, protocol.server().with_handler(Echo)).await;
    for most in [1, 2, 7, 100] {
        path.network.stream().change(Direction::Both, |faults| {
            faults.slice_bytes_max = usize::try_from(most).ok().and_then(|n| n.try_into().ok());
        });
        there_and_back(&path, 20 * most, 10 * u64::from(most) + 20).await;
    }
}

/// Longer than a peer has for its own side of a close, and than this takes where everybody else computes.
const PATIENCE: Duration = Duration::from_secs(60);
const MESSAGES: u32 = 300;

async fn what_is_queued_at_a_close_arrives_however_long_it_takes(protocol: Protocol) {
    let path = Path::to(protocol, protocol.server()).await;
    let mut events = path.server.events();
    let client = connect(path.client().send_timeout(PATIENCE)).await;
    // Two seconds and more for all of it, because QUIC may send twice as much with each round trip.
    path.network
        .lengthen(Direction::Both, Duration::from_millis(200));
    for id in 1..=MESSAGES {
        let packet = Packet::binary(payload(id, 1_300)).with_message_id(id);
        client.try_send(packet).expect("queued");
    }
    client.disconnect().await.expect("open");
    let mut arrived = 0;
    loop {
        match events.next().await.expect("an event") {
            TransportEvent::MessageReceived { packet, .. } => {
                arrived += 1;
                assert_eq!(packet.message_id, arrived);
                assert!(packet.payload == payload(arrived, 1_300));
            }
            TransportEvent::ConnectionClosed { reason, .. } => {
                assert_eq!(arrived, MESSAGES, "{reason}");
                break;
            }
            _ => {}
        }
    }
}

#[test]
fn quic_delivers_in_order_and_once_what_is_lost_repeated_and_reordered_below() {
    run(async {
        let path = Path::to(Protocol::Quic, Protocol::Quic.server().with_handler(Echo)).await;
        path.network.datagram().change(Direction::Both, |faults| {
            faults.latency = Duration::from_millis(2);
            faults.jitter = Duration::from_millis(1);
            faults.loss = 0.05;
            faults.duplication = 0.05;
            faults.reordering = 0.1;
        });
        there_and_back(&path, 400, 4_000).await;
        let stats = path.network.datagram().stats();
        assert!(stats.lost > 0 && stats.duplicated > 0 && stats.late > 0);
    });
}
