//! What comes past the task waits for what a pass has at hand.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use msgtrans_actor::{Bounds, Timers};
use msgtrans_core::{
    CloseReason, ConnectionInfo, Limits, Packet, PacketBatch, PeerAddress, WireVersion,
    WireVersions,
};
use msgtrans_transport::{
    Connection, ConnectionError, Framing, Inlet, OutboundBatch, Progress, Received, Shortcut,
};

use crate::{
    EventSink, Handlers, RateLimiter, Refusal, RuntimeStats, Session, SessionConfig, SessionHooks,
    SessionRuntime, connect,
};

/// What the test and the connection share.
#[derive(Default)]
struct State {
    inlet: Option<Arc<dyn Inlet>>,
    /// Whether a message comes with the next read.
    comes: bool,
    /// Whether an answer that came in the middle of that read was taken.
    taken_between: Option<bool>,
}

#[derive(Clone, Default)]
struct Peer(Arc<Mutex<State>>);

impl Peer {
    fn state<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Answers the first request past the task; whether it was taken.
    fn answer(&self) -> bool {
        let inlet = self.state(|state| state.inlet.clone()).expect("open");
        let response = Packet::response("late").with_message_id(1);
        inlet.deliver(response).is_ok()
    }
}

/// A way that is never free.
struct NoWay;

impl Shortcut for NoWay {
    fn try_send(&self, packet: Packet, _: bool) -> Result<(), Packet> {
        Err(packet)
    }

    fn seal(&self) {}

    fn sent(&self) -> (u64, u64) {
        (0, 0)
    }
}

struct Pipe {
    peer: Peer,
    info: ConnectionInfo,
}

impl Connection for Pipe {
    fn poll_recv(
        &mut self,
        _: &mut Context<'_>,
        _: usize,
        into: &mut PacketBatch,
    ) -> Poll<Result<Received, ConnectionError>> {
        if !self.peer.state(|state| std::mem::take(&mut state.comes)) {
            return Poll::Pending;
        }
        into.push(Packet::binary("early").with_message_id(1), WireVersion::V2);
        let taken = self.peer.answer();
        self.peer.state(|state| state.taken_between = Some(taken));
        Poll::Ready(Ok(Received::Lone))
    }

    fn poll_send(
        &mut self,
        _: &mut Context<'_>,
        from: &mut OutboundBatch,
    ) -> Poll<Result<(), ConnectionError>> {
        while from.pop().is_some() {}
        Poll::Ready(Ok(()))
    }

    fn poll_close(
        &mut self,
        _: &mut Context<'_>,
        _: &CloseReason,
    ) -> Poll<Result<(), ConnectionError>> {
        Poll::Ready(Ok(()))
    }

    fn set_wire(&mut self, _: WireVersion, _: Limits) {}

    fn framing(&self) -> Framing {
        Framing::Packets
    }

    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn shortcut(&self) -> Option<Arc<dyn Shortcut>> {
        Some(Arc::new(NoWay))
    }

    fn set_inlet(&mut self, inlet: Option<Arc<dyn Inlet>>) {
        self.peer.state(|state| state.inlet = inlet);
    }

    fn info(&self) -> &ConnectionInfo {
        &self.info
    }
}

struct Anybody;

impl SessionHooks for Anybody {
    fn admit(&self, _: &Session) -> Result<(), Refusal> {
        Ok(())
    }

    fn opened(&self, _: &Session) {}

    fn closed(&self, _: &Session, _: &CloseReason) {}

    fn address_limiter(&self, _: &Session) -> Option<Arc<RateLimiter>> {
        None
    }
}

fn runtime() -> Arc<SessionRuntime> {
    let events = EventSink::new(Bounds {
        items: 64,
        bytes: 65_536,
    });
    Arc::new(SessionRuntime {
        config: SessionConfig::default(),
        service: Arc::new(Handlers::new(events.clone())),
        events,
        middleware: Vec::new(),
        timers: Timers::start(),
        hooks: Arc::new(Anybody),
        stats: Arc::new(RuntimeStats::new("test")),
    })
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn an_answer_does_not_overtake_a_message_that_a_pass_has_read_and_not_handed_on() {
    let peer = Peer::default();
    let pipe = Pipe {
        peer: peer.clone(),
        info: ConnectionInfo::new("test", PeerAddress::Local("test".into())),
    };
    // Version 1 needs no handshake.
    let (mut task, opened) = connect(runtime(), Box::new(pipe), String::new(), WireVersions::V1);
    assert!(poll(&mut task).is_pending());
    let session = opened.await.expect("told").expect("open");
    let mut request = session.request("question");
    assert!(poll(&mut request).is_pending());
    // It yields before it takes what was queued.
    for _ in 0..2 {
        assert!(poll(&mut task).is_pending());
    }
    peer.state(|state| state.comes = true);
    assert!(poll(&mut task).is_pending());
    assert_eq!(peer.state(|state| state.taken_between), Some(false));
    assert!(peer.answer(), "the pass is over");
    let Poll::Ready(Ok(answer)) = poll(&mut request) else {
        panic!("no answer");
    };
    assert_eq!(answer.payload, "late");
}
