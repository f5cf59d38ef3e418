//! Who stood still: nobody is cut for what this side was late to read or to write.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Buf;
use msgtrans_core::{
    CloseReason, Code, Goodbye, Hello, Initiator, OutBuffer, Packet, PacketType, RequestError,
    WireVersion, encode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, advance};

use crate::actor::open::tests::{Anybody, accepted, runtime_of};
use crate::{Session, SessionRuntime, SessionTask, TransportEvent, accept};

/// What a pipe holds in each direction.
const PIPE: usize = 64 * 1024;
/// More than the second look takes.
const MOMENT: Duration = Duration::from_millis(100);

/// A server's session that runs when it is told, and its peer's end of the pipe.
struct Stage {
    task: SessionTask,
    over: bool,
    runtime: Arc<SessionRuntime>,
    session: Session,
    peer: DuplexStream,
}

fn frame(packet: &Packet) -> Vec<u8> {
    let mut out = OutBuffer::new();
    encode(packet, WireVersion::V2, &mut out).expect("of this version");
    out.copy_to_bytes(out.remaining()).to_vec()
}

impl Stage {
    async fn open() -> Self {
        let hooks = Arc::<Anybody>::default();
        let runtime = runtime_of(hooks.clone());
        let (ours, mut peer) = duplex(PIPE);
        let mut task = accept(runtime.clone(), accepted(ours, Instant::now()));
        let hello = frame(&Hello::default().to_packet());
        peer.write_all(&hello).await.expect("room");
        run(&mut task);
        let session = hooks.last().expect("it has opened");
        Self {
            task,
            over: false,
            runtime,
            session,
            peer,
        }
    }

    /// Lets the session do what it can.
    fn run(&mut self) {
        self.over = self.over || run(&mut self.task);
    }

    /// This side stands still for `time`, then goes on.
    async fn stand_still(&mut self, time: Duration) {
        advance(time).await;
        self.run();
        advance(MOMENT).await;
        self.run();
    }

    async fn say(&mut self, packet: &Packet) {
        let bytes = frame(packet);
        self.peer.write_all(&bytes).await.expect("room");
    }

    /// What has come for the peer.
    async fn heard(&mut self) -> usize {
        let mut bytes = Vec::with_capacity(2 * PIPE);
        let heard = self.peer.read_buf(&mut bytes).await.expect("a pipe");
        assert!(heard > 0, "something, not the end");
        heard
    }

    fn reason(&self) -> Option<CloseReason> {
        self.session.close_reason()
    }
}

/// So often that whatever wakes itself has come to rest; whether it has ended.
fn run(task: &mut SessionTask) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    (0..20).any(|_| matches!(Pin::new(&mut *task).poll(&mut cx), Poll::Ready(())))
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_spoke_while_this_side_stood_still_was_not_silent() {
    let mut stage = Stage::open().await;
    let silence = 3 * stage.runtime.config.heartbeat;
    let ping = Packet::numbered(PacketType::Ping, 1, bytes::Bytes::new());
    for _ in 0..3 {
        stage.say(&ping).await;
        stage.stand_still(silence + Duration::from_secs(1)).await;
        assert_eq!(stage.reason(), None);
    }
    // One that says nothing is.
    stage.stand_still(silence + Duration::from_secs(1)).await;
    let reason = stage.reason().expect("cut");
    assert_eq!(
        (reason.initiator, reason.code),
        (Initiator::Network, Code::TIMEOUT)
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_read_while_this_side_stood_still_is_no_slow_one() {
    let mut stage = Stage::open().await;
    stage.heard().await;
    let timeout = stage.runtime.config.send_timeout + Duration::from_secs(1);
    for _ in 0..8 {
        let packet = Packet::binary(vec![0; PIPE / 2]);
        stage.session.try_send(packet).expect("queued");
    }
    stage.run();
    assert!(
        stage
            .session
            .shared
            .blocked
            .load(std::sync::atomic::Ordering::Relaxed)
    );
    for _ in 0..2 {
        stage.heard().await;
        stage.stand_still(timeout).await;
        assert_eq!(stage.reason(), None);
    }
    // One that reads nothing is.
    stage.stand_still(timeout).await;
    let reason = stage.reason().expect("cut");
    assert_eq!(reason.code, Code::SLOW_CONSUMER);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_lies_unread_is_work_that_a_drain_waits_for() {
    let mut stage = Stage::open().await;
    let mut events = stage.runtime.events.take().expect("the first");
    stage
        .session
        .drain(Goodbye::new(Code::GOING_AWAY, "the server shuts down"));
    stage.run();
    let request = Packet::request("?").with_message_id(1);
    stage.say(&request).await;
    stage.stand_still(Duration::from_secs(1)).await;
    assert_eq!(stage.reason(), None, "there is work");
    let responder = loop {
        match events.next().await.expect("an event") {
            TransportEvent::RequestReceived { responder, .. } => break responder,
            other => assert!(!matches!(other, TransportEvent::ConnectionClosed { .. })),
        }
    };
    responder.respond(Packet::response("!"));
    stage.run();
    stage.stand_still(Duration::from_secs(1)).await;
    let reason = stage.reason().expect("the work is done");
    assert_eq!(reason.code, Code::GOING_AWAY);
}

#[tokio::test(start_paused = true)]
async fn what_was_queued_before_a_close_is_written_though_this_side_stood_still() {
    const FRAMES: usize = 2;
    let mut stage = Stage::open().await;
    stage.heard().await;
    let timeout = stage.runtime.config.send_timeout + Duration::from_secs(1);
    for _ in 0..FRAMES {
        let packet = Packet::binary(vec![0; PIPE / 2]);
        stage.session.try_send(packet).expect("queued");
    }
    stage.session.close(Code::NORMAL, "");
    stage.run();
    let mut heard = stage.heard().await;
    stage.stand_still(timeout).await;
    heard += stage.heard().await;
    let goodbye = frame(&Goodbye::new(Code::NORMAL, "").to_packet(PacketType::Goodbye));
    assert_eq!(
        heard,
        FRAMES * frame(&Packet::binary(vec![0; PIPE / 2])).len() + goodbye.len()
    );
    // Nobody waits for ever for a peer that does not close.
    stage.stand_still(timeout).await;
    assert!(stage.over, "closed");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lies_unread_is_in_time_though_this_side_stood_still() {
    let mut stage = Stage::open().await;
    let deadline = Duration::from_secs(1);
    for answered in [true, false] {
        let request = stage.session.request_with(Packet::request("?"), deadline);
        let asked = tokio::spawn(request);
        tokio::task::yield_now().await;
        stage.run();
        if answered {
            let answer = Packet::response("!").with_message_id(1);
            stage.say(&answer).await;
        }
        stage.stand_still(2 * deadline).await;
        match asked.await.expect("it does not panic") {
            Ok(answer) => assert_eq!((answered, &answer.payload[..]), (true, &b"!"[..])),
            Err(error) => assert!(
                !answered && matches!(error, RequestError::Timeout { after } if after == deadline),
                "{error}"
            ),
        }
    }
}
