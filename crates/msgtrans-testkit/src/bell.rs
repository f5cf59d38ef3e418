//! [`Bell`]: a waker that counts its wakes and can be awaited.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::sync::Notify;

/// Stands for the task of a session: polls with a waker of its own, so that a test knows who was woken and how often.
#[derive(Clone, Debug, Default)]
pub struct Bell {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Relaxed: read for reports; `rung` orders what must be ordered.
    rings: AtomicUsize,
    rung: Notify,
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        self.rung.notify_one();
    }
}

impl Bell {
    /// A bell that has not rung.
    pub fn new() -> Self {
        Self::default()
    }

    /// A waker that rings it.
    pub fn waker(&self) -> Waker {
        self.inner.clone().into()
    }

    /// How often it has rung.
    pub fn rings(&self) -> usize {
        self.inner.rings.load(Ordering::Relaxed)
    }

    /// Polls once, with the bell as the waker.
    pub fn poll<T>(&self, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        poll(&mut Context::from_waker(&self.waker()))
    }

    /// Resolves at the next ring, at once if it has rung since the last wait.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn rung(&self) {
        self.inner.rung.notified().await;
    }

    /// Polls whenever the bell rings, until there is a result. The first poll comes after the first ring: what has
    /// been pending must wake.
    ///
    /// # Cancel safety
    /// As safe as what is polled.
    pub async fn until<T>(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        loop {
            self.rung().await;
            if let Poll::Ready(value) = self.poll(&mut poll) {
                return value;
            }
        }
    }
}
