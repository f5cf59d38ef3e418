//! [`RequestTable`]: requests of this side that await their responses.
//!
//! The wire format gives consecutive ids, so an id's low bits are its place in a table that is hardly longer than what is
//! pending: no hashing, and one comparison tells whose place it is.
// A peer's bytes pass here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_core::{CloseReason, Packet, RequestError};
use tokio::time::Instant;

mod future;

pub use future::RequestFuture;

/// Places of the first request.
const FIRST_PLACES: usize = 4;
/// Places that are kept while nothing is pending.
const KEPT_PLACES: usize = 64;

/// One table per session, so that a session can never answer another session's request.
#[derive(Default)]
pub struct RequestTable {
    /// None, or a power of two of them.
    places: Vec<Waiter>,
    /// How many of them are taken.
    taken: usize,
    /// Requests that take so long that a later one has got their place.
    strays: BTreeMap<u32, Waiter>,
    /// The last id given to a request.
    last_id: u32,
    /// The last one whose time runs.
    timed_id: u32,
    /// No waiter's deadline is before it.
    earliest: Option<Instant>,
    /// When the session's task looks at the latest, in process.
    looks_at: Option<Instant>,
    closed: Option<CloseReason>,
}

struct Waiter {
    /// 0 where nobody waits.
    id: u32,
    timeout: Option<Duration>,
    /// When the session's task first saw the request.
    since: Option<Instant>,
    outcome: Outcome,
}

enum Outcome {
    Waiting(Option<Waker>),
    /// In a cell, so that the tag lies beside the packet and not in its first word: a move is a plain copy.
    Response(Cell<Packet>),
    Failed(RequestError),
}

/// Whom to wake for an answer.
pub struct Answered {
    /// The waiter, where it has been polled.
    pub waker: Option<Waker>,
    /// When the session's task first saw the request.
    pub since: Option<Instant>,
}

impl Waiter {
    const NOBODY: Self = Self {
        id: 0,
        timeout: None,
        since: None,
        outcome: Outcome::Waiting(None),
    };

    fn is_waiting(&self) -> bool {
        self.id != 0 && matches!(self.outcome, Outcome::Waiting(_))
    }

    /// When it is over; `None` for those that wait as long as it takes, or whose time does not run yet.
    fn deadline(&self) -> Option<Instant> {
        self.since?.checked_add(self.timeout?)
    }
}

fn following(id: u32) -> u32 {
    id.wrapping_add(1).max(1)
}

fn sooner(earliest: Option<Instant>, deadline: Instant) -> Option<Instant> {
    Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)))
}

impl RequestTable {
    /// A table whose next id follows `last_id`, for tests of the end of the range.
    pub fn starting_behind(last_id: u32) -> Self {
        Self {
            last_id,
            timed_id: last_id,
            ..Self::default()
        }
    }

    /// Gives a request its id: 1, 2, … 2^32-1, then 1 again, skipping those that are pending. Its time does not run
    /// before [`start_clocks`](Self::start_clocks).
    pub fn insert(
        &mut self,
        timeout: Option<Duration>,
        max: usize,
        waker: Option<Waker>,
    ) -> Result<u32, RequestError> {
        Ok(self.insert_running(timeout, max, waker, None)?.0)
    }

    /// As [`insert`](Self::insert), but its time runs from `now`, if that of all others does and the session's task looks
    /// before it is over. Its id, and whether it does.
    #[inline]
    pub fn insert_running(
        &mut self,
        timeout: Option<Duration>,
        max: usize,
        waker: Option<Waker>,
        now: Option<Instant>,
    ) -> Result<(u32, bool), RequestError> {
        if let Some(reason) = &self.closed {
            return Err(RequestError::Closed(reason.clone()));
        }
        if self.pending() >= max {
            return Err(RequestError::TooManyPending { max });
        }
        let mut since = now.filter(|_| self.timed_id == self.last_id);
        if let (Some(at), Some(timeout)) = (since, timeout) {
            match (at.checked_add(timeout), self.looks_at) {
                (Some(deadline), Some(looks_at)) if deadline >= looks_at => {
                    self.earliest = sooner(self.earliest, deadline);
                }
                _ => since = None,
            }
        }
        loop {
            self.last_id = following(self.last_id);
            if self.get_mut(self.last_id).is_none() {
                break;
            }
        }
        if since.is_some() {
            self.timed_id = self.last_id;
        }
        let waiter = Waiter {
            id: self.last_id,
            timeout,
            since,
            outcome: Outcome::Waiting(waker),
        };
        match self.place_mut(waiter.id) {
            Some(place) if place.id == 0 => *place = waiter,
            _ => self.make_place(waiter),
        }
        self.taken = self.taken.wrapping_add(1);
        Ok((self.last_id, since.is_some()))
    }

    #[inline]
    fn place_mut(&mut self, id: u32) -> Option<&mut Waiter> {
        let mask = self.places.len().wrapping_sub(1);
        self.places.get_mut(id as usize & mask)
    }

    #[inline]
    fn get_mut(&mut self, id: u32) -> Option<&mut Waiter> {
        let mask = self.places.len().wrapping_sub(1);
        match self.places.get_mut(id as usize & mask) {
            Some(place) if place.id == id && id != 0 => Some(place),
            _ if self.strays.is_empty() => None,
            _ => self.strays.get_mut(&id),
        }
    }

    /// Another one has the place: more places where half of them are taken, or the other one goes out of the way.
    #[cold]
    fn make_place(&mut self, waiter: Waiter) {
        while self.places.is_empty() || self.taken >= self.places.len().div_ceil(2) {
            let more = self.places.len().saturating_mul(2).max(FIRST_PLACES);
            let mut places = Vec::new();
            places.resize_with(more, || Waiter::NOBODY);
            let mask = more.wrapping_sub(1);
            // Two that had different places have different ones among twice as many.
            for old in std::mem::replace(&mut self.places, places) {
                if old.id != 0
                    && let Some(place) = self.places.get_mut(old.id as usize & mask)
                {
                    *place = old;
                }
            }
            if self.place_mut(waiter.id).is_some_and(|place| place.id == 0) {
                break;
            }
        }
        if let Some(place) = self.place_mut(waiter.id) {
            let old = std::mem::replace(place, waiter);
            if old.id != 0 {
                self.taken = self.taken.wrapping_sub(1);
                self.strays.insert(old.id, old);
            }
        }
    }

    /// From here on the time of those runs that came since the last call.
    pub fn start_clocks(&mut self, now: Instant) {
        // One computation for all that wait equally long, which mostly are all.
        let mut same: Option<(Duration, Option<Instant>)> = None;
        while self.timed_id != self.last_id {
            self.timed_id = following(self.timed_id);
            let Some(waiter) = self.get_mut(self.timed_id) else {
                continue;
            };
            if waiter.since.is_some() {
                continue;
            }
            waiter.since = Some(now);
            if let Some(timeout) = waiter.timeout
                && same.is_none_or(|(same, _)| same != timeout)
            {
                let deadline = now.checked_add(timeout);
                same = Some((timeout, deadline));
                if let Some(deadline) = deadline {
                    self.earliest = sooner(self.earliest, deadline);
                }
            }
        }
    }

    /// The outcome, once it is there. An id that is not in the table was never given.
    #[inline]
    pub fn poll(&mut self, id: u32, cx: &mut Context<'_>) -> Poll<Result<Packet, RequestError>> {
        match self.get_mut(id) {
            Some(Waiter {
                outcome: Outcome::Waiting(waker),
                ..
            }) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Some(_) => match self.remove(id) {
                Some(Outcome::Response(packet)) => Poll::Ready(Ok(packet.into_inner())),
                Some(Outcome::Failed(error)) => Poll::Ready(Err(error)),
                Some(Outcome::Waiting(_)) | None => Poll::Pending,
            },
            None => Poll::Ready(Err(RequestError::Closed(
                self.closed.clone().unwrap_or_else(CloseReason::normal),
            ))),
        }
    }

    #[inline]
    fn remove(&mut self, id: u32) -> Option<Outcome> {
        let outcome = match self.place_mut(id) {
            Some(place) if place.id == id && id != 0 => {
                place.id = 0;
                let outcome = std::mem::replace(&mut place.outcome, Outcome::Waiting(None));
                self.taken = self.taken.wrapping_sub(1);
                outcome
            }
            _ => self.strays.remove(&id)?.outcome,
        };
        if self.taken == 0 && self.strays.is_empty() {
            self.earliest = None;
            // The memory of a burst is given back once the burst is over.
            if self.places.len() > KEPT_PLACES {
                self.places = Vec::new();
            }
        }
        Some(outcome)
    }

    /// Gives a request up; whether it was still without an answer.
    pub fn abandon(&mut self, id: u32) -> bool {
        matches!(self.remove(id), Some(Outcome::Waiting(_)))
    }

    #[inline]
    fn settle(&mut self, id: u32, outcome: Outcome) -> Result<Answered, Outcome> {
        match self.get_mut(id) {
            Some(waiter) if waiter.is_waiting() || cfg!(msgtrans_planted = "9") => {
                let waker = match std::mem::replace(&mut waiter.outcome, outcome) {
                    Outcome::Waiting(waker) => waker,
                    _ => None,
                };
                let since = waiter.since;
                Ok(Answered { waker, since })
            }
            _ => Err(outcome),
        }
    }

    /// Hands a response to the waiter of its id. `None`: no such request is pending.
    #[inline]
    pub fn respond(&mut self, packet: Packet) -> Option<Answered> {
        let id = packet.message_id;
        self.settle(id, Outcome::Response(Cell::new(packet))).ok()
    }

    /// Hands a response to the waiter of its id if its time runs.
    ///
    /// # Errors
    /// The packet comes back: no such request is pending, or the session's task has yet to see it.
    #[inline]
    pub fn respond_timed(&mut self, packet: Packet) -> Result<Answered, Packet> {
        match self.get_mut(packet.message_id) {
            Some(waiter) if waiter.since.is_some() && waiter.is_waiting() => {
                let response = Outcome::Response(Cell::new(packet));
                let waker = match std::mem::replace(&mut waiter.outcome, response) {
                    Outcome::Waiting(waker) => waker,
                    _ => None,
                };
                let since = waiter.since;
                Ok(Answered { waker, since })
            }
            _ => Err(packet),
        }
    }

    /// Fails a request. `None`: no such request is pending.
    pub fn fail(&mut self, id: u32, error: RequestError) -> Option<Answered> {
        self.settle(id, Outcome::Failed(error)).ok()
    }

    /// Fails a request for want of an answer in its time.
    pub fn time_out(&mut self, id: u32) -> Option<Answered> {
        let after = self.get_mut(id)?.timeout?;
        self.fail(id, RequestError::Timeout { after })
    }

    fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        self.places.iter().chain(self.strays.values())
    }

    /// Ids whose deadline has passed, for the caller to time out.
    pub fn expired(&mut self, now: Instant) -> Vec<u32> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        let mut earliest = None;
        for waiter in self.waiters().filter(|waiter| waiter.is_waiting()) {
            match waiter.deadline() {
                Some(deadline) if deadline <= now => expired.push(waiter.id),
                Some(deadline) => earliest = sooner(earliest, deadline),
                None => {}
            }
        }
        self.earliest = earliest;
        expired
    }

    /// The session's task looks at `at` or before.
    pub fn set_looks_at(&mut self, at: Instant) {
        self.looks_at = Some(at);
    }

    /// The first deadline, if any.
    pub fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Requests without an outcome that somebody has taken.
    pub fn pending(&self) -> usize {
        self.taken.wrapping_add(self.strays.len())
    }

    /// Fails every waiter and every request to come.
    pub fn close(&mut self, reason: &CloseReason) -> Vec<Waker> {
        self.closed = Some(reason.clone());
        self.earliest = None;
        let mut wakers = Vec::new();
        for waiter in self.places.iter_mut().chain(self.strays.values_mut()) {
            if waiter.is_waiting() {
                let failed = Outcome::Failed(RequestError::Closed(reason.clone()));
                if let Outcome::Waiting(waker) = std::mem::replace(&mut waiter.outcome, failed) {
                    wakers.extend(waker);
                }
            }
        }
        wakers
    }
}

#[cfg(test)]
mod tests;
