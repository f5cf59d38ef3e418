//! Connections that end in the middle of anything.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use msgtrans::{
    Handler, HandlerError, Packet, ReconnectConfig, RequestError, SendErrorKind, Session,
    TransportError, TransportEvent,
};
use msgtrans_testkit::chaos::{Direction, End, Random, StreamFaults};

use crate::path::{Path, Protocol, connect, over, payload, until};

over!(tcp:
    resets_at_random_bytes_reclaim_everything_and_deliver_nothing_by_halves,
    a_client_comes_back_when_the_network_does,
);

/// Keeps what came in, and answers requests with their payload.
#[derive(Clone, Default)]
struct Keep(Arc<Mutex<Vec<Packet>>>);

impl Handler for Keep {
    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        self.0.lock().expect("not poisoned").push(packet);
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

async fn resets_at_random_bytes_reclaim_everything_and_deliver_nothing_by_halves(
    protocol: Protocol,
) {
    const ROUNDS: u64 = 60;
    const MESSAGES: u32 = 12;
    let keep = Keep::default();
    let path = Path::to(protocol, protocol.server().with_handler(keep.clone())).await;
    let mut random = Random::new(20);
    let (mut lost, mut answered) = (0, 0);
    for round in 0..ROUNDS {
        let direction = match random.below(2) {
            0 => Direction::ToServer,
            _ => Direction::ToClient,
        };
        let how = match random.below(3) {
            0 => End::Cut,
            _ => End::Reset,
        };
        // From within the handshakes to beyond the last answer.
        let at = random.below(if round % 2 == 0 { 3_000 } else { 60_000 });
        let network = path.network.stream();
        network.set(Direction::Both, StreamFaults::default());
        network.change(direction, |faults| faults.end_at = Some((at, how)));
        let client = path.client().build().await.expect("valid");
        if let Err(error) = client.connect().await {
            assert!(matches!(error, TransportError::Connect(_)), "{error:?}");
            lost += 1;
            continue;
        }
        let mut ended = false;
        for id in 1..=MESSAGES {
            let bytes = payload(id, random.below(4_000) as usize);
            let packet = Packet::binary(bytes).with_message_id(id);
            if let Err(error) = client.send(packet).await {
                let kind = error.kind();
                assert!(matches!(kind, SendErrorKind::Closed(_)), "{error:?}");
                ended = true;
                break;
            }
            let asked = payload(id, 500);
            match client.request(Packet::request(asked.clone())).await {
                Ok(answer) => {
                    assert_eq!(answer.payload, asked);
                    answered += 1;
                }
                Err(RequestError::Closed(reason)) => {
                    assert!(!reason.is_clean(), "{reason:?}");
                    ended = true;
                    break;
                }
                Err(RequestError::Send(error)) => {
                    let kind = error.kind();
                    assert!(matches!(kind, SendErrorKind::Closed(_)), "{error:?}");
                    ended = true;
                    break;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        lost += u64::from(ended);
        // What it has left behind goes with it.
        drop(client);
        network.end_all(End::Reset);
        until(|| path.server.session_count() == 0).await;
        let mut came = std::mem::take(&mut *keep.0.lock().expect("not poisoned"));
        for (number, packet) in came.drain(..).enumerate() {
            let id = u32::try_from(number + 1).expect("few");
            assert_eq!(packet.message_id, id, "in order, none twice");
            assert_eq!(packet.payload, payload(id, packet.payload.len()));
        }
    }
    assert!(
        lost > ROUNDS / 4,
        "{lost} of {ROUNDS} connections met a fault"
    );
    assert!(answered > 0);
    until(|| path.server.stats().sessions == 0).await;
    let stats = path.server.stats();
    assert_eq!(stats.sessions_opened, stats.sessions_closed);
    assert!(path.server.shutdown().await.is_clean());
}

async fn a_client_comes_back_when_the_network_does(protocol: Protocol) {
    let path = Path::to(protocol, protocol.server().with_handler(Keep::default())).await;
    let network = path.network.stream();
    let reconnect = ReconnectConfig::new()
        .base(Duration::from_millis(20))
        .cap(Duration::from_millis(200));
    let client = connect(path.client().reconnect(reconnect)).await;
    let mut events = client.events();
    let first = client.session_id().expect("open");
    network.refuse(true);
    network.end_all(End::Reset);
    // It is refused, more than once.
    until(|| network.stats().refused >= 3).await;
    assert!(!client.is_connected());
    client.request("hello?").await.expect_err("nobody there");
    network.refuse(false);
    let mut closed = false;
    loop {
        match events.next().await.expect("an event") {
            TransportEvent::ConnectionClosed { session_id, .. } if session_id == first => {
                closed = true
            }
            TransportEvent::ConnectionEstablished { session_id, .. } if session_id != first => {
                break;
            }
            _ => {}
        }
    }
    assert!(
        closed,
        "the first session's end comes before the second one"
    );
    let answer = client.request("hello?").await.expect("there again");
    assert_eq!(answer.payload, "hello?");
    until(|| path.server.session_count() == 1).await;
}
