//! End to end through the facade: what a session does over each protocol.

use std::future::Future;
use std::time::Duration;

use custom_protocol::{TransportClient, TransportServer, demo};
use msgtrans::{
    CloseReason, Code, EventStream, Handler, HandlerError, Initiator, Packet, Session, SessionId,
    TransportEvent,
};

use crate::conformance::fresh_name;

/// What comes, comes soon, or the test fails instead of hanging.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(Duration::from_secs(60), what).await;
    outcome.expect("nothing came within 60 s")
}

/// Runs `test` over a server on each protocol of this crate.
async fn over_each<F: Future<Output = ()>>(test: impl Fn(TransportServer, String) -> F) {
    for protocol in ["duplex", "parcel"] {
        let url = format!("{protocol}://{}", fresh_name());
        let server = TransportServer::builder()
            .with_protocol(&url)
            .with_handler(Mirror)
            .build()
            .await
            .expect("a fresh name");
        server.start().expect("the first start");
        soon(test(server.clone(), url)).await;
        let report = soon(server.shutdown()).await;
        assert!(report.is_clean(), "{protocol}: {report:?}");
    }
}

struct Mirror;

impl Handler for Mirror {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        session
            .send(Packet::echo(packet.message_id, packet.payload))
            .await?;
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        if request.payload == "fail" {
            return Err(HandlerError::with_code(Code(2000), "as you wish"));
        }
        Ok(Packet::response(request.payload).with_ext_header(request.ext_header))
    }
}

async fn client(url: &str) -> TransportClient {
    let builder = TransportClient::builder()
        .with_protocol(url)
        .auto_reconnect(false);
    builder.build().await.expect("a URL")
}

async fn connect(url: &str) -> TransportClient {
    let client = client(url).await;
    client.connect().await.expect("connected");
    client
}

async fn next_message(events: &mut EventStream) -> Packet {
    loop {
        match events.next().await.expect("an event") {
            TransportEvent::MessageReceived { packet, .. } => return packet,
            TransportEvent::ConnectionClosed { reason, .. } => panic!("closed: {reason}"),
            _ => {}
        }
    }
}

async fn next_close(events: &mut EventStream) -> CloseReason {
    loop {
        if let TransportEvent::ConnectionClosed { reason, .. } =
            events.next().await.expect("an event")
        {
            return reason;
        }
    }
}

async fn next_session(events: &mut EventStream) -> SessionId {
    loop {
        if let TransportEvent::ConnectionEstablished { session_id, .. } =
            events.next().await.expect("an event")
        {
            return session_id;
        }
    }
}

#[tokio::test]
async fn the_demo_serves_one_handler_over_three_protocols() {
    let server = demo::start(&fresh_name()).await.expect("a fresh name");
    let endpoints = server.local_endpoints();
    assert_eq!(endpoints.len(), 3);
    for endpoint in endpoints {
        let scheme = endpoint.scheme().to_owned();
        let (echo, answer) = soon(demo::visit(endpoint, "Ada")).await.expect(&scheme);
        assert_eq!(echo, "hello from Ada");
        assert_eq!(answer, format!("Ada, you came over {scheme}"));
    }
    assert!(soon(server.shutdown()).await.is_clean());
}

#[tokio::test]
async fn messages_are_echoed_in_order() {
    over_each(|_server, url| async move {
        let client = connect(&url).await;
        let mut events = client.events();
        let sender = client.clone();
        let sending = tokio::spawn(async move {
            for number in 0..1000 {
                let size = number * 37 % 5000;
                let packet = Packet::binary(vec![number as u8; size]).with_biz_type(1);
                sender.send(packet).await.expect("taken");
            }
        });
        for number in 0..1000 {
            let echo = next_message(&mut events).await;
            assert_eq!(echo.payload, vec![number as u8; number * 37 % 5000]);
        }
        sending.await.expect("no panic");
    })
    .await;
}

#[tokio::test]
async fn requests_of_every_size_are_answered_beside_each_other() {
    over_each(|_server, url| async move {
        let client = connect(&url).await;
        let asking: Vec<_> = [0, 1, 5000, 70_000, 4 << 20]
            .into_iter()
            .cycle()
            .take(20)
            .map(|size| {
                let client = client.clone();
                tokio::spawn(async move {
                    let request = Packet::request(vec![7; size]).with_ext_header("header");
                    let answer = client.request(request).await.expect("an answer");
                    assert_eq!(answer.payload.len(), size);
                    assert_eq!(answer.ext_header, "header");
                })
            })
            .collect();
        for asked in asking {
            asked.await.expect("the answer");
        }
    })
    .await;
}

#[tokio::test]
async fn a_failed_request_fails_with_its_code() {
    over_each(|_server, url| async move {
        let client = connect(&url).await;
        let error = client.request("fail").await.expect_err("as asked");
        let text = error.to_string();
        assert!(
            text.contains("2000") && text.contains("as you wish"),
            "{text}"
        );
        assert_eq!(
            client.request("go on").await.expect("open").payload,
            "go on"
        );
    })
    .await;
}

#[tokio::test]
async fn the_server_pushes_asks_and_broadcasts() {
    over_each(|server, url| async move {
        let mut opened = server.events();
        let mut clients = Vec::new();
        for _ in 0..3 {
            let client = client(&url).await;
            let answering = client
                .on_request(|_, request| async move { Ok(Packet::response(request.payload)) });
            answering.await.expect("not connected yet");
            client.connect().await.expect("connected");
            let heard = client.events();
            let id = next_session(&mut opened).await;
            clients.push((client, heard, id));
        }
        let report = server
            .broadcast(Packet::text("all"))
            .await
            .expect("running");
        assert_eq!((report.queued, report.failed), (3, 0));
        for (_client, heard, id) in &mut clients {
            assert_eq!(next_message(heard).await.payload, "all");
            let answer = server.request_to(*id, "who").await.expect("an answer");
            assert_eq!(answer.payload, "who");
            server
                .send_to(*id, Packet::text("you"))
                .await
                .expect("taken");
            assert_eq!(next_message(heard).await.payload, "you");
        }
    })
    .await;
}

#[tokio::test]
async fn an_end_arrives_with_code_and_reason_whoever_it_comes_from() {
    over_each(|server, url| async move {
        let mut seen = server.events();
        let client = connect(&url).await;
        let mut heard = client.events();
        let session = server.session(next_session(&mut seen).await);
        session.expect("open").close(Code(2001), "closing time");
        let reason = CloseReason::peer(Code(2001), "closing time");
        assert_eq!(next_close(&mut heard).await, reason);
        assert_eq!(next_close(&mut seen).await.initiator, Initiator::Local);

        let client = connect(&url).await;
        client.disconnect().await.expect("disconnected");
        let reason = CloseReason::peer(Code::NORMAL, "");
        assert_eq!(next_close(&mut seen).await, reason);
    })
    .await;
}
