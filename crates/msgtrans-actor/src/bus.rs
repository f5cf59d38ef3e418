//! [`EventBus`]: a lossy broadcast for whoever watches; application data never travels on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast::{self, error::RecvError};

/// Tells every subscriber what happens. A publisher never waits: a subscriber that is too slow loses the oldest events
/// and is told how many.
#[derive(Clone, Debug)]
pub struct EventBus<T> {
    sender: broadcast::Sender<T>,
    /// Summed for reports only.
    lost: Arc<AtomicU64>,
}

/// One subscriber of an [`EventBus`].
#[derive(Debug)]
pub struct BusReceiver<T> {
    receiver: broadcast::Receiver<T>,
    lost: Arc<AtomicU64>,
}

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// An event.
    Event(T),
    /// So many events were lost here because the subscriber was too slow.
    Lost(u64),
}

impl<T: Clone> EventBus<T> {
    /// A bus that keeps `capacity` events for each subscriber; at least 1.
    pub fn new(capacity: usize) -> Self {
        Self {
            sender: broadcast::channel(capacity.max(1)).0,
            lost: Arc::default(),
        }
    }

    /// Tells whoever listens; costs one atomic read when nobody does.
    pub fn publish(&self, event: impl FnOnce() -> T) {
        if self.sender.receiver_count() > 0 {
            // Fails when the last subscriber has just left, which is as good as nobody listening.
            let _ = self.sender.send(event());
        }
    }

    /// Hears every event from now on.
    pub fn subscribe(&self) -> BusReceiver<T> {
        BusReceiver {
            receiver: self.sender.subscribe(),
            lost: self.lost.clone(),
        }
    }

    /// Events lost by all subscribers together.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl<T: Clone> BusReceiver<T> {
    /// The next event, or how many were lost; `None` when the bus is gone.
    ///
    /// # Cancel safety
    /// May be dropped at any time; no event is lost by it.
    pub async fn next(&mut self) -> Option<Received<T>> {
        match self.receiver.recv().await {
            Ok(event) => Some(Received::Event(event)),
            Err(RecvError::Lagged(count)) => {
                self.lost.fetch_add(count, Ordering::Relaxed);
                Some(Received::Lost(count))
            }
            Err(RecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests;
