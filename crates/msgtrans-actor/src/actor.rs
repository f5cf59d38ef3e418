//! [`Actor`] and [`Driver`]: the pass, and who gets a turn in it.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Passes that an actor with more to do makes before it lets other tasks run.
const PASSES_MAX: usize = 4;

/// What a lane says after its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Nothing to do until something wakes the task; the lane has stored the waker where it waits.
    Idle,
    /// Its budget is spent and there is more: another pass is due.
    Busy,
    /// The actor has ended.
    Done,
}

/// One task that owns its state and works in passes.
///
/// A pass is commands, outbound, inbound, outbound again, the two turns of the outbound lane being
/// [`gather`](Self::gather) and [`flush`](Self::flush): what waited before the pass goes first, and what the inbound
/// lane produces leaves in the same pass, in one write. Each lane keeps to a budget of its own and says [`Lane::Busy`]
/// when it is spent.
pub trait Actor: Unpin {
    /// Whether other tasks have left work, and more may be about to come: read once a poll, so it must be cheap.
    fn is_gathering(&self) -> bool;

    /// Whether a pass may begin. Where it may not, the task is woken when it may.
    fn may_begin(&mut self, cx: &mut Context<'_>) -> bool {
        let _ = cx;
        true
    }

    /// Runs before the lanes of each pass.
    fn begin_pass(&mut self, cx: &mut Context<'_>);

    /// Close, tune, inspect: never behind data.
    fn commands(&mut self, cx: &mut Context<'_>) -> Lane;

    /// Takes what other tasks have left to go out.
    fn gather(&mut self, cx: &mut Context<'_>) -> Lane;

    /// What comes in.
    fn inbound(&mut self, cx: &mut Context<'_>) -> Lane;

    /// Writes everything that has gathered.
    fn flush(&mut self, cx: &mut Context<'_>) -> Lane;

    /// Runs after the lanes of each pass, also when one of them panicked.
    fn end_pass(&mut self, cx: &mut Context<'_>);

    /// The pass is over, and no lane panicked: until the next one may begin others may do of the actor's work what it
    /// lets them.
    fn rest(&mut self) {}

    /// A lane panicked with this message. The actor goes on and is expected to end itself; a panic while it does so
    /// ends it at once.
    fn panicked(&mut self, message: String);
}

/// Runs an [`Actor`] as a future that ends when a lane says [`Lane::Done`].
///
/// A task that is [gathering](Actor::is_gathering) yields once before its pass: whatever others are about to add gathers
/// in the meantime and leaves in one batch. This gains more than any queue (concurrent requests cost a seventh), and costs a
/// lone sender one turn of the scheduler.
#[derive(Debug)]
#[must_use = "an actor that nobody polls does nothing"]
pub struct Driver<A> {
    actor: A,
    yielded: bool,
    panicked: bool,
}

impl<A: Actor> Driver<A> {
    /// A future that runs `actor`.
    pub fn new(actor: A) -> Self {
        Self {
            actor,
            yielded: false,
            panicked: false,
        }
    }

    /// The actor, as long as it is not being polled.
    pub fn actor(&self) -> &A {
        &self.actor
    }

    fn pass(&mut self, cx: &mut Context<'_>) -> Lane {
        let actor = &mut self.actor;
        // The actor is told about a panic and ends itself, so half-changed state is never used for more than that.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            actor.begin_pass(cx);
            let mut lane = actor.commands(cx);
            // By hand and not in a loop over functions, whose calls would be indirect.
            if lane != Lane::Done {
                lane = lane.max(actor.gather(cx));
            }
            if lane != Lane::Done {
                lane = lane.max(actor.inbound(cx));
            }
            if lane != Lane::Done {
                lane = lane.max(actor.flush(cx));
            }
            lane
        }));
        self.actor.end_pass(cx);
        match outcome {
            Ok(lane) => {
                self.actor.rest();
                lane
            }
            Err(_) if self.panicked => Lane::Done,
            Err(payload) => {
                self.panicked = true;
                self.actor.panicked(panic_message(payload.as_ref()));
                Lane::Busy
            }
        }
    }
}

impl<A: Actor> Future for Driver<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // A task that used up its share of the scheduler must not read or write: tokio's resources would pretend to be
        // pending.
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        coop.made_progress();
        if !self.yielded && self.actor.is_gathering() {
            self.yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.yielded = false;
        for _ in 0..PASSES_MAX {
            if !self.actor.may_begin(cx) {
                return Poll::Pending;
            }
            match self.pass(cx) {
                Lane::Idle => return Poll::Pending,
                Lane::Busy => {}
                Lane::Done => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The words of a panic.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    match (
        payload.downcast_ref::<&str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a panic without words".to_owned(),
    }
}

#[cfg(test)]
mod tests;
