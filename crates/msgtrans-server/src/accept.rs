//! The accept loop of one listener: admission, concurrent bounded handshakes, backing off when out of descriptors.
// What a peer controls passes here: nothing that can panic.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used
    )
)]

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use msgtrans_actor::{Elapsed, Timers};
use msgtrans_core::{ConnectError, TransportError, WireVersions};
use msgtrans_session::{Accepted, Rejection, SessionRuntime, TransportEvent, accept};
use msgtrans_transport::{AcceptError, Connection, Handshake, Incoming, Listener};
use tokio::sync::Semaphore;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::admission::Place;
use crate::server::Inner;

/// The first and the longest pause of a listener that is out of descriptors or memory.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// Peers that may have come in for each handshake that there may be. They cost a socket and a task of a few KiB; those
/// that had to wait in the kernel's backlog, which holds 4 096, would lose their first packet and a second with it.
const ARRIVALS_PER_HANDSHAKE: usize = 16;

/// Peers that come in before anything else may run: more than a backlog holds, and no flood keeps a thread for itself.
const ROW_MAX: usize = 16_384;
/// So many in a row are a burst, of which more may be on their way.
const BURST: usize = 16;

/// Peers that may have come in without a session.
pub(crate) fn arrivals_max(max_handshakes: usize) -> usize {
    max_handshakes.saturating_mul(ARRIVALS_PER_HANDSHAKE)
}

/// Accepts until the listener fails; the server drops the future to stop.
pub(crate) async fn run(
    inner: Arc<Inner>,
    runtime: Arc<SessionRuntime>,
    mut listener: Box<dyn Listener>,
    wire: WireVersions,
) {
    let endpoint = listener.local_endpoint();
    let (mut backoff, mut row) = (BACKOFF_MIN, 0);
    loop {
        // A place first: who cannot have one yet waits in the kernel's backlog.
        let Ok(arrival) = inner.arrivals.clone().acquire_owned().await else {
            return;
        };
        match next(listener.as_mut(), &mut row).await {
            Ok(incoming) => {
                backoff = BACKOFF_MIN;
                let since = Instant::now();
                inner.listener_counters.accepted.add(1);
                let place = match inner.addresses.enter(incoming.peer()) {
                    Ok(place) => place,
                    Err(max) => {
                        inner.listener_counters.refused_address.add(1);
                        runtime.stats.rejected(Rejection::Address);
                        tracing::debug!(peer = %incoming.peer(), max, "too many connections of one address");
                        continue;
                    }
                };
                match incoming {
                    Incoming::Connection(connection) => {
                        inner.start(&runtime, connection, wire, since, place);
                    }
                    Incoming::Handshake {
                        peer,
                        begun,
                        handshake,
                    } => {
                        let task = shake_hands(
                            inner.clone(),
                            runtime.clone(),
                            begun,
                            handshake,
                            wire,
                            since,
                            place,
                        );
                        let task = async move {
                            task.await;
                            drop(arrival);
                        };
                        inner.tasks.spawn_supervised(task, move |panicked| {
                            tracing::error!(%peer, %panicked, "a handshake panicked");
                        });
                    }
                }
            }
            Err(AcceptError::Peer(error)) => {
                inner.listener_counters.lost.add(1);
                tracing::debug!(%endpoint, %error, "a peer was lost before it was accepted");
            }
            Err(AcceptError::Exhausted(error)) => {
                inner.listener_counters.exhausted.add(1);
                tracing::warn!(%endpoint, %error, ?backoff, "accepting pauses");
                runtime.timers.sleep(backoff).await;
                backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
            }
            Err(AcceptError::Fatal(error)) => {
                tracing::error!(%endpoint, %error, "the listener has failed");
                let error = TransportError::Io(error);
                runtime.events.tell(TransportEvent::Error {
                    session_id: None,
                    error,
                });
                return;
            }
            Err(error) => tracing::warn!(%endpoint, %error, "accept failed"),
        }
    }
}

/// The next peer; `row` are those that came in without a pause. Spawned without a share of the scheduler to keep to:
/// what waits in the backlog comes in before a session of it runs, for a session is many times the work of an accept,
/// and a backlog that overflows costs each loser a second.
async fn next(listener: &mut dyn Listener, row: &mut usize) -> Result<Incoming, AcceptError> {
    if *row >= ROW_MAX {
        *row = 0;
        yield_now().await;
    }
    let waiting = poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await;
    if let Poll::Ready(incoming) = waiting {
        *row = row.saturating_add(1);
        return incoming;
    }
    if std::mem::take(row) >= BURST {
        // More are on their way. Who yields comes back before most of what was just spawned; who waits to be woken
        // may stand behind all of it.
        yield_now().await;
    }
    poll_fn(|cx| listener.poll_accept(cx)).await
}

async fn shake_hands(
    inner: Arc<Inner>,
    runtime: Arc<SessionRuntime>,
    begun: bool,
    handshake: Handshake,
    wire: WireVersions,
    since: Instant,
    place: Option<Place>,
) {
    let limit = runtime.config.handshake_timeout;
    match in_turn(
        &runtime.timers,
        &inner.handshakes,
        begun,
        handshake,
        since,
        limit,
    )
    .await
    {
        Ok((since, Ok(connection))) => inner.start(&runtime, connection, wire, since, place),
        Ok((_, Err(error))) => {
            runtime.stats.handshake_failed(Rejection::Handshake);
            tracing::debug!(%error, "handshake failed");
        }
        Err(_) => {
            runtime.stats.handshake_failed(Rejection::Timeout);
            tracing::debug!("handshake did not end in time");
        }
    }
}

/// Waits until the peer has begun, then for a place among the handshakes, and shakes hands. Before `since` + `limit`,
/// but the wait for a place is no fault of the peer's: it has a limit of its own, and moves the deadline. Returns when
/// the peer may be said to have come in.
async fn in_turn(
    timers: &Timers,
    handshakes: &Semaphore,
    begun: bool,
    mut handshake: Handshake,
    since: Instant,
    limit: Duration,
) -> Result<(Instant, Result<Box<dyn Connection>, ConnectError>), Elapsed> {
    if !begun {
        // The first poll only listens; being polled again means that something was heard.
        let mut listening = false;
        let early = poll_fn(|cx| {
            if std::mem::replace(&mut listening, true) {
                return Poll::Ready(None);
            }
            handshake.as_mut().poll(cx).map(Some)
        });
        if let Some(early) = timers.timeout_at(after(since, limit), early).await? {
            return Ok((since, early));
        }
    }
    let mut since = since;
    let _place = match handshakes.try_acquire() {
        Ok(place) => Ok(place),
        Err(_) => {
            let from = Instant::now();
            // Closed is what this semaphore never is; without a place the handshake would only be unbounded.
            let place = timers.timeout(limit, handshakes.acquire()).await?;
            since = after(since, from.elapsed());
            place
        }
    };
    Ok((
        since,
        timers.timeout_at(after(since, limit), handshake).await?,
    ))
}

/// `wait` behind `at`: at most a day, so never beyond the clock.
fn after(at: Instant, wait: Duration) -> Instant {
    at.checked_add(wait).unwrap_or(at)
}

impl Inner {
    /// A connection becomes a session's task.
    fn start(
        self: &Arc<Self>,
        runtime: &Arc<SessionRuntime>,
        connection: Box<dyn Connection>,
        wire: WireVersions,
        since: Instant,
        place: Option<Place>,
    ) {
        let id = self.next_session_id();
        let permit = place.map(|place| Box::new(place) as Box<dyn Send>);
        self.tasks.spawn(accept(
            runtime.clone(),
            Accepted {
                connection,
                id,
                wire,
                since,
                permit,
            },
        ));
    }
}

#[cfg(test)]
mod tests;
