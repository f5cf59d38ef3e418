//! The session's clock: one alarm for whatever comes first, deadlines looked at only when something is due.
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

use std::sync::atomic::Ordering;
use std::time::Duration;

use msgtrans_core::{CloseReason, Code, Packet, PacketType};
use tokio::time::Instant;

use super::{Phase, SessionActor};

/// How long a draining session must have been silent before its work counts as done: requests that were on their way
/// when the peer heard of the drain are still answered.
pub(super) const DRAIN_QUIET: Duration = Duration::from_millis(50);
/// How long behind the first look at what is overdue the second comes.
const SECOND_LOOK: Duration = Duration::from_millis(10);
/// A peer silent for so many heartbeats is gone.
const HEARTBEATS_MISSED: u32 = 3;

/// `wait` behind `at`. Settings and what peers may say are bounded by days, so no time is beyond the clock.
#[inline]
pub(super) fn after(at: Instant, wait: Duration) -> Instant {
    at.checked_add(wait).unwrap_or(at)
}

impl SessionActor {
    /// How long a peer with heartbeats may be silent.
    fn silence_max(&self) -> Duration {
        self.heartbeat().saturating_mul(HEARTBEATS_MISSED)
    }

    /// When something may be due.
    fn next_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Opening(opening) => Some(
                opening
                    .silence
                    .map_or(opening.deadline, |at| at.min(opening.deadline)),
            ),
            Phase::Open => {
                let config = &self.runtime().config;
                let mut at = if self.is_v2() {
                    after(self.wrote, self.heartbeat()).min(after(self.heard, self.silence_max()))
                } else {
                    after(self.heard.max(self.wrote), config.idle_timeout_v1)
                };
                if let Some(until) = self
                    .pace
                    .and_then(|pace| pace.until(config.frame_rate_window))
                {
                    at = at.min(until);
                }
                if let Some(since) = self.held_back {
                    at = at.min(after(since, config.send_timeout));
                }
                if self.blocked {
                    at = at.min(after(self.wrote, config.send_timeout));
                }
                if let Some(rare) = &self.rare {
                    at = rare.paused_until.map_or(at, |until| at.min(until));
                    if rare.drain.is_some() {
                        at = at.min(after(self.heard.max(self.now), DRAIN_QUIET));
                    }
                }
                Some(at)
            }
            Phase::Ending(ending) => Some(ending.deadline),
            Phase::Leaving(leaving) => Some(leaving.deadline),
            Phase::Closing(closing) => Some(closing.deadline()),
            Phase::Done => None,
        }
    }

    /// Arms the alarm, unless an earlier one is armed already: it will look again.
    #[inline]
    pub(super) fn arm(&mut self) {
        let steady = matches!(self.phase, Phase::Open)
            && !self.blocked
            && self.rare.is_none()
            && self.pace.is_none()
            && self.held_back.is_none();
        if self.watched
            && steady
            && !self.shared().deadlines_changed.load(Ordering::Acquire)
            && self.alarm.is_some_and(|(armed, _)| armed > self.now)
        {
            return;
        }
        self.arm_anew(steady);
    }

    /// Apart, so that most passes jump over it without a call.
    #[inline(never)]
    fn arm_anew(&mut self, steady: bool) {
        self.watched = steady;
        let mut at = self.next_deadline();
        // Looked at before it is written, which costs every pass more than the look.
        let changed = &self.shared().deadlines_changed;
        let new = changed.load(Ordering::Acquire) && changed.swap(false, Ordering::AcqRel);
        if new || self.alarm.is_none_or(|(armed, _)| armed <= self.now) {
            let mut table = self.session.shared.requests();
            // Without a table there never was a request; the first one says that deadlines have changed.
            if let Some(table) = &mut *table {
                if new {
                    // One look at the clock for all requests of a pass. Not `now`, which a handler may have left behind.
                    table.start_clocks(Instant::now());
                }
                at = match (at, table.earliest()) {
                    (Some(at), Some(requests)) if !matches!(self.phase, Phase::Done) => {
                        Some(at.min(requests))
                    }
                    _ => at,
                };
                // Under the lock under which it was looked at: a request that goes past this task was seen here, or sees
                // this.
                if let Some(at) = at {
                    table.set_looks_at(at);
                }
            }
        }
        let Some(mut at) = at else { return };
        if at <= self.now {
            // For the second look, see `check_open_time`.
            at = after(self.now, SECOND_LOOK);
        }
        if let Some((armed, key)) = self.alarm {
            if armed > self.now && armed <= at {
                return;
            }
            self.runtime().timers.cancel(key);
        }
        if let Some(waker) = &self.waker {
            let key = self.runtime().timers.arm(at, waker.clone());
            self.alarm = Some((at, key));
            if self.shared().direct.is_some()
                && let Some(table) = &mut *self.shared().requests()
            {
                table.set_looks_at(at);
            }
        }
    }

    /// Does what is due.
    #[inline]
    pub(super) fn check_time(&mut self) {
        match &self.phase {
            Phase::Open => {
                if let Some((armed, _)) = self.alarm
                    && self.now >= armed
                {
                    self.check_open_time(armed);
                }
            }
            // Looked at where they are polled, an opening behind what has come: a server that stood still for so long has
            // not read it yet, and a close over unread input is a reset.
            Phase::Opening(_)
            | Phase::Ending(_)
            | Phase::Closing(_)
            | Phase::Leaving(_)
            | Phase::Done => {}
        }
    }

    /// The alarm of `armed` has rung.
    ///
    /// No peer is cut by the first look behind its time, and no request given up: whether it was silent or this side stood
    /// still and has yet to read and write tells the pass that follows the look, and the second look, whose alarm was armed
    /// behind the time.
    #[cold]
    fn check_open_time(&mut self, armed: Instant) {
        let now = self.now;
        let is_over = |time: Instant| now >= time && armed > time;
        let config = &self.session.shared.runtime.config;
        let (send_timeout, idle_timeout_v1) = (config.send_timeout, config.idle_timeout_v1);
        if self.blocked && is_over(after(self.wrote, send_timeout)) {
            let text = format!("nothing was read for {send_timeout:?}");
            self.drop_connection(CloseReason::local(Code::SLOW_CONSUMER, text));
            return;
        }
        if self
            .held_back
            .is_some_and(|since| now >= after(since, send_timeout))
        {
            if self.connection.peer_gone() {
                // As long as a session that has read its peer's end waits for its handler.
                let text = "the peer left what its handler had not made room for";
                self.drop_connection(CloseReason::network(Code::NORMAL, text));
                return;
            }
            self.held_back = Some(now);
            if self.is_v2() && !self.blocked {
                // Behind a full window the end of a peer that has closed cannot come: it answers this with a reset.
                self.ping();
            }
        }
        if !self.may_read() || !self.pass().batch.is_empty() {
            // Nothing is heard because nothing is read: that is no silence of the peer's.
            self.heard = now;
        }
        if self.is_v2() {
            if is_over(after(self.heard, self.silence_max())) {
                let text = format!("silent for {:?}", self.silence_max());
                self.drop_connection(CloseReason::network(Code::TIMEOUT, text));
                return;
            }
            if now >= after(self.wrote, self.heartbeat()) {
                if !self.blocked {
                    self.ping();
                }
                self.let_idle_lanes_go();
            }
        } else if is_over(after(self.heard.max(self.wrote), idle_timeout_v1)) {
            let text = format!("silent for {idle_timeout_v1:?}");
            self.begin_close(CloseReason::local(Code::TIMEOUT, text), true);
            return;
        }
        self.expire_requests(armed);
    }

    fn ping(&mut self) {
        self.push_control(&Packet::numbered(PacketType::Ping, 0, bytes::Bytes::new()));
        let counts = self.pass().counts.rare();
        counts.pings_out = counts.pings_out.wrapping_add(1);
    }

    fn expire_requests(&mut self, armed: Instant) {
        let mut requests = self.session.shared.requests();
        let Some(table) = &mut *requests else { return };
        let before = armed.checked_sub(Duration::from_nanos(1));
        let expired = table.expired(before.unwrap_or(armed).min(self.now));
        let mut wakers = Vec::new();
        for id in &expired {
            if let Some(answered) = table.time_out(*id) {
                wakers.extend(answered.waker);
            }
        }
        drop(requests);
        for waker in wakers {
            waker.wake();
        }
        if !expired.is_empty() {
            self.rare().cancels.extend(expired);
        }
    }

    /// A session that has been silent for a heartbeat needs no lanes.
    fn let_idle_lanes_go(&mut self) {
        let pass = self.pass();
        if !pass.is_working() && pass.batch.is_empty() {
            self.lanes = None;
        }
    }
}

#[cfg(test)]
mod tests;
