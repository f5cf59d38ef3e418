//! Futures that are dropped at any of their polls: what was taken arrives once and in order, and nothing else does.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use msgtrans::{Handler, HandlerError, Packet, Session, TransportClient, TransportServer};
use tokio::task::yield_now;

use crate::support::{ALL, Log, Protocol, connect, only_session, run, start, until};

/// Numbers that differ from round to round and not from run to run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// Polls at most so often, with a turn for the others in between; `None`: it was given up.
async fn polled<T>(most: u64, mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    for _ in 0..most {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(outcome) = polled {
            return Some(outcome);
        }
        yield_now().await;
    }
    None
}

/// Logs what each source has sent.
struct Keep(Log<(u32, u32)>);

impl Handler for Keep {
    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        let number = packet.payload.first_chunk().expect("a number");
        self.0.put((packet.message_id, u32::from_be_bytes(*number)));
        // Slower than who sends.
        yield_now().await;
        Ok(())
    }
}

const SOURCES: u32 = 3;
const SENDS: u32 = 400;

/// Sends, and gives some up; which were taken.
async fn send_some(session: Session, source: u32) -> Vec<u32> {
    let mut dice = Dice(source.into());
    let mut taken = Vec::new();
    for number in 0..SENDS {
        let mut payload = vec![0; 2_000];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        let packet = Packet::binary(payload).with_message_id(source);
        let send = pin!(session.send(packet));
        if let Some(outcome) = polled(1 + dice.roll(4), send).await {
            outcome.expect("the session is open");
            taken.push(number);
        }
    }
    taken
}

/// How many were.
async fn sends_given_up(protocol: Protocol) -> usize {
    let (log, mut came) = Log::new();
    let builder = protocol.server().session_config(|config| {
        config.outbound.items = 4;
        config.outbound.bytes = 8 * 1024;
    });
    let server = start(builder).await;
    let client = connect(protocol.client(&server).with_handler(Keep(log))).await;
    let session = only_session(&server).await;
    let sources: Vec<_> = (1..=SOURCES)
        .map(|source| tokio::spawn(send_some(session.clone(), source)))
        .collect();
    let mut given_up = 0;
    let mut taken = Vec::new();
    for source in sources {
        let numbers = source.await.expect("it does not panic");
        given_up += SENDS as usize - numbers.len();
        taken.push(numbers);
    }
    session.close(msgtrans::Code::NORMAL, "");
    let mut arrived = vec![Vec::new(); SOURCES as usize];
    let expected: usize = taken.iter().map(Vec::len).sum();
    for _ in 0..expected {
        let (source, number) = came.recv().await.expect("the client is there");
        arrived[source as usize - 1].push(number);
    }
    assert_eq!(arrived, taken);
    until(|| !client.is_connected()).await;
    drop(client);
    assert_eq!(came.recv().await, None, "what was given up does not arrive");
    given_up
}

#[test]
fn sends_that_are_given_up_are_either_taken_or_gone() {
    run(async {
        for protocol in ALL {
            sends_given_up(protocol).await;
        }
    });
    // On one thread nobody makes room between two sends.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for protocol in ALL {
            assert!(sends_given_up(protocol).await > 0, "nothing had to wait");
        }
    });
}

/// A `connect` given up at any of its polls leaves nothing: neither here nor there.
async fn connect_given_up(protocol: Protocol, server: &TransportServer) {
    let client: TransportClient = protocol.client(server).build().await.expect("valid");
    let mut dice = Dice(7);
    for _ in 0..60 {
        let connected = polled(1 + dice.roll(12), pin!(client.connect())).await;
        if let Some(outcome) = connected {
            outcome.expect("there is a server");
            assert!(client.is_connected());
            client.disconnect().await.expect("disconnected");
        }
        // The session's task may be at work on another thread while it is taken down.
        until(|| {
            client
                .session()
                .is_none_or(|session| session.close_reason().is_some())
        })
        .await;
    }
    client.connect().await.expect("there is a server");
    until(|| server.session_count() == 1).await;
    client.disconnect().await.expect("disconnected");
    until(|| server.session_count() == 0).await;
}

#[test]
fn connects_that_are_given_up_leave_no_session() {
    run(async {
        for protocol in ALL {
            let server = start(protocol.server()).await;
            connect_given_up(protocol, &server).await;
            assert!(server.shutdown().await.is_clean());
        }
    });
}
