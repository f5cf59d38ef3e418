//! Shutting down: stop accepting, tell the peers, wait for the work, close what is left.

use std::sync::Arc;
use std::time::Duration;

use msgtrans_core::{Code, Goodbye};
use tokio::time::Instant;

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

pub(crate) async fn run(inner: Arc<Inner>) -> ShutdownReport {
    let timers = inner.timers();
    let deadline = Instant::now() + inner.config.drain_timeout;
    inner.stop_listening();
    let mut report = ShutdownReport {
        sessions: inner.sessions.len(),
        ..ShutdownReport::default()
    };
    let goodbye = Goodbye::new(Code::GOING_AWAY, "the server shuts down");
    inner
        .sessions
        .for_each(|_, session| session.drain(goodbye.clone()));
    if timers
        .timeout_at(deadline, inner.tasks.wait())
        .await
        .is_err()
    {
        report.closed = inner.sessions.len();
        inner
            .sessions
            .for_each(|_, session| session.close(Code::GOING_AWAY, "the server shuts down"));
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
