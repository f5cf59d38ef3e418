//! Sessions that come and go, many at once.

use msgtrans::{Code, Handler, HandlerError, Packet, Session, TransportEvent};
use tokio::task::JoinSet;

use super::{Case, Protocol, case, connect, start, until};

pub(super) const CASES: &[Case] = &[case!(sessions_that_come_and_go_leave_nothing_behind)];

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

async fn sessions_that_come_and_go_leave_nothing_behind(protocol: Protocol) {
    const CLIENTS: u64 = 40;
    let server = start(protocol.server().with_handler(Echo)).await;
    let mut events = server.events();
    let news = tokio::spawn({
        let server = server.clone();
        async move {
            loop {
                server
                    .broadcast(Packet::text("news"))
                    .await
                    .expect("encoded");
                tokio::task::yield_now().await;
            }
        }
    });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let builder = protocol.client(&server);
        let server = server.clone();
        clients.spawn(async move {
            let client = connect(builder).await;
            for _ in 0..number {
                client.send("hello").await.expect("sent");
            }
            client.request("still there?").await.expect("answered");
            let id = client.session_id().expect("open");
            match number % 4 {
                0 => client.disconnect().await.expect("disconnected"),
                // Without another word.
                1 => drop(client),
                2 => server.close_session(id).await.expect("a session"),
                _ => client.session().expect("open").close(Code(1_000), ""),
            }
        });
    }
    while let Some(outcome) = clients.join_next().await {
        outcome.expect("ran");
    }
    let (mut established, mut closed) = (0, 0);
    while closed < CLIENTS {
        match events.next().await.expect("an event") {
            TransportEvent::ConnectionEstablished { .. } => established += 1,
            TransportEvent::ConnectionClosed { .. } => closed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(established, CLIENTS);
    news.abort();
    until(|| server.stats().sessions == 0).await;
    assert_eq!(server.session_count(), 0);
    assert_eq!(server.stats().sessions_closed, CLIENTS);
    assert!(server.shutdown().await.is_clean());
}
