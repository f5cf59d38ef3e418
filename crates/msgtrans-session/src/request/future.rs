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
    stage: Stage,
}

enum Stage {
    Begin(Cell<Packet>),
    /// Has its id, and waits for room in the session's queue since then.
    Queueing {
        id: u32,
        since: Instant,
        queue: BoxFuture<'static, Result<(), SendError>>,
    },
    Waiting {
        id: u32,
    },
    Failed(Box<RequestError>),
    Over,
}

/// Where a request stands that was not refused at once.
type Begun = Result<Stage, RequestError>;

impl RequestFuture {
    pub(crate) fn new(session: Session, packet: Packet, timeout: Duration) -> Self {
        Self {
            session: Some(session),
            timeout,
            stage: Stage::Begin(Cell::new(packet)),
        }
    }

    /// A request that was lost before it began: whoever awaits it hears of `error`.
    pub fn failed(error: RequestError) -> Self {
        Self {
            session: None,
            timeout: Duration::ZERO,
            stage: Stage::Failed(Box::new(error)),
        }
    }

    fn begin(&self, session: &Session, mut packet: Packet, cx: &Context<'_>) -> Begun {
        if self.timeout.is_zero() {
            return Err(RequestError::BadDeadline(self.timeout));
        }
        let shared = &session.shared;
        let timeout = (self.timeout != Duration::MAX).then_some(self.timeout);
        let max = shared.runtime.config.requests_pending_max;
        let waker = Some(cx.waker().clone());
        let id = shared.requests().insert(timeout, max, waker)?;
        packet.packet_type = PacketType::Request;
        packet = packet.with_message_id(id);
        // Before the packet is queued: whoever takes it out looks at the deadlines too.
        shared.deadlines_changed.store(true, Ordering::Release);
        let refused = match shared.prepare(&mut packet) {
            Err(kind) => SendError::new(kind, packet),
            Ok(()) => match pass::offer(shared, &packet) {
                Offered::Taken => return Ok(self.sent(session, id)),
                Offered::Invalid(error) => SendError::new(*error, packet),
                Offered::NotHere => match shared.try_enqueue(Outgoing::Packet(packet, None)) {
                    Ok(()) => return Ok(self.sent(session, id)),
                    Err(PushError::Full(item)) => return Ok(self.queueing(session, id, item)),
                    Err(error) => shared.refuse_full(error),
                },
            },
        };
        shared.requests().abandon(id);
        Err(refused.into())
    }

    /// The task, where it waits for the peer to read, would not look at the new deadline by itself.
    fn sent(&self, session: &Session, id: u32) -> Stage {
        let shared = &session.shared;
        if self.timeout != Duration::MAX && shared.blocked.load(Ordering::Relaxed) {
            shared.mailbox.command(Command::Look);
        }
        Stage::Waiting { id }
    }

    #[cold]
    fn queueing(&self, session: &Session, id: u32, item: Outgoing) -> Stage {
        let session = session.clone();
        let wait = self.timeout;
        Stage::Queueing {
            id,
            since: Instant::now(),
            queue: Box::pin(async move { session.queue_for(item, wait).await }),
        }
    }

    /// What became of the queueing: the answer is the next thing to wait for, or it is over.
    #[cold]
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RequestError>> {
        let Stage::Queueing { id, since, queue } = &mut self.stage else {
            return Poll::Ready(Ok(()));
        };
        let (id, since) = (*id, *since);
        let queued = std::task::ready!(queue.as_mut().poll(cx));
        self.stage = Stage::Over;
        let Some(session) = &self.session else {
            return Poll::Ready(Ok(()));
        };
        match queued {
            Ok(()) => {
                self.stage = self.sent(session, id);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                session.shared.requests().abandon(id);
                let late = matches!(error.kind(), SendErrorKind::Timeout(_))
                    && since.elapsed() >= self.timeout;
                Poll::Ready(Err(if late {
                    RequestError::Timeout {
                        after: self.timeout,
                    }
                } else {
                    error.into()
                }))
            }
        }
    }

    fn poll_answer(&mut self, id: u32, cx: &mut Context<'_>) -> Poll<Result<Packet, RequestError>> {
        let Some(session) = &self.session else {
            return Poll::Pending;
        };
        let answer = session.shared.requests().poll(id, cx);
        if answer.is_ready() {
            self.stage = Stage::Over;
        }
        match answer {
            Poll::Ready(Err(RequestError::Timeout { .. })) => {
                Poll::Ready(Err(RequestError::Timeout {
                    after: self.timeout,
                }))
            }
            answer => answer,
        }
    }
}

impl Future for RequestFuture {
    type Output = Result<Packet, RequestError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Stage::Waiting { id } = this.stage {
            return this.poll_answer(id, cx);
        }
        if matches!(this.stage, Stage::Queueing { .. }) {
            std::task::ready!(this.poll_queue(cx))?;
            if let Stage::Waiting { id } = this.stage {
                return this.poll_answer(id, cx);
            }
        }
        match std::mem::replace(&mut this.stage, Stage::Over) {
            Stage::Begin(packet) => {
                let Some(session) = &this.session else {
                    return Poll::Pending;
                };
                this.stage = this.begin(session, packet.into_inner(), cx)?;
                if let Stage::Queueing { .. } = this.stage {
                    // Registers for room.
                    std::task::ready!(this.poll_queue(cx))?;
                }
                Poll::Pending
            }
            Stage::Failed(error) => Poll::Ready(Err(*error)),
            // Polled again after its end.
            _ => Poll::Pending,
        }
    }
}

impl Drop for RequestFuture {
    fn drop(&mut self) {
        let (id, sent) = match self.stage {
            Stage::Waiting { id } => (id, true),
            Stage::Queueing { id, .. } => (id, false),
            _ => return,
        };
        if let Some(session) = &self.session {
            let waiting = session.shared.requests().abandon(id);
            if waiting && sent {
                session.shared.mailbox.command(Command::Cancel(id));
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
