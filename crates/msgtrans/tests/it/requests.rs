//! Requests: deadlines, cancellation, failures, bounds, and whose answer is whose.

use std::sync::Arc;
use std::time::Duration;

use msgtrans::{Handler, HandlerError, Packet, PacketType, RequestError, Session, TransportServer};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Notify, Semaphore};

use crate::raw::Raw;
use crate::support::{Log, OnDrop, Protocol, only_session, run, start, until};

/// Requests of `server` to the session of a raw peer.
fn request_of(
    session: &Session,
    deadline: Duration,
) -> tokio::task::JoinHandle<Result<Packet, RequestError>> {
    let session = session.clone();
    tokio::spawn(async move { session.request_with(Packet::request("?"), deadline).await })
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn requests_are_numbered_from_one_by_each_side() {
    run(async {
        let server = start(Protocol::Tcp.server()).await;
        let (mut raw, _) = Raw::v2(&server).await;
        let session = only_session(&server).await;
        for number in 1..=3 {
            let request = request_of(&session, LONG);
            let asked = raw.expect(PacketType::Request).await;
            assert_eq!(asked.message_id, number);
            raw.send(&Packet::response("!").with_message_id(number))
                .await;
            assert_eq!(request.await.expect("ran").expect("answered").payload, "!");
        }
    });
}

#[test]
fn a_late_answer_is_counted_and_reaches_nobody() {
    run(async {
        let server = start(Protocol::Tcp.server()).await;
        let (mut raw, _) = Raw::v2(&server).await;
        let session = only_session(&server).await;
        let late = request_of(&session, Duration::from_millis(20));
        assert_eq!(raw.expect(PacketType::Request).await.message_id, 1);
        assert_eq!(raw.expect(PacketType::Cancel).await.message_id, 1);
        assert!(matches!(
            late.await.expect("ran"),
            Err(RequestError::Timeout { .. })
        ));
        let next = request_of(&session, LONG);
        assert_eq!(raw.expect(PacketType::Request).await.message_id, 2);
        raw.send(&Packet::response("late").with_message_id(1)).await;
        raw.send(&Packet::response("in time").with_message_id(2))
            .await;
        // And once more: an answer is taken once.
        raw.send(&Packet::response("twice").with_message_id(2))
            .await;
        let answer = next.await.expect("ran").expect("answered");
        assert_eq!(answer.payload, "in time");
        until(|| session.stats().responses_unmatched == 2).await;
        assert!(session.is_connected());
    });
}

#[test]
fn an_answer_of_another_session_is_never_accepted() {
    run(async {
        let server = start(Protocol::Tcp.server()).await;
        let (mut asked, _) = Raw::v2(&server).await;
        let session = only_session(&server).await;
        let (mut stranger, welcome) = Raw::v2(&server).await;
        let request = request_of(&session, LONG);
        let id = asked.expect(PacketType::Request).await.message_id;
        stranger
            .send(&Packet::response("forged").with_message_id(id))
            .await;
        let theirs = server.session(welcome.session).expect("open");
        until(|| theirs.stats().responses_unmatched == 1).await;
        assert!(!request.is_finished());
        asked
            .send(&Packet::response("true").with_message_id(id))
            .await;
        let answer = request.await.expect("ran").expect("answered");
        assert_eq!(answer.payload, "true");
    });
}

/// Fails, or hangs until it is released, where it is told.
struct Business {
    log: Log<&'static str>,
    release: Arc<Semaphore>,
}

impl Handler for Business {
    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        match request.payload.as_ref() {
            b"hang" => {
                let _guard = OnDrop(self.log.clone());
                self.log.put("hangs");
                self.release.acquire().await?.forget();
                Ok(Packet::response("released"))
            }
            b"fail" => Err(HandlerError::new("as you wish")),
            _ => Ok(Packet::response(request.payload)),
        }
    }
}

fn business() -> (Business, UnboundedReceiver<&'static str>, Arc<Semaphore>) {
    let (log, seen) = Log::new();
    let release = Arc::new(Semaphore::new(0));
    let business = Business {
        log,
        release: release.clone(),
    };
    (business, seen, release)
}

#[test]
fn a_failed_request_of_a_version_1_peer_is_silence() {
    run(async {
        let (business, _seen, _) = business();
        let server = start(Protocol::Tcp.server().with_handler(business)).await;
        let mut raw = Raw::v1(&server).await;
        raw.send(&Packet::request("fail").with_message_id(1)).await;
        raw.send(&Packet::request("fine").with_message_id(2)).await;
        let answer = raw.expect(PacketType::Response).await;
        assert_eq!(
            (answer.message_id, answer.payload.as_ref()),
            (2, &b"fine"[..])
        );
    });
}

#[test]
fn a_version_1_peer_above_the_bound_waits_and_is_answered() {
    run(async {
        let (business, mut seen, release) = business();
        let builder = Protocol::Tcp.server().with_handler(business);
        let server = start(builder.session_config(|config| config.requests_handled_max = 1)).await;
        let mut raw = Raw::v1(&server).await;
        for number in 1..=3 {
            raw.send(&Packet::request("hang").with_message_id(number))
                .await;
        }
        for number in 1..=3 {
            assert_eq!(seen.recv().await, Some("hangs"));
            release.add_permits(1);
            assert_eq!(raw.expect(PacketType::Response).await.message_id, number);
            assert_eq!(seen.recv().await, Some("dropped"));
        }
    });
}

#[test]
fn a_response_of_the_application_goes_out_as_it_is() {
    run(async {
        let server = answers_by_hand().await;
        let (mut raw, _) = Raw::v2(&server).await;
        raw.send(&Packet::text("7")).await;
        let packet = raw.expect(PacketType::Response).await;
        assert_eq!(packet.message_id, 7);
    });
}

/// Answers messages with responses, as applications do that number requests themselves.
async fn answers_by_hand() -> TransportServer {
    let server = Protocol::Tcp.server().build().await.expect("bound");
    let replies = server.clone();
    let started = Arc::new(Notify::new());
    started.notify_one();
    server.on_message(move |id, packet| {
        let replies = replies.clone();
        async move {
            let number = packet.payload_as_str().unwrap_or_default().parse()?;
            let response = Packet::response("by hand").with_message_id(number);
            replies.send_to(id, response).await?;
            Ok(())
        }
    });
    server.start().expect("the first start");
    server
}
