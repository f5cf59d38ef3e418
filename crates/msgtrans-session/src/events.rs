//! [`TransportEvent`] and [`EventStream`]: what happens, for those who prefer a loop to a handler.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_actor::{Bounds, Mailbox, PushError};
use msgtrans_core::{
    CloseReason, Code, ConnectionInfo, Goodbye, HandlerError, Packet, SessionId, TransportError,
};
use tokio::sync::oneshot;

use crate::handler::Handler;
use crate::session::Session;

/// What happens to sessions.
#[derive(Debug)]
#[non_exhaustive]
pub enum TransportEvent {
    /// A session is open.
    ConnectionEstablished {
        /// Its name.
        session_id: SessionId,
        /// Who is at the other end, over which protocol.
        info: ConnectionInfo,
    },
    /// A one-way message.
    MessageReceived {
        /// The session that it came over.
        session_id: SessionId,
        /// The message.
        packet: Packet,
    },
    /// A request; answer it through the responder. A responder that is dropped fails the request.
    RequestReceived {
        /// The session that it came over.
        session_id: SessionId,
        /// The request.
        request: Packet,
        /// How to answer it.
        responder: Responder,
    },
    /// The peer wants nothing new to be started and is about to leave.
    GoingAway {
        /// The session.
        session_id: SessionId,
        /// Why, and when and where to come back.
        goodbye: Goodbye,
    },
    /// The peer dropped so many messages at this point of the stream.
    Gap {
        /// The session.
        session_id: SessionId,
        /// The frame that says how many and why.
        packet: Packet,
    },
    /// A session has ended; comes exactly once for each one established.
    ConnectionClosed {
        /// The session.
        session_id: SessionId,
        /// Why.
        reason: CloseReason,
    },
    /// A client has lost its session and dials again.
    Reconnecting {
        /// The attempt that follows, from 1.
        attempt: u32,
        /// How long it waits before it.
        delay: Duration,
    },
    /// Something failed and the session, if it was one, goes on.
    Error {
        /// The session, where it was one.
        session_id: Option<SessionId>,
        /// What failed.
        error: TransportError,
    },
}

impl TransportEvent {
    fn bytes(&self) -> usize {
        match self {
            Self::MessageReceived { packet, .. } | Self::Gap { packet, .. } => {
                packet.queued_bytes()
            }
            Self::RequestReceived { request, .. } => request.queued_bytes(),
            _ => 64,
        }
    }

    /// Whether it may be dropped where nobody takes events: messages alone.
    fn may_go(&self) -> bool {
        matches!(
            self,
            Self::MessageReceived { .. } | Self::RequestReceived { .. }
        )
    }
}

/// Answers one request. Consumed by the answer; dropped, it fails the request.
#[must_use = "a responder that is dropped fails its request"]
pub struct Responder(oneshot::Sender<Result<Packet, HandlerError>>);

impl Responder {
    /// Answers with `response`.
    pub fn respond(self, response: impl Into<Packet>) {
        // The requester may have left meanwhile.
        let _ = self.0.send(Ok(response.into()));
    }

    /// Fails the request.
    pub fn fail(self, code: Code, message: impl Into<String>) {
        let _ = self.0.send(Err(HandlerError::with_code(code, message)));
    }

    /// Whether the requester no longer waits.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_closed()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}

type Queue = Mailbox<(), TransportEvent>;

/// The sending side of the event stream; one per server or client.
#[derive(Clone, Debug)]
pub struct EventSink {
    shared: Arc<Stream>,
}

#[derive(Debug)]
struct Stream {
    queue: Queue,
    /// Whether somebody takes the events; then a full queue makes sessions wait instead of dropping the oldest.
    taken: AtomicBool,
    /// Whether nothing more will come.
    finished: AtomicBool,
}

/// What a stream takes from its queue at once: what it holds outside the queue is outside the queue's bound.
const BITE: usize = 64 * 1024;
/// Connects and closes that may wait for a consumer that holds the stream and does not read it.
const LIFECYCLE_MAX: usize = 65_536;

impl EventSink {
    /// A stream that holds at most `bounds`.
    pub fn new(bounds: Bounds) -> Self {
        let queue = Queue::new(bounds);
        let stream = Stream {
            queue,
            taken: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(stream),
        }
    }

    /// The stream; `None` if it has been taken already.
    pub fn take(&self) -> Option<EventStream> {
        let first = !self.shared.taken.swap(true, Ordering::AcqRel);
        first.then(|| EventStream {
            shared: self.shared.clone(),
            ready: VecDeque::new(),
            waker: None,
        })
    }

    /// Nothing more will come: the stream ends when it has been read.
    pub fn finish(&self) {
        self.shared.finished.store(true, Ordering::Release);
        self.shared.queue.command(());
    }

    /// Adds an event that waits for nobody. Connects and closes are never dropped while there is a consumer; errors are
    /// when the queue is full, because they are counted elsewhere too.
    pub fn tell(&self, event: TransportEvent) {
        let queue = &self.shared.queue;
        let bytes = event.bytes();
        let taken = self.shared.taken.load(Ordering::Acquire);
        if taken && !matches!(event, TransportEvent::Error { .. }) && queue.len().0 < LIFECYCLE_MAX
        {
            queue.push_unbounded(event, bytes);
        } else if let Err(PushError::Full(event)) = queue.try_push(event, bytes)
            && !taken
            && queue.drop_oldest(|_| true, TransportEvent::bytes).is_some()
        {
            // A second race for the place is lost like the first: nobody is reading.
            let _ = queue.try_push(event, bytes);
        }
    }

    /// Adds a message if somebody takes the events and there is room; returns whom to wake.
    ///
    /// # Errors
    /// The packet comes back.
    pub(crate) fn try_deliver(
        &self,
        session_id: SessionId,
        mut packet: Packet,
    ) -> Result<Option<Waker>, Packet> {
        if !self.shared.taken.load(Ordering::Acquire) {
            return Err(packet);
        }
        packet.detach(DETACH_MAX);
        let bytes = packet.queued_bytes();
        let event = TransportEvent::MessageReceived { session_id, packet };
        match self.shared.queue.try_leave(event, bytes) {
            Ok(waker) => Ok(waker),
            Err(PushError::Full(event) | PushError::Closed(event)) => match event {
                TransportEvent::MessageReceived { packet, .. } => Err(packet),
                _ => Ok(None),
            },
        }
    }

    /// Adds a message or request: waits for room while there is a consumer, drops the oldest while there is none.
    /// Returns how many were dropped.
    pub(crate) async fn deliver(&self, event: TransportEvent) -> u64 {
        let shared = &*self.shared;
        let bytes = event.bytes();
        if shared.taken.load(Ordering::Acquire) {
            let event = match shared.queue.try_push(event, bytes) {
                Ok(()) => return 0,
                Err(PushError::Closed(_)) => return 1,
                Err(PushError::Full(event)) => event,
            };
            return u64::from(shared.queue.push(event, bytes).await.is_err());
        }
        let mut event = event;
        let mut dropped = 0;
        loop {
            match shared.queue.try_push(event, bytes) {
                Ok(()) => return dropped,
                Err(PushError::Closed(_)) => return dropped + 1,
                Err(PushError::Full(back)) => event = back,
            }
            if shared
                .queue
                .drop_oldest(TransportEvent::may_go, TransportEvent::bytes)
                .is_none()
            {
                // Only events that must stay are in it; they alone never fill it for long.
                return dropped + 1;
            }
            dropped += 1;
        }
    }
}

/// The events of a server or client, in order. Taken once; bounded; while it is held, sessions wait for it when it is
/// full, so read it without pause or drop it.
#[derive(Debug)]
pub struct EventStream {
    shared: Arc<Stream>,
    ready: VecDeque<TransportEvent>,
    /// Whom the queue wakes.
    waker: Option<Waker>,
}

impl EventStream {
    /// A stream with one error in it: what somebody gets who takes the events a second time.
    pub fn failed(error: TransportError) -> Self {
        let sink = EventSink::new(Bounds {
            items: 1,
            bytes: 1024,
        });
        sink.shared.taken.store(true, Ordering::Release);
        sink.finish();
        let ready = VecDeque::from([TransportEvent::Error {
            session_id: None,
            error,
        }]);
        Self {
            shared: sink.shared,
            ready,
            waker: None,
        }
    }

    /// The next event; `None` when the server or client is gone and everything has been read.
    ///
    /// # Cancel safety
    /// May be dropped at any time; no event is lost by it.
    pub async fn next(&mut self) -> Option<TransportEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Polls for the next event.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<TransportEvent>> {
        if let Some(event) = self.ready.pop_front() {
            return Poll::Ready(Some(event));
        }
        let finished = self.shared.finished.load(Ordering::Acquire);
        let known = self.waker.as_ref();
        let known = known.is_some_and(|waker| waker.will_wake(cx.waker()));
        // Nothing has come since the last look: what comes finds the waker where it lies.
        if known && !finished && !self.shared.queue.is_signalled() {
            return Poll::Pending;
        }
        if !known {
            self.waker = Some(cx.waker().clone());
        }
        // Registered with each look: the stream may move between tasks.
        self.shared
            .queue
            .poll_take(cx.waker(), BITE, &mut self.ready, TransportEvent::bytes);
        match self.ready.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if finished => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    /// The next event if there is one.
    pub fn try_next(&mut self) -> Option<TransportEvent> {
        if self.ready.is_empty() {
            let queue = &self.shared.queue;
            queue.take_commands(&mut Vec::new());
            queue.take(BITE, &mut self.ready, TransportEvent::bytes);
        }
        self.ready.pop_front()
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        drop(self.shared.queue.close());
    }
}

/// Packets above this size stay slices of the buffer they were read into; smaller ones are copied before they wait in
/// the event queue, where one of them could keep 256 KiB alive.
const DETACH_MAX: usize = 4096;

/// The handler behind [`EventStream`].
#[derive(Debug)]
pub(crate) struct EventHandler {
    pub(crate) sink: EventSink,
}

impl Handler for EventHandler {
    async fn on_message(&self, session: &Session, mut packet: Packet) -> Result<(), HandlerError> {
        packet.detach(DETACH_MAX);
        let event = TransportEvent::MessageReceived {
            session_id: session.id(),
            packet,
        };
        let dropped = self.sink.deliver(event).await;
        if dropped > 0 {
            session.count_dropped_events(dropped);
        }
        Ok(())
    }

    async fn on_request(
        &self,
        session: &Session,
        mut request: Packet,
    ) -> Result<Packet, HandlerError> {
        request.detach(DETACH_MAX);
        let (sender, receiver) = oneshot::channel();
        let responder = Responder(sender);
        let event = TransportEvent::RequestReceived {
            session_id: session.id(),
            request,
            responder,
        };
        let dropped = self.sink.deliver(event).await;
        if dropped > 0 {
            session.count_dropped_events(dropped);
        }
        match receiver.await {
            Ok(answer) => answer,
            Err(_) => Err(HandlerError::with_code(
                Code::HANDLER_FAILED,
                "nobody answered the request",
            )),
        }
    }
}
