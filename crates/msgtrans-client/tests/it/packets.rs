//! Messages and requests on a session.

use std::time::Duration;

use msgtrans_core::{Initiator, Packet, RequestError, SendErrorKind, TransportError};
use msgtrans_session::TransportEvent;

use crate::support::{Seen, Server, event, soon};

#[tokio::test]
async fn messages_go_out_and_come_back() {
    for mut server in [Server::inproc().await, Server::tcp().await] {
        let (client, _) = server.client().await;
        let mut events = client.events();
        client.send(Packet::text("one")).await.expect("sent");
        client.try_send("two").expect("sent");
        client.send_nowait("three").expect("sent");
        client.send_confirmed("four").await.expect("confirmed");
        assert!(matches!(
            event(&mut events).await,
            TransportEvent::ConnectionEstablished { .. }
        ));
        for text in ["one", "two", "three", "four"] {
            match event(&mut events).await {
                TransportEvent::MessageReceived { session_id, packet } => {
                    assert_eq!(Some(session_id), client.session_id());
                    assert_eq!(packet.payload.as_ref(), text.as_bytes());
                }
                other => panic!("{other:?} instead of a message"),
            }
        }
        assert_eq!(client.stats().packets_in, 4);
        client.disconnect().await.expect("disconnected");
    }
}

#[tokio::test]
async fn closures_take_messages_and_answer_requests_of_the_server() {
    let mut server = Server::inproc().await;
    let client = server.builder().build().await.expect("valid");
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    client.on_message(move |_, packet| {
        let sender = sender.clone();
        async move {
            sender.send(packet)?;
            Ok(())
        }
    });
    client
        .on_request(|_, request| async move { Ok(Packet::response(request.payload)) })
        .await
        .expect("taken");
    client.connect().await.expect("connected");
    let session = server.opened().await;
    session
        .send(Packet::text("to the closure"))
        .await
        .expect("sent");
    let packet = soon(received.recv()).await.expect("a message");
    assert_eq!(packet.payload.as_ref(), b"to the closure");
    let answer = soon(session.request("asked")).await.expect("answered");
    assert_eq!(answer.payload.as_ref(), b"asked");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_fails_at_its_deadline() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    let answer = client.request("echo").await.expect("answered");
    assert_eq!(answer.payload.as_ref(), b"echo");
    let deadline = Duration::from_millis(300);
    match soon(client.request_with("hang", deadline)).await {
        Err(RequestError::Timeout { after }) => assert_eq!(after, deadline),
        other => panic!("{other:?} instead of a timeout"),
    }
    assert!(matches!(server.seen().await, Seen::Hanging));
    // The server is told to stop.
    assert!(matches!(server.seen().await, Seen::Dropped));
    assert!(client.is_connected());
}

#[tokio::test(start_paused = true)]
async fn dropping_a_request_cancels_it_at_the_server() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    {
        let request = client.request("hang");
        tokio::pin!(request);
        tokio::select! {
            answer = &mut request => panic!("answered: {answer:?}"),
            seen = server.seen() => assert!(matches!(seen, Seen::Hanging)),
        }
    }
    assert!(matches!(server.seen().await, Seen::Dropped));
    assert!(client.is_connected());
}

#[tokio::test(start_paused = true)]
async fn pending_requests_fail_when_the_connection_is_lost() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    let requests: Vec<_> = (0..10)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.request_with("hang", Duration::MAX).await })
        })
        .collect();
    for _ in 0..10 {
        assert!(matches!(server.seen().await, Seen::Hanging));
    }
    server.cut();
    for request in requests {
        match soon(request).await.expect("no panic") {
            Err(error @ RequestError::Closed(_)) => assert!(!error.is_retryable()),
            other => panic!("{other:?} instead of Closed"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_concurrent_requests_get_their_own_answers() {
    let mut server = Server::tcp().await;
    let (client, _) = server.client().await;
    let requests: Vec<_> = (0..1_000)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move {
                let payload = format!("request {number}");
                let answer = client.request(payload.clone()).await?;
                assert_eq!(answer.payload.as_ref(), payload.as_bytes());
                Ok::<(), RequestError>(())
            })
        })
        .collect();
    for request in requests {
        soon(request).await.expect("no panic").expect("answered");
    }
    assert_eq!(client.stats().round_trip.count, 1_000);
}

#[tokio::test]
async fn without_a_session_packets_come_back_at_once() {
    fn check(kind: &SendErrorKind, packet: Option<Packet>, initiator: Initiator) {
        match kind {
            SendErrorKind::Closed(reason) => assert_eq!(reason.initiator, initiator),
            other => panic!("{other:?} instead of Closed"),
        }
        assert_eq!(packet.expect("given back").payload.as_ref(), b"mine");
    }
    let mut server = Server::inproc().await;
    let client = server
        .builder()
        .auto_reconnect(false)
        .build()
        .await
        .expect("valid");
    let (kind, packet) = client.send("mine").await.expect_err("closed").into_parts();
    check(&kind, packet, Initiator::Local);
    client.connect().await.expect("connected");
    let session = server.opened().await;
    session.close(msgtrans_core::Code::NORMAL, "enough");
    let mut events = client.events();
    while !matches!(
        event(&mut events).await,
        TransportEvent::ConnectionClosed { .. }
    ) {}
    for error in [
        client.send("mine").await.expect_err("closed"),
        client.try_send("mine").expect_err("closed"),
        client.send_confirmed("mine").await.expect_err("closed"),
    ] {
        let (kind, packet) = error.into_parts();
        check(&kind, packet, Initiator::Peer);
    }
    match TransportError::from(client.request("mine").await.expect_err("closed")) {
        TransportError::Request(RequestError::Send(error)) => {
            let (kind, packet) = error.into_parts();
            check(&kind, packet, Initiator::Peer);
        }
        other => panic!("{other:?} instead of a packet"),
    }
    assert_eq!(client.close_reason().expect("ended").reason, "enough");
    assert_eq!(client.session_id(), None);
}
