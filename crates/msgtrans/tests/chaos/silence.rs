//! Networks through which nothing passes any more, and nobody says so.

use std::time::Duration;

use msgtrans::{Code, Initiator, RequestError, TransportEvent};
use msgtrans_testkit::chaos::Direction;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::path::{Path, Protocol, connect, run};

/// All protocols at once, because most of it is waiting.
#[test]
fn a_dead_path_is_noticed_by_both_sides_within_three_heartbeats() {
    run(async {
        let mut protocols = JoinSet::new();
        for protocol in Protocol::ALL {
            protocols.spawn(dead_path(*protocol));
        }
        while let Some(ended) = protocols.join_next().await {
            ended.expect("ran");
        }
    });
}

/// The shortest that the wire allows.
const HEARTBEAT: Duration = Duration::from_secs(5);

async fn dead_path(protocol: Protocol) {
    let server = protocol
        .server()
        .session_config(|config| config.heartbeat = HEARTBEAT);
    let path = Path::to(protocol, server).await;
    let mut events = path.server.events();
    let client = connect(path.client().heartbeat(HEARTBEAT)).await;
    let session = client.session().expect("open");
    path.network.blackhole(Direction::Both, true);
    let start = Instant::now();
    let request = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .request_with("anybody?", Duration::from_secs(60))
                .await
        }
    });
    let reason = session.closed().await;
    let noticed = start.elapsed();
    // And a second for a machine that is busy elsewhere.
    let latest = HEARTBEAT * 3 + Duration::from_secs(1);
    assert!(noticed <= latest, "{noticed:?}");
    assert_eq!(reason.initiator, Initiator::Network, "{reason}");
    assert_eq!(reason.code, Code::TIMEOUT, "{reason}");
    // Whoever waits for an answer hears it then, not at a deadline of its own.
    match request.await.expect("ran") {
        Err(RequestError::Closed(told)) => assert_eq!(told, reason),
        other => panic!("{other:?}"),
    }
    loop {
        if let TransportEvent::ConnectionClosed { reason, .. } =
            events.next().await.expect("an event")
        {
            assert_eq!(reason.code, Code::TIMEOUT, "{reason}");
            break;
        }
    }
    assert!(start.elapsed() <= latest, "{:?}", start.elapsed());
    assert_eq!(path.server.session_count(), 0);
}
