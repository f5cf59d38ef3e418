//! Shutting down: stop accepting, tell the peers, wait for the work, close what is left.

use std::sync::Arc;
use std::time::Duration;

use msgtrans_core::{Code, Goodbye};
use tokio::time::Instant;

use crate::cores::End;
use crate::server::Inner;

/// How long closing sessions have after the drain deadline: Goodbye written and lingered for.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a shutdown did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Sessions open when it began.
    pub sessions: usize,
    /// Sessions that ended within the drain timeout.
    pub drained: usize,
    /// Sessions that had to be closed with work at hand.
    pub closed: usize,
    /// Tasks that did not end even then and were let go.
    pub abandoned: usize,
}

impl ShutdownReport {
    /// Whether every session ended by itself.
    pub fn is_clean(&self) -> bool {
        self.closed == 0 && self.abandoned == 0
    }
}

/// A shutdown that has begun. Dropped with the runtime that it was begun on, it closes what is left without waiting, so that
/// whoever waits for its end does not wait for ever.
pub(crate) struct Shutdown(Option<Arc<Inner>>);

impl Shutdown {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self(Some(inner))
    }

    pub(crate) async fn run(mut self) {
        if let Some(inner) = &self.0 {
            let report = drain(inner).await;
            // In one go: on one of the server's own threads this task does not come back from a wait.
            if let Some(inner) = self.0.take() {
                inner.stopped_with(report, End::Now);
            }
        }
    }
}

impl Drop for Shutdown {
    fn drop(&mut self) {
        let Some(inner) = self.0.take() else { return };
        tracing::warn!("a shutdown is cut short: the runtime that it was begun on ends");
        drop(inner.stop_listening());
        let open = inner.sessions.len();
        inner.close_sessions("the server shuts down");
        inner.events.finish();
        let report = ShutdownReport {
            sessions: open,
            closed: open,
            abandoned: inner.tasks.len(),
            ..ShutdownReport::default()
        };
        inner.stopped_with(report, End::Empty);
    }
}

async fn drain(inner: &Inner) -> ShutdownReport {
    let timers = inner.timers();
    let deadline = Instant::now() + inner.config.drain_timeout;
    let listeners = inner.stop_listening();
    let mut report = ShutdownReport {
        sessions: inner.sessions.len(),
        ..ShutdownReport::default()
    };
    let goodbye = Goodbye::new(Code::GOING_AWAY, "the server shuts down");
    inner
        .sessions
        .for_each(|_, session| session.drain(goodbye.clone()));
    let work = async {
        // An accept under way may bring somebody yet, and behind a shutdown the ports are free.
        listeners.closed().await;
        inner.tasks.wait().await;
    };
    if timers.timeout_at(deadline, work).await.is_err() {
        report.closed = inner.sessions.len();
        inner.close_sessions("the server shuts down");
        if timers
            .timeout(CLOSE_TIMEOUT, inner.tasks.wait())
            .await
            .is_err()
        {
            report.abandoned = inner.tasks.len();
        }
    }
    report.drained = report.sessions.saturating_sub(report.closed);
    // What removed sessions held, the handler among it, is let go now and not at the next epoch.
    for _ in 0..3 {
        inner.sessions.flush();
    }
    inner.events.finish();
    tracing::info!(?report, "server shut down");
    report
}
