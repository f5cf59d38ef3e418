//! Sessions that are lost, and what is dialled again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use msgtrans_client::ReconnectConfig;
use msgtrans_core::{Code, ConnectError, Initiator, SendErrorKind, TransportError};
use msgtrans_session::{Refusal, TransportEvent};
use tokio::time::Instant;

use crate::support::{Server, event, name, pass_time, rest, soon};

#[tokio::test(start_paused = true)]
async fn a_lost_session_is_dialled_again() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    let mut events = client.events();
    let first = match event(&mut events).await {
        TransportEvent::ConnectionEstablished { session_id, .. } => session_id,
        other => panic!("{other:?} instead of Established"),
    };
    server.cut();
    match event(&mut events).await {
        TransportEvent::ConnectionClosed { session_id, reason } => {
            assert_eq!((session_id, reason.initiator), (first, Initiator::Network));
        }
        other => panic!("{other:?} instead of Closed"),
    }
    // Between two sessions nothing is buffered.
    let error = client.try_send("lost").expect_err("no session");
    assert!(matches!(error.kind(), SendErrorKind::Closed(_)));
    match event(&mut events).await {
        TransportEvent::Reconnecting { attempt, delay } => {
            assert_eq!(attempt, 1);
            assert!(delay <= Duration::from_millis(100));
        }
        other => panic!("{other:?} instead of Reconnecting"),
    }
    match event(&mut events).await {
        TransportEvent::ConnectionEstablished { session_id, .. } => assert_ne!(session_id, first),
        other => panic!("{other:?} instead of Established"),
    }
    let answer = client.request("again").await.expect("answered");
    assert_eq!(answer.payload.as_ref(), b"again");
    assert_eq!(client.stats().sessions_opened, 2);
    client.disconnect().await.expect("disconnected");
    assert_eq!(rest(&mut events).await, ["closed"]);
}

#[tokio::test]
async fn a_lost_tcp_session_is_dialled_again() {
    let mut server = Server::tcp().await;
    let (client, _) = server.client().await;
    server.cut();
    server.closed().await;
    server.opened().await;
    // The server has answered; the client may not have read it yet.
    let mut events = client.events();
    for expected in ["established", "closed", "reconnecting", "established"] {
        assert_eq!(name(&event(&mut events).await), expected);
    }
    client.request("again").await.expect("answered");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_goes_away_is_dialled_again() {
    let mut server = Server::inproc().await;
    let (client, session) = server.client().await;
    let mut events = client.events();
    session.close(Code::GOING_AWAY, "restart");
    for expected in ["established", "closed", "reconnecting", "established"] {
        assert_eq!(name(&event(&mut events).await), expected);
    }
    client.request("again").await.expect("answered");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_ended_for_good_is_not_dialled_again() {
    for code in [
        Code::UNAUTHORIZED,
        Code::NORMAL,
        Code::PROTOCOL_ERROR,
        Code::REPLACED,
    ] {
        let mut server = Server::inproc().await;
        let (client, session) = server.client().await;
        let mut events = client.events();
        session.close(code, "enough");
        assert_eq!(rest(&mut events).await, ["established", "closed"], "{code}");
        assert_eq!(client.close_reason().expect("ended").code, code);
        assert_eq!(server.accepted.load(Ordering::Relaxed), 1);
        // Another run, with events of its own.
        client.connect().await.expect("connected");
        let mut events = client.events();
        assert_eq!(name(&event(&mut events).await), "established");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_reconnecting() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    let mut events = client.events();
    server.refuse(Refusal::unauthorized("expired"));
    server.cut();
    for expected in ["established", "closed", "reconnecting"] {
        assert_eq!(name(&event(&mut events).await), expected);
    }
    match event(&mut events).await {
        TransportEvent::Error {
            error: TransportError::Connect(error),
            ..
        } => {
            assert!(
                matches!(&error, ConnectError::Refused { reason, .. } if reason.code == Code::UNAUTHORIZED),
                "{error:?}"
            );
        }
        other => panic!("{other:?} instead of Error"),
    }
    assert!(soon(events.next()).await.is_none());
    assert_eq!(server.accepted.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn reconnecting_waits_as_long_as_the_server_asks() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    let mut events = client.events();
    let retry_after = Some(Duration::from_secs(20));
    server.refuse(Refusal {
        retry_after,
        ..Refusal::new(Code::GOING_AWAY, "restart")
    });
    server.cut();
    let start = Instant::now();
    for expected in ["established", "closed", "reconnecting"] {
        assert_eq!(name(&event(&mut events).await), expected);
    }
    match event(&mut events).await {
        TransportEvent::Reconnecting { attempt, delay } => {
            assert_eq!(attempt, 2);
            assert!(delay >= Duration::from_secs(20), "{delay:?}");
            assert!(delay <= Duration::from_millis(20_200), "{delay:?}");
        }
        other => panic!("{other:?} instead of Reconnecting"),
    }
    assert_eq!(name(&event(&mut events).await), "established");
    assert!(start.elapsed() >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn delays_grow_while_sessions_are_dropped_on_sight_and_start_over_after_a_steady_one() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    let mut events = client.events();
    assert_eq!(name(&event(&mut events).await), "established");
    for expected in [1, 2, 3, 1] {
        if expected == 1 {
            pass_time(Duration::from_secs(6)).await;
        }
        server.cut();
        assert_eq!(name(&event(&mut events).await), "closed");
        match event(&mut events).await {
            TransportEvent::Reconnecting { attempt, .. } => assert_eq!(attempt, expected),
            other => panic!("{other:?} instead of Reconnecting"),
        }
        assert_eq!(name(&event(&mut events).await), "established");
    }
}

#[tokio::test(start_paused = true)]
async fn reconnecting_gives_up_after_the_attempts_it_was_given() {
    let mut server = Server::inproc().await;
    let reconnect = ReconnectConfig::new().attempts_max(3);
    let client = server
        .builder()
        .reconnect(reconnect)
        .build()
        .await
        .expect("valid");
    client.connect().await.expect("connected");
    server.opened().await;
    let mut events = client.events();
    drop(server);
    let expected = [
        "established",
        "closed",
        "reconnecting",
        "reconnecting",
        "reconnecting",
        "error",
    ];
    assert_eq!(rest(&mut events).await, expected);
}

#[tokio::test(start_paused = true)]
async fn one_knob_turns_reconnecting_off() {
    let mut server = Server::inproc().await;
    let client = server
        .builder()
        .auto_reconnect(false)
        .build()
        .await
        .expect("valid");
    client.connect().await.expect("connected");
    server.opened().await;
    server.cut();
    let mut events = client.events();
    assert_eq!(rest(&mut events).await, ["established", "closed"]);
    assert_eq!(server.accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn disconnecting_stops_a_redial() {
    let mut server = Server::inproc().await;
    let (client, _) = server.client().await;
    let mut events = client.events();
    drop(server);
    while name(&event(&mut events).await) != "reconnecting" {}
    soon(client.disconnect()).await.expect("disconnected");
    assert!(
        rest(&mut events)
            .await
            .iter()
            .all(|name| name == "reconnecting")
    );
    assert!(matches!(
        client.connect().await,
        Err(TransportError::Connect(ConnectError::Io { .. }))
    ));
}
