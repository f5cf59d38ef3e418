//! The chat: greeting, broadcast to all, leaving.

use examples::chat::{join, next_line, start};
use msgtrans::{EventStream, Packet};

use crate::soon;

/// The next line that begins with `start`; others are about comings and goings.
async fn line(events: &mut EventStream, start: &str) -> String {
    soon(async {
        loop {
            let line = next_line(events).await.expect("the chat goes on");
            if line.starts_with(start) {
                return line;
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_one_says_all_see() {
    let server = start("ws://127.0.0.1:0").await.expect("a free port");
    let url = server.local_endpoints()[0].to_string();

    let (ada, mut seen_by_ada) = soon(join(&url)).await.expect("joins");
    let ada_id = ada.session_id().expect("connected");
    assert_eq!(
        line(&mut seen_by_ada, "* you").await,
        format!("* you are {ada_id}, 0 others are here")
    );
    let (bob, mut seen_by_bob) = soon(join(&url)).await.expect("joins");
    let bob_id = bob.session_id().expect("connected");
    assert_eq!(
        line(&mut seen_by_bob, "* you").await,
        format!("* you are {bob_id}, 1 others are here")
    );

    ada.send(Packet::text("hi")).await.expect("connected");
    let said = format!("{ada_id}: hi");
    for events in [&mut seen_by_ada, &mut seen_by_bob] {
        assert_eq!(line(events, &ada_id.to_string()).await, said);
    }

    soon(ada.disconnect()).await.expect("disconnects");
    let left = format!("* {ada_id} has left");
    assert_eq!(line(&mut seen_by_bob, &left).await, left);
    // Who has left hears nothing more.
    while let Some(line) = soon(next_line(&mut seen_by_ada)).await {
        assert!(!line.ends_with("has left"), "{line}");
    }
    soon(server.shutdown()).await;
    assert!(!bob.is_connected());
    soon(bob.disconnect()).await.expect("stops reconnecting");
}
