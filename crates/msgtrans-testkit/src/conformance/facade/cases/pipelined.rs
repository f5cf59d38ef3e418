//! 60 000 echoes that the client does not read for a while: all come back, in order, in bounded memory.

use msgtrans::{Handler, HandlerError, Packet, Session};
use tokio::sync::watch;

use crate::sessions::{Echo, echo_by_events, number_of, numbered, stuck};

use super::{Case, Log, Protocol, TransportServer, case, connect, only_session, start};

pub(super) const CASES: &[Case] = &[
    case!(a_client_that_reads_late_gets_every_echo_of_a_handler),
    case!(a_client_that_reads_late_gets_every_echo_of_an_event_loop),
    case!(what_a_client_does_not_read_stops_what_it_sends),
];

const MESSAGES: u32 = 60_000;

const MIB: u64 = 1024 * 1024;

async fn a_client_that_reads_late_gets_every_echo_of_a_handler(protocol: Protocol) {
    let server = start(protocol.server().with_handler(Echo)).await;
    client_reads_late(&protocol, &server).await;
}

async fn a_client_that_reads_late_gets_every_echo_of_an_event_loop(protocol: Protocol) {
    let server = start(protocol.server()).await;
    echo_by_events(&server);
    client_reads_late(&protocol, &server).await;
}

/// Blocks in its first message until it is released.
struct Gate {
    open: watch::Receiver<bool>,
    seen: Log<Packet>,
}

impl Handler for Gate {
    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        self.open.clone().wait_for(|open| *open).await?;
        self.seen.put(packet);
        Ok(())
    }
}

async fn client_reads_late(protocol: &Protocol, server: &TransportServer) {
    let (seen, mut echoes) = Log::new();
    let (open, gate) = watch::channel(false);
    let handler = Gate { open: gate, seen };
    let client = connect(protocol.client(server).with_handler(handler)).await;
    let session = only_session(server).await;

    let (sent, mut progress) = watch::channel(0);
    let sender = client.clone();
    let sending = tokio::spawn(async move {
        for number in 0..MESSAGES {
            sender.send(numbered(number)).await.expect("sent");
            sent.send_replace(number);
        }
    });
    stuck(&mut progress).await;
    assert!(echoes.try_recv().is_err(), "the handler is blocked");
    for session in [&session, &client.session().expect("connected")] {
        let queued = session.stats().queued_bytes as u64;
        assert!(queued <= 4 * MIB, "{queued} bytes wait to be written");
    }

    open.send_replace(true);
    for number in 0..MESSAGES {
        let packet = echoes.recv().await.expect("an echo");
        assert_eq!(number_of(&packet), number);
    }
    sending.await.expect("everything was sent");
}

/// 64 MiB are more than all queues, windows and socket buffers of both sides together.
async fn what_a_client_does_not_read_stops_what_it_sends(protocol: Protocol) {
    const LARGE: u64 = 1024;
    let server = start(protocol.server().with_handler(Echo)).await;
    let (seen, mut echoes) = Log::new();
    let (open, gate) = watch::channel(false);
    let handler = Gate { open: gate, seen };
    let client = connect(protocol.client(&server).with_handler(handler)).await;

    let (sent, mut progress) = watch::channel(0);
    let sender = client.clone();
    let sending = tokio::spawn(async move {
        let payload = vec![0xA5; 64 * 1024];
        for number in 0..LARGE {
            let packet = Packet::binary(payload.clone());
            sender.send(packet).await.expect("sent");
            sent.send_replace(number);
        }
    });
    stuck(&mut progress).await;
    assert!(!sending.is_finished(), "64 MiB went nowhere");

    open.send_replace(true);
    for _ in 0..LARGE {
        let packet = echoes.recv().await.expect("an echo");
        assert_eq!(packet.payload.len(), 64 * 1024);
    }
    sending.await.expect("everything was sent");
}
