//! The one task beside a client's session: waits for its end and dials again.

use std::sync::Arc;
use std::time::Duration;

use msgtrans_core::{CloseReason, Code, ConnectError, Initiator, TransportError, WireVersion};
use msgtrans_session::{Session, TransportEvent};
use tokio::time::{Instant, sleep};

use crate::backoff::{Backoff, Jitter, ReconnectConfig};
use crate::dial::{attempt, retry_after};
use crate::inner::{Inner, Run};

/// A session that has lived so long is not one that the server drops on sight: its loss is counted from one again.
const STEADY: Duration = Duration::from_secs(5);

/// Dials for a first session, up to the retries that were asked for.
pub(crate) async fn first(inner: &Arc<Inner>, run: &Run) -> Result<Session, ConnectError> {
    let retry = inner.settings.retry;
    let mut delays = Delays::new(retry.backoff);
    loop {
        let outcome = tokio::select! {
            biased;
            () = run.stop.wait() => return Err(stopped()),
            outcome = attempt(inner, run) => outcome,
        };
        let error = match outcome {
            Ok(session) => return Ok(session),
            Err(error) if error.is_retryable() && delays.attempt < retry.attempts => error,
            Err(error) => return Err(error),
        };
        let delay = delays.next(retry_after(&error));
        tracing::debug!(endpoint = %inner.endpoint(), %error, attempt = delays.attempt, ?delay, "connecting again");
        tokio::select! {
            biased;
            () = run.stop.wait() => return Err(stopped()),
            () = sleep(delay) => {}
        }
    }
}

pub(crate) fn stopped() -> ConnectError {
    ConnectError::State {
        what: "the client was disconnected while it connected",
    }
}

/// Watches over `session` and its successors until the run is over.
pub(crate) async fn supervise(inner: Arc<Inner>, run: Run, mut session: Session) {
    // Dropped with the task too, where the runtime shuts down.
    let end = End { inner, run };
    let (inner, run) = (&end.inner, &end.run);
    let reconnect = inner.settings.reconnect;
    let mut delays = Delays::new(reconnect.unwrap_or_default().backoff);
    loop {
        let since = Instant::now();
        let reason = tokio::select! {
            reason = session.closed() => reason,
            () = run.stop.wait() => {
                session.close(Code::NORMAL, "");
                session.closed().await
            }
        };
        if since.elapsed() >= STEADY {
            delays.attempt = 0;
        }
        let Some(config) = reconnect.filter(|_| comes_back(&reason, session.version())) else {
            return;
        };
        let minimum = session
            .peer_goodbye()
            .and_then(|goodbye| goodbye.retry_after)
            .unwrap_or_default();
        drop(session);
        let next = tokio::select! {
            biased;
            () = run.stop.wait() => return,
            next = redial(inner, run, config, &mut delays, minimum) => next,
        };
        match next {
            Ok(next) => session = next,
            Err(error) => {
                tracing::warn!(endpoint = %inner.endpoint(), %error, "not reconnecting any more");
                run.events.tell(TransportEvent::Error {
                    session_id: None,
                    error: TransportError::Connect(error),
                });
                return;
            }
        }
    }
}

struct End {
    inner: Arc<Inner>,
    run: Run,
}

impl Drop for End {
    fn drop(&mut self) {
        self.inner.end(&self.run);
    }
}

/// Whether a session that ended so is dialled again: the server may be there, and had nothing against this client.
fn comes_back(reason: &CloseReason, version: Option<WireVersion>) -> bool {
    match (reason.initiator, reason.code) {
        (Initiator::Network, _) => true,
        // A write that made no progress, a version 1 peer that was silent: lost by another name.
        (Initiator::Local, code) => matches!(code, Code::SLOW_CONSUMER | Code::TIMEOUT),
        // The end of a version 1 stream says nothing about why.
        (Initiator::Peer, Code::NORMAL) => version == Some(WireVersion::V1),
        (Initiator::Peer, code) => matches!(
            code,
            Code::GOING_AWAY
                | Code::OVERLOADED
                | Code::RATE_LIMITED
                | Code::TIMEOUT
                | Code::INTERNAL
                | Code::SLOW_CONSUMER
        ),
    }
}

/// Dials until there is a session, the server refuses for good, or the attempts are spent; the first time not before
/// `minimum`, which the server of the lost session may have asked for.
async fn redial(
    inner: &Arc<Inner>,
    run: &Run,
    config: ReconnectConfig,
    delays: &mut Delays,
    mut minimum: Duration,
) -> Result<Session, ConnectError> {
    loop {
        let delay = delays.next(minimum);
        run.events.tell(TransportEvent::Reconnecting {
            attempt: delays.attempt,
            delay,
        });
        sleep(delay).await;
        let error = match attempt(inner, run).await {
            Ok(session) => return Ok(session),
            Err(error) => error,
        };
        let spent = config.attempts_max.is_some_and(|max| delays.attempt >= max);
        if spent || !error.is_retryable() {
            return Err(error);
        }
        tracing::debug!(endpoint = %inner.endpoint(), %error, attempt = delays.attempt, "reconnecting");
        minimum = retry_after(&error);
    }
}

/// Counts attempts and draws the delay before each.
struct Delays {
    backoff: Backoff,
    jitter: Jitter,
    attempt: u32,
}

impl Delays {
    fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            jitter: Jitter::new(),
            attempt: 0,
        }
    }

    /// The delay before the next attempt. On top of what the server asked for, not instead of it: all its clients were
    /// asked for the same.
    fn next(&mut self, minimum: Duration) -> Duration {
        self.attempt = self.attempt.saturating_add(1);
        minimum + self.backoff.delay(self.attempt, self.jitter.next())
    }
}
