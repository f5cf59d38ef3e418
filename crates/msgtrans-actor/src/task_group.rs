//! [`TaskGroup`]: tasks that somebody owns, counts and waits for.

use std::any::Any;
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

/// The words of a panic that ended a task of a [`TaskGroup`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panicked(pub String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task panicked: {}", self.0)
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

    /// Spawns a boxed `future`; `on_panic` hears of its panic, which stays its own.
    pub fn spawn_supervised(
        &self,
        future: impl Future<Output = ()> + Send + 'static,
        on_panic: impl Fn(Panicked) + Send + Unpin + 'static,
    ) -> tokio::task::JoinHandle<()> {
        self.spawn(Supervised {
            future: Box::pin(future),
            on_panic,
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

struct Supervised<P> {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    on_panic: P,
}

impl<P: Fn(Panicked) + Unpin> Future for Supervised<P> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let future = &mut self.future;
        // The future is dropped after its panic and never polled again.
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(payload) => {
                let payload: Box<dyn Any + Send> = payload;
                (self.on_panic)(Panicked(panic_message(payload.as_ref())));
                Poll::Ready(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
