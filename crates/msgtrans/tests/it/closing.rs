//! Ends: who hears what, in which order, how often.

use std::sync::Arc;
use std::time::Duration;

use msgtrans::{
    CloseReason, Code, Handler, HandlerError, Initiator, Packet, PacketType, RequestError, Session,
};
use msgtrans_core::Goodbye;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::raw::Raw;
use crate::support::{Log, Protocol, next_close, next_message, only_session, run, start, until};

#[test]
fn a_lost_connection_is_the_networks_doing() {
    run(async {
        let server = start(Protocol::Tcp.server()).await;
        let mut events = server.events();
        let (raw, _) = Raw::v2(&server).await;
        let session = only_session(&server).await;
        let waiting = {
            let session = session.clone();
            tokio::spawn(async move {
                session
                    .request_with(Packet::request("?"), Duration::MAX)
                    .await
            })
        };
        until(|| session.stats().requests_pending == 1).await;
        drop(raw);
        let reason = next_close(&mut events).await;
        assert_eq!(reason.initiator, Initiator::Network, "{reason}");
        match waiting.await.expect("ran") {
            Err(RequestError::Closed(reason)) => assert_eq!(reason.initiator, Initiator::Network),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_server_that_vanishes_is_the_networks_doing_for_its_client() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let builder = msgtrans::TransportClient::builder()
            .with_protocol(format!("tcp://127.0.0.1:{port}"))
            .auto_reconnect(false);
        let client = builder.build().await.expect("valid");
        let mut events = client.events();
        let serving = async {
            let (stream, _) = listener.accept().await.expect("a client");
            let mut raw = Raw::over(stream);
            raw.welcome().await;
            raw.send(&Packet::text("the only message")).await;
        };
        let (connected, ()) = tokio::join!(client.connect(), serving);
        connected.expect("connected");
        // What came before is handled.
        assert_eq!(next_message(&mut events).await.payload, "the only message");
        assert_eq!(next_close(&mut events).await.initiator, Initiator::Network);
        assert!(events.next().await.is_none(), "an event behind the last");
    });
}

/// Takes its time with each message, and logs how its session has ended.
struct Busy {
    begun: Arc<Notify>,
    ended: Log<CloseReason>,
}

impl Handler for Busy {
    async fn on_message(&self, _: &Session, _: Packet) -> Result<(), HandlerError> {
        self.begun.notify_one();
        std::future::pending().await
    }

    async fn on_disconnect(&self, _: &Session, reason: &CloseReason) {
        self.ended.put(reason.clone());
    }
}

#[test]
fn behind_the_peers_goodbye_a_close_of_this_side_says_nothing_more() {
    run(async {
        let begun = Arc::new(Notify::new());
        let (ended, mut reasons) = Log::new();
        let handler = Busy {
            begun: begun.clone(),
            ended,
        };
        let server = start(Protocol::Tcp.server().with_handler(handler)).await;
        let (mut raw, _) = Raw::v2(&server).await;
        let session = only_session(&server).await;
        raw.send(&Packet::text("takes for ever")).await;
        begun.notified().await;
        let goodbye = Goodbye::new(Code(7_001), "enough");
        raw.send(&goodbye.to_packet(PacketType::Goodbye)).await;
        until(|| session.close_reason().is_some()).await;
        session.close(Code(7_002), "too late");
        raw.closed().await;
        let reason = reasons.recv().await.expect("it has ended");
        assert_eq!(reason, CloseReason::peer(Code(7_001), "enough"));
    });
}
