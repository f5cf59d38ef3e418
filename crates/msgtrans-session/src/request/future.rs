//! [`RequestFuture`]: a request from its first poll to its answer.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use msgtrans_actor::PushError;
use msgtrans_core::{Packet, PacketType, RequestError, SendError, SendErrorKind};
use tokio::time::Instant;

use crate::pass::{self, Offered};
use crate::service::BoxFuture;
use crate::session::{Command, Outgoing, Session};

/// A request: sent by the first poll, cancelled by being dropped before its answer.
///
/// Written by hand, because a request is counted in hundreds of instructions: an async function would move the packet
/// and the answer once through each layer. Nothing is boxed unless the session's queue is full.
#[must_use = "a request is not made until it is awaited"]
pub struct RequestFuture {
    /// `None` where there was no session to ask.
    session: Option<Session>,
    timeout: Duration,
    /// Until the first poll.
    packet: Option<Cell<Packet>>,
    /// Of use once the request is in the table.
    id: u32,
    stage: Stage,
    /// What hardly any request has.
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    /// Has its id, and waits for room in the session's queue.
    Queueing,
    Waiting,
    Over,
}

enum Rare {
    Failed(RequestError),
    Queueing {
        since: Instant,
        queue: BoxFuture<'static, Result<(), SendError>>,
    },
}

impl RequestFuture {
    /// A request over `session`, which is [`Session::request`] for who has no other use for the handle. It waits up to
    /// `timeout`, or where that is `None` up to the session's `request_timeout`.
    #[inline]
    pub fn over(session: Session, packet: Packet, timeout: Option<Duration>) -> Self {
        let timeout = timeout.unwrap_or(session.shared.runtime.config.request_timeout);
        Self {
            session: Some(session),
            timeout,
            packet: Some(Cell::new(packet)),
            id: 0,
            stage: Stage::Begin,
            rare: None,
        }
    }

    /// A request that was lost before it began: whoever awaits it hears of `error`.
    pub fn failed(error: RequestError) -> Self {
        Self {
            session: None,
            timeout: Duration::ZERO,
            packet: None,
            id: 0,
            stage: Stage::Begin,
            rare: Some(Box::new(Rare::Failed(error))),
        }
    }

    /// Sends the request or begins to wait for room; what was refused is over.
    fn begin(&mut self, cx: &Context<'_>) -> Result<(), RequestError> {
        self.stage = Stage::Over;
        let (Some(session), Some(packet)) = (&self.session, self.packet.take()) else {
            return match self.rare.take().map(|rare| *rare) {
                Some(Rare::Failed(error)) => Err(error),
                _ => Ok(()),
            };
        };
        if self.timeout.is_zero() {
            return Err(RequestError::BadDeadline(self.timeout));
        }
        let mut packet = packet.into_inner();
        let shared = &session.shared;
        let timeout = (self.timeout != Duration::MAX).then_some(self.timeout);
        let max = shared.runtime.config.requests_pending_max;
        let waker = Some(cx.waker().clone());
        // A request that goes past the task begins its time here, which costs a look at the clock and spares a pass.
        let now = shared.direct().map(|_| Instant::now());
        let inserted = match &mut *shared.requests() {
            Some(table) => table.insert_running(timeout, max, waker, now),
            none => shared
                .first_requests(none)?
                .insert_running(timeout, max, waker, now),
        };
        let (id, timed) = inserted?;
        self.id = id;
        // Until it is known what became of it: middleware may panic, and what is dropped then is in the table.
        self.stage = Stage::Queueing;
        packet.packet_type = PacketType::Request;
        packet.message_id = id;
        // Before the packet is queued: whoever takes it out looks at the deadlines too.
        if !timed {
            shared.deadlines_changed.store(true, Ordering::Release);
        }
        let prepared = shared.prepare(&mut packet);
        if timed
            && prepared.is_ok()
            && let Some(direct) = shared.direct()
        {
            match shared.send_direct(direct, packet) {
                Ok(()) => {
                    self.stage = Stage::Waiting;
                    return Ok(());
                }
                Err(back) => packet = back,
            }
        }
        let refused = match prepared {
            Err(kind) => SendError::new(kind, packet),
            Ok(()) => match pass::offer(shared, &packet) {
                Offered::Taken => {
                    self.sent();
                    return Ok(());
                }
                Offered::Invalid(error) => SendError::new(*error, packet),
                Offered::NotHere => match shared.try_enqueue(Outgoing::Packet(packet, None)) {
                    Ok(()) => {
                        self.sent();
                        return Ok(());
                    }
                    Err(PushError::Full(item)) => {
                        self.rare = Some(queueing(session, item, self.timeout));
                        return Ok(());
                    }
                    Err(error) => shared.refuse_full(error),
                },
            },
        };
        shared.abandon_request(id);
        self.stage = Stage::Over;
        Err(refused.into())
    }

    /// The task, where it waits for the peer to read, would not look at the new deadline by itself.
    fn sent(&mut self) {
        self.stage = Stage::Waiting;
        if let Some(Session { shared }) = &self.session
            && self.timeout != Duration::MAX
            && shared.blocked.load(Ordering::Relaxed)
        {
            shared.mailbox.command(Command::Look);
        }
    }

    /// What became of the queueing: the answer is the next thing to wait for, or it is over.
    #[cold]
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        let Some(Rare::Queueing { since, queue }) = self.rare.as_deref_mut() else {
            return Poll::Ready(Ok(()));
        };
        let since = *since;
        let queued = std::task::ready!(queue.as_mut().poll(cx));
        self.rare = None;
        self.stage = Stage::Over;
        match queued {
            Ok(()) => {
                self.sent();
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                if let Some(session) = &self.session {
                    session.shared.abandon_request(self.id);
                }
                let late = matches!(error.kind(), SendErrorKind::Timeout(_))
                    && since.elapsed() >= self.timeout;
                let after = self.timeout;
                Poll::Ready(Err(if late {
                    RequestError::Timeout { after }
                } else {
                    error.into()
                }))
            }
        }
    }

    #[inline]
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, RequestError>> {
        let Some(session) = &self.session else {
            return Poll::Pending;
        };
        let mut requests = session.shared.requests();
        // There is a table, as the request was put into it.
        let Some(table) = &mut *requests else {
            return Poll::Pending;
        };
        let answer = table.poll(self.id, cx);
        drop(requests);
        if answer.is_ready() {
            self.stage = Stage::Over;
        }
        answer
    }
}

#[cold]
fn queueing(session: &Session, item: Outgoing, wait: Duration) -> Box<Rare> {
    let session = session.clone();
    Box::new(Rare::Queueing {
        since: Instant::now(),
        queue: Box::pin(async move { session.queue_for(item, wait).await }),
    })
}

impl Future for RequestFuture {
    type Output = Result<Packet, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.stage == Stage::Waiting {
            return this.poll_answer(cx);
        }
        if this.stage == Stage::Begin {
            // Its waker is in the table: nothing more to look at, unless it waits for room.
            this.begin(cx)?;
            if this.stage == Stage::Queueing {
                std::task::ready!(this.poll_queue(cx))?;
            }
            return Poll::Pending;
        }
        if this.stage == Stage::Queueing {
            std::task::ready!(this.poll_queue(cx))?;
            return this.poll_answer(cx);
        }
        // Polled again after its end.
        Poll::Pending
    }
}

impl Drop for RequestFuture {
    #[inline]
    fn drop(&mut self) {
        if self.stage == Stage::Waiting || self.stage == Stage::Queueing {
            self.give_up();
        }
    }
}

impl RequestFuture {
    #[cold]
    fn give_up(&mut self) {
        if let Some(session) = &self.session {
            let waiting = session.shared.abandon_request(self.id);
            if waiting && self.stage == Stage::Waiting {
                session.shared.mailbox.command(Command::Cancel(self.id));
            }
        }
    }
}

impl fmt::Debug for RequestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestFuture")
            .field("session", &self.session)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
