//! Clients that come back.

use std::time::Duration;

use msgtrans::{
    Code, EventStream, Handler, HandlerError, Packet, ReconnectConfig, SendErrorKind, Session,
    TransportError, TransportEvent,
};
use tokio::time::interval;

use super::{Case, Protocol, case, connect, start, until, welcome};

pub(super) const CASES: &[Case] = &[
    case!(a_client_that_is_cut_off_comes_back),
    case!(a_client_comes_back_to_a_server_that_was_restarted),
    case!(a_client_that_is_sent_away_for_good_stays_away),
];

async fn name(events: &mut EventStream) -> &'static str {
    match events.next().await.expect("an event") {
        TransportEvent::ConnectionEstablished { .. } => "established",
        TransportEvent::ConnectionClosed { .. } => "closed",
        TransportEvent::Reconnecting { .. } => "reconnecting",
        TransportEvent::GoingAway { .. } => "going away",
        other => panic!("{other:?}"),
    }
}

async fn a_client_that_is_cut_off_comes_back(protocol: Protocol) {
    let mut listener = protocol.listener().await;
    let client = protocol.dial(&listener.local_endpoint());
    let client = client.auto_reconnect(true).build().await.expect("valid");
    let mut events = client.events();
    let (connected, peer) = tokio::join!(client.connect(), welcome(listener.as_mut()));
    connected.expect("connected");
    // Without a word.
    drop(peer);
    for expected in ["established", "closed", "reconnecting"] {
        assert_eq!(name(&mut events).await, expected);
    }
    // Nothing is kept for the next session.
    let error = client.try_send("lost").expect_err("no session");
    assert!(matches!(error.kind(), SendErrorKind::Closed(_)), "{error}");
    let mut peer = welcome(listener.as_mut()).await;
    assert_eq!(name(&mut events).await, "established");
    client.send("back").await.expect("sent");
    assert_eq!(peer.expect().await.expect("a frame").payload, "back");
    assert_eq!(client.stats().sessions_opened, 2);
}

struct Echo;

impl Handler for Echo {
    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        Ok(Packet::response(request.payload))
    }
}

async fn a_client_comes_back_to_a_server_that_was_restarted(protocol: Protocol) {
    let server = start(protocol.server().with_handler(Echo)).await;
    let endpoint = server.local_endpoints()[0].clone();
    // Where nobody answers at all, an attempt takes as long as it may.
    let builder = protocol
        .dial(&endpoint)
        .connect_timeout(Duration::from_millis(500));
    let reconnect = ReconnectConfig::new().base(Duration::from_millis(10));
    let client = connect(builder.auto_reconnect(true).reconnect(reconnect)).await;
    let mut events = client.events();
    assert!(server.shutdown().await.is_clean());
    drop(server);
    let mut attempts = interval(Duration::from_millis(10));
    let server = loop {
        let builder = protocol.server_at(&endpoint);
        match builder.with_handler(Echo).build().await {
            Ok(server) => break server,
            // Its last connection has not gone yet.
            Err(TransportError::Bind(_)) => attempts.tick().await,
            Err(other) => panic!("{other}"),
        };
    };
    server.start().expect("the first start");
    assert_eq!(name(&mut events).await, "established");
    while name(&mut events).await != "established" {}
    let answer = client.request("again").await.expect("answered");
    assert_eq!(answer.payload, "again");
    // An attempt that was given up may have come as far as a session.
    until(|| server.session_count() == 1).await;
}

async fn a_client_that_is_sent_away_for_good_stays_away(protocol: Protocol) {
    let server = start(protocol.server()).await;
    let client = protocol.client(&server).auto_reconnect(true);
    let client = connect(client).await;
    let mut events = client.events();
    let id = client.session_id().expect("connected");
    let session = loop {
        match server.session(id) {
            Some(session) => break session,
            None => tokio::task::yield_now().await,
        }
    };
    session.close(Code::UNAUTHORIZED, "expired");
    for expected in ["established", "closed"] {
        assert_eq!(name(&mut events).await, expected);
    }
    assert!(events.next().await.is_none(), "an event behind the end");
    assert_eq!(server.listener_stats().accepted, 1);
}
