//! The end of a client: what the server hears, what the events say, what is left.

use std::time::Duration;

use msgtrans_core::{Code, Initiator, TransportError};
use msgtrans_session::TransportEvent;

use crate::support::{Seen, Server, event, name, pass_time, rest, soon};

#[tokio::test]
async fn disconnecting_writes_what_is_queued_and_says_goodbye() {
    for mut server in [Server::inproc().await, Server::tcp().await] {
        let (client, _) = server.client().await;
        let mut events = client.events();
        for number in 0..100 {
            client
                .send(format!("message {number}"))
                .await
                .expect("queued");
        }
        soon(client.disconnect()).await.expect("disconnected");
        assert!(!client.is_connected());
        assert!(client.session().is_none());
        for number in 0..100 {
            match server.seen().await {
                Seen::Message(packet) => {
                    assert_eq!(packet.payload, format!("message {number}"));
                }
                other => panic!("{other:?} instead of a message"),
            }
        }
        let reason = server.closed().await;
        assert_eq!(
            (reason.code, reason.initiator),
            (Code::NORMAL, Initiator::Peer)
        );
        let mut names = rest(&mut events).await;
        names.retain(|name| name != "message");
        assert_eq!(names, ["established", "closed"]);
        // Nothing to do is no error.
        client.disconnect().await.expect("disconnected");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_says_goodbye_and_leaves_no_task() {
    let mut server = Server::inproc().await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks = metrics.num_alive_tasks();
    let (client, session) = server.client().await;
    let mut events = client.events();
    let clone = client.clone();
    drop(client);
    clone.request("one handle is left").await.expect("answered");
    drop(clone);
    let reason = server.closed().await;
    assert_eq!(
        (reason.code, reason.initiator),
        (Code::NORMAL, Initiator::Peer)
    );
    assert_eq!(rest(&mut events).await, ["established", "closed"]);
    drop(session);
    pass_time(Duration::from_secs(1)).await;
    assert_eq!(metrics.num_alive_tasks(), tasks);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_client_that_redials_leaves_no_task() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let tasks = metrics.num_alive_tasks();
    let mut server = Server::inproc().await;
    let (client, session) = server.client().await;
    let mut events = client.events();
    drop((server, session));
    while name(&event(&mut events).await) != "reconnecting" {}
    drop(client);
    assert!(
        rest(&mut events)
            .await
            .iter()
            .all(|name| name == "reconnecting")
    );
    pass_time(Duration::from_millis(20)).await;
    assert_eq!(metrics.num_alive_tasks(), tasks);
}

#[tokio::test(start_paused = true)]
async fn a_second_stream_of_events_is_an_error_in_the_stream() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    let mut first = client.events();
    let mut second = client.events();
    match event(&mut second).await {
        TransportEvent::Error {
            session_id: None,
            error: TransportError::Config(error),
        } => {
            assert_eq!(error.field(), "events");
        }
        other => panic!("{other:?} instead of Error"),
    }
    assert!(soon(second.next()).await.is_none());
    assert_eq!(name(&event(&mut first).await), "established");
}

#[tokio::test(start_paused = true)]
async fn events_end_for_a_client_that_never_connected() {
    let server = Server::inproc().await;
    let client = server.builder().build().await.expect("valid");
    let mut events = client.events();
    client.disconnect().await.expect("disconnected");
    assert!(soon(events.next()).await.is_none());
    let client = server.builder().build().await.expect("valid");
    let mut events = client.events();
    drop(client);
    assert!(soon(events.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_disconnect_its_own_client() {
    let mut server = Server::inproc().await;
    let client = server.builder().build().await.expect("valid");
    let own = client.clone();
    let (sender, mut went_on) = tokio::sync::mpsc::unbounded_channel();
    client.on_message(move |_, _| {
        let (own, sender) = (own.clone(), sender.clone());
        async move {
            own.disconnect().await?;
            sender.send(())?;
            Ok(())
        }
    });
    client.connect().await.expect("connected");
    let mut events = client.events();
    server.opened().await;
    client.send("come back").await.expect("sent");
    assert_eq!(rest(&mut events).await, ["established", "closed"]);
    assert_eq!(server.closed().await.code, Code::NORMAL);
    went_on
        .try_recv()
        .expect("the handler went on before its session ended");
}

#[tokio::test(start_paused = true)]
async fn a_client_connects_again_after_it_was_disconnected() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    for _ in 0..3 {
        soon(client.disconnect()).await.expect("disconnected");
        client.connect().await.expect("connected");
        client.request("hello").await.expect("answered");
        let mut events = client.events();
        assert_eq!(name(&event(&mut events).await), "established");
    }
}
