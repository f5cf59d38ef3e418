//! A handler that takes its time costs its peer nothing but time.

use std::sync::Arc;
use std::time::Duration;

use msgtrans::{Handler, HandlerError, Packet, RequestError, SendErrorKind, Session};
use tokio::sync::Notify;

use crate::support::{Log, Protocol, run_paused, start};

struct Stuck {
    go_on: Arc<Notify>,
    seen: Log<u32>,
}

impl Handler for Stuck {
    async fn on_message(&self, _: &Session, packet: Packet) -> Result<(), HandlerError> {
        if packet.message_id == 1 {
            self.go_on.notified().await;
        }
        self.seen.put(packet.message_id);
        Ok(())
    }
}

#[test]
fn a_peer_that_is_not_read_is_not_taken_for_a_silent_one() {
    run_paused(async {
        let go_on = Arc::new(Notify::new());
        let (seen, mut order) = Log::new();
        let handler = Stuck {
            go_on: go_on.clone(),
            seen,
        };
        let server = Protocol::Inproc.server().with_handler(handler);
        let server = start(server.session_config(|config| config.inbound_bytes = 4096)).await;
        let client = Protocol::Inproc.connected(&server).await;
        for id in 1..=20 {
            let packet = Packet::binary(vec![0; 1024]).with_message_id(id);
            client.send(packet).await.expect("queued");
        }
        // Ten heartbeats during which the server reads nothing: pings and pongs lie unread with the rest.
        let closed = client.session().expect("connected");
        let time = Duration::from_secs(150);
        tokio::time::timeout(time, closed.closed())
            .await
            .expect_err("closed");
        assert_eq!(server.session_count(), 1);
        go_on.notify_one();
        for id in 1..=20 {
            assert_eq!(order.recv().await, Some(id));
        }
    });
}

#[test]
fn a_request_that_finds_no_room_before_its_deadline_has_timed_out() {
    run_paused(async {
        let (seen, _order) = Log::new();
        let handler = Stuck {
            go_on: Arc::new(Notify::new()),
            seen,
        };
        let server = Protocol::Inproc.server().with_handler(handler);
        let server = start(server.session_config(|config| config.inbound_bytes = 4096)).await;
        let client = Protocol::Inproc.connected(&server).await;
        let mut id = 0;
        loop {
            id += 1;
            let packet = Packet::binary(vec![0; 64 * 1024]).with_message_id(id);
            match client.try_send(packet) {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => {
                    assert!(
                        matches!(error.kind(), SendErrorKind::Full { .. }),
                        "{error}"
                    );
                    break;
                }
            }
        }
        let deadline = Duration::from_millis(100);
        let error = client
            .request_with("?", deadline)
            .await
            .expect_err("no room");
        assert!(
            matches!(error, RequestError::Timeout { after } if after == deadline),
            "{error:?}"
        );
    });
}
