//! [`TaskGroup`]: tasks that somebody owns, counts and waits for.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Notify;

use crate::actor::panic_message;

/// Spawns tasks and knows when they have all ended. Cheap to clone; the tasks of all clones count together.
#[derive(Clone, Debug, Default)]
pub struct TaskGroup {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Tasks alive. Written by spawns and ends, read by `wait`; the Notify orders what must be ordered.
    alive: AtomicUsize,
    ended: Notify,
}

struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        // Release: what the task did happens before the `wait` that reads 0 with Acquire.
        if self.0.alive.fetch_sub(1, Ordering::Release) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

/// The words of a panic that was caught.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked(pub String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task panicked: {}", self.0)
    }
}

impl Panicked {
    /// Runs `work`, whose panic stays its own. What it has left half-done is for the caller to drop.
    ///
    /// # Errors
    /// `work` panicked.
    pub fn catch<T>(work: impl FnOnce() -> T) -> Result<T, Self> {
        catch_unwind(AssertUnwindSafe(work))
            .map_err(|payload| Self(panic_message(payload.as_ref())))
    }
}

impl TaskGroup {
    /// A group without tasks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns `future` on the current tokio runtime. Its memory is one task; nothing is wrapped around it but a
    /// counter.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<()>
    where
        F: Future<Output = ()> + Send + Unpin + 'static,
    {
        self.shared.alive.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(Counted {
            future,
            _guard: Guard(self.shared.clone()),
        })
    }

    /// Tasks alive now.
    pub fn len(&self) -> usize {
        self.shared.alive.load(Ordering::Acquire)
    }

    /// Whether no task is alive.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves when no task is alive.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn wait(&self) {
        loop {
            let ended = self.shared.ended.notified();
            tokio::pin!(ended);
            // Registered before the look, so that an end in between is not missed.
            ended.as_mut().enable();
            if self.is_empty() {
                return;
            }
            ended.await;
        }
    }
}

struct Counted<F> {
    future: F,
    _guard: Guard,
}

impl<F: Future<Output = ()> + Unpin> Future for Counted<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.future).poll(cx)
    }
}

#[cfg(test)]
mod tests;
