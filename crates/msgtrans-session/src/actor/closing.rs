//! Closing: what is queued is written, then Goodbye, then the connection; then the handler hears of it.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::task::{Context, Poll};
use std::time::Duration;

use msgtrans_actor::{Lane, Panicked};
use msgtrans_core::{CloseReason, Code, Goodbye, Initiator, PacketType};
use tokio::time::Instant;

use super::time::after;
use super::{Phase, SessionActor, discard};
use crate::events::TransportEvent;
use crate::pass;
use crate::rejections::Rejection;
use crate::service::LaneFuture;

/// How long the peer has to close after our Goodbye has gone (wire format, section 6).
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Closing {
    reason: CloseReason,
    /// For writing what is queued, then for the peer to close too.
    deadline: Instant,
    written: bool,
}

/// The peer has ended.
pub(super) struct Ending {
    pub(super) reason: CloseReason,
    pub(super) deadline: Instant,
}

/// The handler hears of the end.
pub(super) struct Leaving {
    future: LaneFuture,
    pub(super) deadline: Instant,
}

impl Closing {
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

impl SessionActor {
    /// Ends the session from this side. What is queued is still written; a Goodbye follows where `goodbye` says so and
    /// the version has one.
    pub(super) fn begin_close(&mut self, reason: CloseReason, goodbye: bool) {
        if matches!(
            self.phase,
            Phase::Closing(_) | Phase::Leaving(_) | Phase::Done
        ) {
            return;
        }
        if let Phase::Opening(_) = self.phase
            && self.version.is_none()
        {
            return self.drop_connection(reason);
        }
        // The first reason counts: a close of this side behind the peer's Goodbye writes nothing either.
        let reason = self.stop(reason);
        let ended_by_peer = reason.initiator != Initiator::Local;
        let items = self.shared().mailbox.close();
        if ended_by_peer {
            discard(items);
        } else {
            // Bounded by the queue's own bound.
            for item in items {
                self.pass().push_item(item);
            }
            if goodbye && self.is_v2() {
                let frame =
                    Goodbye::new(reason.code, reason.reason.clone()).to_packet(PacketType::Goodbye);
                self.push_control(&frame);
            }
        }
        let patience = if ended_by_peer {
            LINGER
        } else {
            self.runtime().config.send_timeout
        };
        let deadline = after(self.now, patience);
        self.phase = Phase::Closing(Box::new(Closing {
            reason,
            deadline,
            written: ended_by_peer,
        }));
    }

    /// Ends the session without another word: the peer is gone, does not read, or never was one.
    pub(super) fn drop_connection(&mut self, reason: CloseReason) {
        let reason = self.stop(reason);
        discard(self.shared().mailbox.close());
        self.finished(reason);
    }

    /// Ends the session for what it holds, at once: a Goodbye would wait behind it.
    pub(super) fn shed(&mut self) {
        if matches!(self.phase, Phase::Leaving(_) | Phase::Done) {
            return;
        }
        self.runtime().stats.rejected(Rejection::Memory);
        let text = "the process holds too many bytes";
        self.drop_connection(CloseReason::local(Code::OVERLOADED, text));
    }

    /// The peer has ended: what came before is handled, nothing is written.
    pub(super) fn peer_ended(&mut self, reason: CloseReason) {
        match self.phase {
            Phase::Opening(_) => self.drop_connection(reason),
            Phase::Open => {
                let reason = self.fail_waiters(reason);
                let deadline = after(self.now, self.runtime().config.send_timeout);
                self.pass().open = false;
                self.phase = Phase::Ending(Box::new(Ending { reason, deadline }));
            }
            Phase::Closing(_) => {
                let reason = self.fail_waiters(reason);
                self.finished(reason);
            }
            Phase::Ending(_) | Phase::Leaving(_) | Phase::Done => {}
        }
    }

    /// Records the reason, fails who waits for responses, and lets the handler's futures go.
    fn stop(&mut self, reason: CloseReason) -> CloseReason {
        let reason = self.fail_waiters(reason);
        self.lanes = None;
        self.pass().abandon_work();
        reason
    }

    fn fail_waiters(&mut self, reason: CloseReason) -> CloseReason {
        let reason = self.shared().set_reason(reason);
        if let Some(direct) = &self.shared().direct {
            direct.seal();
            self.connection.set_inlet(None);
        }
        let wakers = match &mut *self.shared().requests() {
            Some(table) => table.close(&reason),
            // Who asks from here on finds the reason before there is a table.
            None => Vec::new(),
        };
        for waker in wakers {
            waker.wake();
        }
        reason
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Lane {
        match &mut self.phase {
            Phase::Closing(closing) => {
                let reason = closing.reason.clone();
                // Looked at behind what can be done now: this side may have stood still.
                let over = self.now >= closing.deadline;
                if !closing.written {
                    match self.write(cx) {
                        Ok(true) => {
                            // What the peer has not got yet still counts as being written.
                            let patience = if self.connection.keeps_written() {
                                self.runtime().config.send_timeout
                            } else {
                                LINGER
                            };
                            let linger = after(self.now, patience);
                            if let Phase::Closing(closing) = &mut self.phase {
                                closing.written = true;
                                closing.deadline = linger;
                            }
                        }
                        Ok(false) if over => {
                            self.finished(reason);
                            return Lane::Busy;
                        }
                        Ok(false) => return Lane::Idle,
                        Err(error) => {
                            tracing::debug!(session = %self.session.id(), %error, "lost while closing");
                            self.finished(reason);
                            return Lane::Busy;
                        }
                    }
                }
                match self.connection.poll_close(cx, &reason) {
                    Poll::Pending => {
                        let over = matches!(&self.phase, Phase::Closing(closing) if self.now >= closing.deadline);
                        if !over {
                            return Lane::Idle;
                        }
                        self.finished(reason);
                        Lane::Busy
                    }
                    Poll::Ready(outcome) => {
                        if let Err(error) = outcome {
                            tracing::debug!(session = %self.session.id(), %error, "lost while closing");
                        }
                        self.finished(reason);
                        Lane::Busy
                    }
                }
            }
            Phase::Leaving(leaving) => {
                let future = &mut leaving.future;
                let over = pass::lend(&mut self.pass, || future.as_mut().poll(cx)).is_ready()
                    || self.now >= leaving.deadline;
                if over {
                    self.phase = Phase::Done;
                    return Lane::Done;
                }
                Lane::Idle
            }
            Phase::Done => Lane::Done,
            _ => Lane::Idle,
        }
    }

    /// The connection has closed: everybody hears of it.
    fn finished(&mut self, reason: CloseReason) {
        *self.pass().out_mut() = None;
        self.incomplete = 0;
        self.blocked = false;
        self.connection = Box::new(super::gone::Gone::new(self.connection.progress()));
        // Before the session goes out of sight: what nobody can find must not count as held.
        self.note_held(0);
        if !self.announced {
            self.leave();
            self.shared().set_ended();
            self.phase = Phase::Done;
            return;
        }
        self.tell_end(&reason);
        let future = self
            .runtime()
            .service
            .disconnect(self.session.clone(), reason);
        let deadline = after(self.now, self.runtime().config.send_timeout);
        self.phase = Phase::Leaving(Box::new(Leaving { future, deadline }));
    }

    fn tell_end(&mut self, reason: &CloseReason) {
        let runtime = self.runtime().clone();
        runtime.stats.session_closed(reason);
        tracing::debug!(session = %self.session.id(), %reason, "session closed");
        for middleware in &runtime.middleware {
            // Of a panic here nobody else would hear of the end, and the session would keep its place for ever.
            if let Err(panicked) = Panicked::catch(|| middleware.on_close(&self.session, reason)) {
                self.tell_panic(&panicked.0);
            }
        }
        runtime.hooks.closed(&self.session, reason);
        self.leave();
        let event = TransportEvent::ConnectionClosed {
            session_id: self.session.id(),
            reason: reason.clone(),
        };
        runtime.events.tell(event);
        self.shared().set_ended();
    }

    /// The task is dropped: there is no pass and nothing can wait any more.
    pub(super) fn end_now(&mut self, reason: CloseReason) {
        let leaving = matches!(self.phase, Phase::Leaving(_));
        self.phase = Phase::Done;
        let reason = self.fail_waiters(reason);
        if let Some(turn) = &self.shared().turn {
            turn.token.seal();
        }
        discard(self.shared().mailbox.close());
        if self.announced && !leaving {
            self.tell_end(&reason);
        } else {
            self.leave();
            self.shared().set_ended();
        }
    }

    /// Gives the place among the admitted sessions back.
    fn leave(&mut self) {
        if std::mem::take(&mut self.admitted) {
            self.runtime().hooks.left(&self.session);
        }
    }
}
