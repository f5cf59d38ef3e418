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

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use msgtrans_actor::{Elapsed, Panicked, Timers};
use msgtrans_core::{ConnectError, PeerAddress, TransportError, WireVersions};
use msgtrans_session::{Accepted, Rejection, SessionRuntime, SessionTask, TransportEvent, accept};
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
                let peer = match incoming {
                    Incoming::Connection(connection) => Peer::Connected {
                        runtime: runtime.clone(),
                        accepted: inner.accepted(connection, wire, since, place),
                    },
                    Incoming::Handshake {
                        peer,
                        begun,
                        handshake,
                    } => {
                        let (inner, stats) = (inner.clone(), runtime.clone());
                        let shaking = Box::pin(async move {
                            let shaken = shake_hands(&inner, &stats, begun, handshake, since).await;
                            drop(arrival);
                            shaken.map(|(since, connection)| {
                                inner.accepted(connection, wire, since, place)
                            })
                        });
                        Peer::Shaking {
                            runtime: runtime.clone(),
                            peer,
                            shaking,
                        }
                    }
                };
                inner.tasks.spawn(peer);
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

/// The task of a peer, from when it comes in until its session has ended: what was a handshake becomes the session in
/// place, without a task of its own. As small as a session's, since the handshake is boxed and let go.
#[expect(
    clippy::large_enum_variant,
    reason = "the session is what the task is for: the others are a moment's"
)]
enum Peer {
    Shaking {
        runtime: Arc<SessionRuntime>,
        peer: PeerAddress,
        shaking: Pin<Box<dyn Future<Output = Option<Accepted>> + Send>>,
    },
    /// The session is made where it is first polled: a burst of accepts touches no memory that has gone cold again by
    /// then.
    Connected {
        runtime: Arc<SessionRuntime>,
        accepted: Accepted,
    },
    Session(SessionTask),
    Gone,
}

impl Future for Peer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            if let Self::Session(session) = this {
                return Pin::new(session).poll(cx);
            }
            if let Self::Shaking { shaking, peer, .. } = this {
                // The future is dropped after its panic and never polled again.
                let accepted = match Panicked::catch(|| shaking.as_mut().poll(cx)) {
                    Ok(polled) => ready!(polled),
                    Err(panicked) => {
                        tracing::error!(%peer, %panicked, "a handshake panicked");
                        None
                    }
                };
                let shaken = std::mem::replace(this, Self::Gone);
                if let (Self::Shaking { runtime, .. }, Some(accepted)) = (shaken, accepted) {
                    *this = Self::Session(accept(runtime, accepted));
                    continue;
                }
                return Poll::Ready(());
            }
            match std::mem::replace(this, Self::Gone) {
                Self::Connected { runtime, accepted } => {
                    *this = Self::Session(accept(runtime, accepted));
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}

async fn shake_hands(
    inner: &Inner,
    runtime: &SessionRuntime,
    begun: bool,
    handshake: Handshake,
    since: Instant,
) -> Option<(Instant, Box<dyn Connection>)> {
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
        Ok((since, Ok(connection))) => return Some((since, connection)),
        Ok((_, Err(error))) => {
            runtime.stats.handshake_failed(Rejection::Handshake);
            tracing::debug!(%error, "handshake failed");
        }
        Err(_) => {
            runtime.stats.handshake_failed(Rejection::Timeout);
            tracing::debug!("handshake did not end in time");
        }
    }
    None
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
        // The first poll listens, and may do what can be done at once; being polled again means that something was
        // heard and takes longer.
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
    /// What a session is made of.
    fn accepted(
        &self,
        connection: Box<dyn Connection>,
        wire: WireVersions,
        since: Instant,
        place: Option<Place>,
    ) -> Accepted {
        Accepted {
            connection,
            id: self.next_session_id(),
            wire,
            since,
            permit: place.map(|place| Box::new(place) as Box<dyn Send>),
        }
    }
}

#[cfg(test)]
mod tests;
