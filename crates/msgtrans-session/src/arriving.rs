//! [`Arriving`]: a peer that has come in and said nothing, for which there is no session yet.
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

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use msgtrans_actor::TimerKey;
use tokio::time::Instant;

use crate::actor::{Accepted, SessionTask, accept_looked};
use crate::runtime::SessionRuntime;

/// Waits for the first bytes of a peer, or for the time when its silence means something, and becomes its session then.
///
/// Its alarm, for a peer that listens first or never speaks, goes with it. A session cancels none that rings too early,
/// because most do so once in its life; where a burst of peers came in, each would be woken a second later for nothing,
/// which costs as much as the half of its handshake. And who never speaks costs no session.
///
/// # Cancel safety
/// Dropping it drops the connection and forgets the alarm.
pub struct Arriving {
    accepted: Option<Accepted>,
    runtime: Arc<SessionRuntime>,
    /// When nobody was heard for the first time.
    looked: Option<Instant>,
    alarm: Option<(TimerKey, Waker)>,
}

impl Arriving {
    /// What a server has accepted.
    pub fn new(runtime: Arc<SessionRuntime>, accepted: Accepted) -> Self {
        Self {
            accepted: Some(accepted),
            runtime,
            looked: None,
            alarm: None,
        }
    }

    fn disarm(&mut self) {
        if let Some((key, _)) = self.alarm.take() {
            self.runtime.timers.cancel(key);
        }
    }
}

impl Future for Arriving {
    /// `None` only behind the end.
    type Output = Option<SessionTask>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(accepted) = &mut this.accepted else {
            return Poll::Ready(None);
        };
        let progress = accepted.connection.progress();
        if !accepted.must_speak() || accepted.connection.poll_first(cx).is_ready() {
            this.disarm();
            let task = this
                .accepted
                .take()
                .map(|accepted| accept_looked(this.runtime.clone(), accepted, None, progress));
            return Poll::Ready(task);
        }
        let now = Instant::now();
        let looked = *this.looked.get_or_insert(now);
        let at = accepted.silent_until(&this.runtime.config, looked);
        if now >= at {
            this.disarm();
            let task = this.accepted.take().map(|accepted| {
                accept_looked(this.runtime.clone(), accepted, Some(looked), progress)
            });
            return Poll::Ready(task);
        }
        if let Some((_, waker)) = &this.alarm
            && waker.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        this.disarm();
        let waker = cx.waker().clone();
        let key = this.runtime.timers.arm(at, waker.clone());
        this.alarm = Some((key, waker));
        Poll::Pending
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.disarm();
    }
}
