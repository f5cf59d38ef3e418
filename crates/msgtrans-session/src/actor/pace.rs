//! [`Pace`]: a packet that has begun to arrive keeps arriving, or its peer is cut.
//!
//! Looked at once a pass that has read, never once a packet. A window begins with the packet, and anew whenever enough
//! has come; what this side does not read, because its handler is slow or the peer above its rate, is not the peer's
//! doing and begins the window anew.
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

use std::time::Duration;

use msgtrans_core::{CloseReason, Code};
use tokio::time::Instant;

use super::{Phase, SessionActor};

/// The window that a packet under way is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When the window began.
    since: Instant,
    /// Bytes read by then.
    read: u64,
}

impl Pace {
    /// When its bytes are counted; `None` is further away than the clock goes.
    pub(super) fn until(&self, window: Duration) -> Option<Instant> {
        self.since.checked_add(window)
    }
}

impl SessionActor {
    /// The connection has read: whether a packet is under way, and the same one as before. What is held of it stays
    /// what it was until the next read.
    pub(super) fn note_incomplete(&mut self) {
        let incomplete = self.connection.incomplete();
        // A frame is shorter than 4 GiB: its header says so in 32 bits.
        self.incomplete = incomplete.map_or(0, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
        let received = std::mem::take(&mut self.received);
        match incomplete {
            None => self.pace = None,
            Some(_) if received || self.pace.is_none() => self.begin_window(),
            Some(_) => {}
        }
    }

    fn begin_window(&mut self) {
        self.pace = Some(Pace {
            since: self.now,
            read: self.connection.progress().read,
        });
    }

    /// Nothing is read for a while, and that is this side's doing.
    pub(super) fn reading_held_back(&mut self) {
        if self.pace.is_some() {
            self.begin_window();
        }
    }

    /// Cuts a peer whose packet came too slowly. Called once all that has come is read: a task that was late itself
    /// must not find the peer to blame.
    #[inline]
    pub(super) fn check_pace(&mut self) {
        if let Some(pace) = self.pace {
            self.judge(pace);
        }
    }

    fn judge(&mut self, pace: Pace) {
        let config = &self.session.shared.runtime.config;
        let (rate, window) = (config.frame_rate_min, config.frame_rate_window);
        let due = pace.until(window).is_some_and(|until| self.now >= until);
        // One that has come meanwhile is noted at the end of the pass.
        if !due || self.received || !matches!(self.phase, Phase::Open) {
            return;
        }
        let wanted = u128::from(rate)
            .saturating_mul(window.as_millis())
            .div_ceil(1000);
        let came = self.connection.progress().read.saturating_sub(pace.read);
        if u128::from(came) >= wanted || self.connection.incomplete().is_none() {
            self.begin_window();
            return;
        }
        let text = format!("{came} bytes of a packet under way came in {window:?}");
        self.begin_close(CloseReason::local(Code::TIMEOUT, text), true);
    }
}
