//! [`Service`]: a handler as the session's task runs it — two lanes, each one future for the session's whole life.
//!
//! The lanes know the handler's type and are boxed once a session, so that a packet costs neither a box nor a dynamic
//! call: the task polls a lane once a batch, and the message lane takes the whole batch.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use msgtrans_core::{CloseReason, Code, HandlerError, Packet, PacketBatch, PacketType};

use crate::handler::{ConnectRequest, Handler, Refusal};
use crate::pass;
use crate::session::Session;

/// A lane: runs as long as its session, unless it is idle and let go.
pub type LaneFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A boxed future that borrows.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The object-safe form of a [`Handler`].
pub trait Service: Send + Sync + 'static {
    /// Decides about a peer.
    fn connect<'a>(
        &'a self,
        session: &'a Session,
        request: &'a ConnectRequest,
    ) -> BoxFuture<'a, Result<(), Refusal>>;

    /// The lane of one-way messages.
    fn messages(&self, session: Session) -> LaneFuture;

    /// The lane of requests.
    fn requests(&self, session: Session) -> LaneFuture;

    /// Whether one-way messages go to the event stream and to nobody else.
    fn events_take_messages(&self) -> bool {
        false
    }

    /// Hears of the end of a session.
    fn disconnect(&self, session: Session, reason: CloseReason) -> LaneFuture;
}

/// Makes a [`Service`] of a [`Handler`].
pub fn service(handler: impl Handler) -> Arc<dyn Service> {
    Arc::new(HandlerService(Arc::new(handler)))
}

struct HandlerService<H>(Arc<H>);

impl<H: Handler> Service for HandlerService<H> {
    fn connect<'a>(
        &'a self,
        session: &'a Session,
        request: &'a ConnectRequest,
    ) -> BoxFuture<'a, Result<(), Refusal>> {
        Box::pin(self.0.on_connect(session, request))
    }

    fn messages(&self, session: Session) -> LaneFuture {
        Box::pin(messages(self.0.clone(), session))
    }

    fn requests(&self, session: Session) -> LaneFuture {
        Box::pin(requests(self.0.clone(), session))
    }

    fn disconnect(&self, session: Session, reason: CloseReason) -> LaneFuture {
        let handler = self.0.clone();
        Box::pin(async move { handler.on_disconnect(&session, &reason).await })
    }
}

async fn messages<H: Handler>(handler: Arc<H>, session: Session) {
    let mut run = PacketBatch::new();
    loop {
        pass::next_run(&mut run).await;
        loop {
            // Not `while let`, which would keep what it looked at across the await: each move of a packet costs.
            let Some(packet) = run.drain_next() else {
                break;
            };
            let handled = handler.on_message(&session, packet.into_inner()).await;
            if let Err(error) = handled {
                session.handler_failed(error);
            }
        }
    }
}

async fn requests<H: Handler>(handler: Arc<H>, session: Session) {
    let max = session.shared.runtime.config.requests_handled_max;
    let answer = |request: Packet| answer(&*handler, &session, request);
    let mut running = Running::new(max);
    poll_fn(|cx| {
        running.poll(cx, &answer);
        Poll::<()>::Pending
    })
    .await;
}

/// One request, from the handler's future to the response in the pass or the queue.
async fn answer<H: Handler>(handler: &H, session: &Session, request: Packet) {
    let (id, biz_type) = (request.message_id, request.biz_type);
    let answered = match handler.on_request(session, request).await {
        Ok(mut response) => {
            response.packet_type = PacketType::Response;
            if response.biz_type == 0 {
                response.biz_type = biz_type;
            }
            session.reply_at_once(response.with_message_id(id))
        }
        Err(error) => {
            let failure = session.can_fail().then(|| {
                // An application's words go to the peer; what `?` brought along stays here.
                Packet::failure(id, error.code(), error.to_string())
            });
            session.handler_failed(error);
            failure.map_or(Ok(()), Err)
        }
    };
    // Boxed, because few answers wait and every request's future would be larger for it.
    if let Err(answer) = answered
        && let Err(error) = Box::pin(session.reply(answer)).await
    {
        session.reply_failed(error);
    }
}

/// Requests inside the handler, each polled once in place and set aside only if it waits.
///
/// A slot keeps the memory of its future for the next request, so a request that does not wait allocates nothing. Each
/// slot has a waker that says which slot it was, so that a pass polls what was woken and nothing else.
struct Running<F> {
    slots: Vec<Slot<F>>,
    free: Vec<usize>,
    ready: Arc<Ready>,
    /// What the lock in `ready` guards, which this lane alone writes: compared without the lock.
    registered: Option<Waker>,
    max: usize,
}

struct Slot<F> {
    future: Pin<Box<Option<F>>>,
    id: u32,
    waker: Waker,
}

/// Which slots were woken.
struct Ready {
    /// One bit a slot. Release by wakers, Acquire by the lane: what happened before a wake is seen by the poll.
    words: Box<[AtomicU64]>,
    task: Mutex<Option<Waker>>,
}

struct SlotWaker {
    ready: Arc<Ready>,
    slot: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let bit = 1 << (self.slot % 64);
        let before = self.ready.words[self.slot / 64].fetch_or(bit, Ordering::AcqRel);
        if before & bit == 0 {
            let task = self
                .ready
                .task
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(task) = task.as_ref() {
                task.wake_by_ref();
            }
        }
    }
}

impl<F: Future<Output = ()>> Running<F> {
    fn new(max: usize) -> Self {
        let words = (0..max.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let ready = Arc::new(Ready {
            words,
            task: Mutex::new(None),
        });
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ready,
            registered: None,
            max,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, answer: &impl Fn(Packet) -> F) {
        self.register(cx.waker());
        if pass::current(|pass| !pass.cancelled.is_empty()) {
            self.cancel();
        }
        // No other slot has a waker.
        for word in 0..self.slots.len().div_ceil(64) {
            // Looked at before it is written, which costs more: hardly any has been woken.
            if self.ready.words[word].load(Ordering::Relaxed) == 0 {
                continue;
            }
            let mut bits = self.ready.words[word].swap(0, Ordering::AcqRel);
            while bits != 0 {
                let index = word * 64 + bits.trailing_zeros() as usize;
                if self.poll_slot(index) {
                    pass::current(|pass| pass.requests_running -= 1);
                }
                bits &= bits - 1;
            }
        }
        let mut done = false;
        while let Some(request) = self.next_request(done) {
            let request = request.into_inner();
            let id = request.message_id;
            let index = self.free_slot();
            let slot = &mut self.slots[index];
            slot.id = id;
            slot.future.set(Some(answer(request)));
            done = self.poll_slot(index);
        }
    }

    fn register(&mut self, waker: &Waker) {
        let known = self.registered.as_ref();
        if known.is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        self.registered = Some(waker.clone());
        let mut task = self
            .ready
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *task = Some(waker.clone());
    }

    /// The next request, which counts as running, unless the bound is reached: then version 2 peers are told, and version 1
    /// peers wait. `done`: the one before is running no longer.
    fn next_request(&self, done: bool) -> Option<Cell<Packet>> {
        pass::current(|pass| {
            pass.requests_running -= usize::from(done);
            loop {
                let full = pass.requests_running >= self.max;
                if full && (!pass.can_fail || pass.out_len() >= 2 * pass::BATCH_BYTES) {
                    pass.refusing_stopped = pass.can_fail && !pass.requests.is_empty();
                    return None;
                }
                let mut request = pass.requests.pop_front()?;
                pass.inbound_bytes -= request.get_mut().queued_bytes();
                if !full {
                    pass.requests_running += 1;
                    return Some(request);
                }
                pass.counts.rare().requests_overloaded += 1;
                let text = "too many requests of this session run already";
                // A Failure of known words always encodes.
                let id = request.get_mut().message_id;
                let _ = pass.push(&Packet::failure(id, Code::OVERLOADED, text));
            }
        })
    }

    fn free_slot(&mut self) -> usize {
        if let Some(index) = self.free.pop() {
            return index;
        }
        let slot = self.slots.len();
        let waker = Waker::from(Arc::new(SlotWaker {
            ready: self.ready.clone(),
            slot,
        }));
        self.slots.push(Slot {
            future: Box::pin(None),
            id: 0,
            waker,
        });
        slot
    }

    /// Whether a request is done by it; it still counts as running.
    fn poll_slot(&mut self, index: usize) -> bool {
        let slot = &mut self.slots[index];
        let Some(future) = slot.future.as_mut().as_pin_mut() else {
            return false;
        };
        let done = future
            .poll(&mut Context::from_waker(&slot.waker))
            .is_ready();
        if done {
            self.release(index);
        }
        done
    }

    fn release(&mut self, index: usize) {
        self.slots[index].future.set(None);
        self.free.push(index);
    }

    /// Drops the futures of requests that nobody awaits any more.
    fn cancel(&mut self) {
        let cancelled = pass::current(|pass| std::mem::take(&mut pass.cancelled));
        for id in cancelled {
            let running = self
                .slots
                .iter()
                .position(|slot| slot.id == id && slot.future.is_some());
            if let Some(index) = running {
                self.release(index);
                pass::current(|pass| {
                    pass.requests_running -= 1;
                    pass.counts.rare().requests_cancelled += 1;
                });
            }
        }
    }
}

impl Session {
    /// Whether the peer's version has a word for a failed request.
    pub(crate) fn can_fail(&self) -> bool {
        self.version() == Some(msgtrans_core::WireVersion::V2)
    }

    pub(crate) fn handler_failed(&self, error: HandlerError) {
        tracing::debug!(session = %self.id(), %error, "handler returned an error");
        pass::current(|pass| pass.counts.rare().handler_errors += 1);
        self.shared
            .runtime
            .events_error(self.id(), msgtrans_core::TransportError::Handler(error));
    }

    pub(crate) fn reply_failed(&self, error: msgtrans_core::SendError) {
        // A session that has ended fails its requests at the other side by itself.
        if self.is_connected() {
            tracing::debug!(session = %self.id(), %error, "a response could not be sent");
            self.shared.runtime.events_error(self.id(), error.into());
        }
    }

    pub(crate) fn count_dropped_events(&self, count: u64) {
        pass::current(|pass| pass.counts.rare().events_dropped += count);
    }
}
