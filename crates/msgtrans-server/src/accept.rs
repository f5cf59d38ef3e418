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

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use msgtrans_actor::{Elapsed, Panicked, Timers};
use msgtrans_core::{ConnectError, PeerAddress, TransportError, WireVersions};
use msgtrans_session::{
    Accepted, Arriving, Rejection, SessionRuntime, SessionTask, TransportEvent,
};
use msgtrans_transport::{AcceptError, Connection, Handshake, Incoming, Listener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
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

/// Peers that come in before anything else may run: what a backlog holds, and no flood keeps a thread for itself.
const ROW_MAX: usize = 4_096;
/// Peers that begin to be served between two looks at the listener. On one thread the accept loop has its turn behind
/// all that has been spawned: with everybody of a row it came back 58 ms later, when the backlog was full again.
const SERVED_MAX: usize = 64;

/// Peers that may have come in without a connection.
pub(crate) fn arrivals_max(max_handshakes: usize) -> usize {
    max_handshakes.saturating_mul(ARRIVALS_PER_HANDSHAKE)
}

/// Accepts until the listener fails; the server drops the future to stop, and who was not yet being served with it.
///
/// Spawned without a share of the scheduler to keep to: what waits in the backlog comes in before a session of it runs,
/// for a session is many times the work of an accept, and a backlog that overflows costs each loser a second. Who has
/// come in waits here, where it costs its socket, and is served a few at a time.
pub(crate) async fn run(
    inner: Arc<Inner>,
    runtime: Arc<SessionRuntime>,
    listener: Box<dyn Listener>,
    wire: WireVersions,
) {
    let mut entrance = Entrance {
        inner,
        runtime,
        listener,
        wire,
        backoff: BACKOFF_MIN,
        waiting: VecDeque::new(),
    };
    while entrance.turn().await.is_continue() {}
    entrance.serve(usize::MAX);
}

struct Entrance {
    inner: Arc<Inner>,
    runtime: Arc<SessionRuntime>,
    listener: Box<dyn Listener>,
    wire: WireVersions,
    backoff: Duration,
    /// Who has come in and is not yet served, in groups of those that are served together: what a burst takes up is given
    /// back group by group, for its sessions.
    waiting: VecDeque<Vec<Arrived>>,
}

/// A peer that has come in.
struct Arrived {
    incoming: Incoming,
    place: Option<Place>,
    since: Instant,
    /// Its place among those without a session.
    arrival: OwnedSemaphorePermit,
}

impl Entrance {
    /// Takes in who waits in the backlog and serves a few, or waits for somebody.
    async fn turn(&mut self) -> ControlFlow<()> {
        for _ in 0..ROW_MAX {
            // A place first: who cannot have one yet waits in the kernel's backlog.
            let Ok(arrival) = self.inner.arrivals.clone().try_acquire_owned() else {
                break;
            };
            let next = poll_fn(|cx| Poll::Ready(self.listener.poll_accept(cx))).await;
            let Poll::Ready(next) = next else { break };
            self.enter(next, arrival).await?;
        }
        self.serve(1);
        if !self.waiting.is_empty() {
            // Comes back once the sockets have been asked for news, so also the listener's, and not before those that
            // have just been spawned had a turn.
            yield_now().await;
            return ControlFlow::Continue(());
        }
        let Ok(arrival) = self.inner.arrivals.clone().acquire_owned().await else {
            return ControlFlow::Break(());
        };
        let mut paused = false;
        let next = poll_fn(|cx| {
            let next = self.listener.poll_accept(cx);
            paused |= next.is_pending();
            next
        });
        let next = next.await;
        self.enter(next, arrival).await?;
        if !paused {
            // Somebody has come since the look above: those who were served then have their turn first.
            yield_now().await;
        }
        ControlFlow::Continue(())
    }

    /// What came of an accept: somebody who now waits to be served, or a reason to pause or to end.
    async fn enter(
        &mut self,
        next: Result<Incoming, AcceptError>,
        arrival: OwnedSemaphorePermit,
    ) -> ControlFlow<()> {
        let counters = &self.inner.listener_counters;
        match next {
            Ok(incoming) => {
                self.backoff = BACKOFF_MIN;
                let since = Instant::now();
                counters.accepted.add(1);
                match self.inner.addresses.enter(incoming.peer()) {
                    Ok(place) => self.wait(Arrived {
                        incoming,
                        place,
                        since,
                        arrival,
                    }),
                    Err(max) => {
                        counters.refused_address.add(1);
                        self.runtime.stats.rejected(Rejection::Address);
                        tracing::debug!(peer = %incoming.peer(), max, "too many connections of one address");
                    }
                }
            }
            Err(AcceptError::Peer(error)) => {
                counters.lost.add(1);
                let endpoint = self.listener.local_endpoint();
                tracing::debug!(%endpoint, %error, "a peer was lost before it was accepted");
            }
            Err(AcceptError::Exhausted(error)) => {
                counters.exhausted.add(1);
                let (endpoint, backoff) = (self.listener.local_endpoint(), self.backoff);
                tracing::warn!(%endpoint, %error, ?backoff, "accepting pauses");
                // Nobody who is in waits for that.
                self.serve(usize::MAX);
                self.runtime.timers.sleep(backoff).await;
                self.backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
            }
            Err(AcceptError::Fatal(error)) => {
                let endpoint = self.listener.local_endpoint();
                tracing::error!(%endpoint, %error, "the listener has failed");
                let error = TransportError::Io(error);
                self.runtime.events.tell(TransportEvent::Error {
                    session_id: None,
                    error,
                });
                return ControlFlow::Break(());
            }
            Err(error) => {
                let endpoint = self.listener.local_endpoint();
                tracing::warn!(%endpoint, %error, "accept failed");
            }
        }
        ControlFlow::Continue(())
    }

    fn wait(&mut self, arrived: Arrived) {
        match self.waiting.back_mut() {
            Some(group) if group.len() < SERVED_MAX => group.push(arrived),
            _ => self.waiting.push_back(vec![arrived]),
        }
    }

    /// Spawns the tasks of the first so many groups.
    fn serve(&mut self, groups: usize) {
        let groups = groups.min(self.waiting.len());
        for arrived in self.waiting.drain(..groups).flatten() {
            let peer = Peer::new(&self.inner, &self.runtime, self.wire, arrived);
            self.inner.tasks.spawn(peer);
        }
    }
}

/// The task of a peer, from when it comes in until its session has ended: what was a handshake becomes the session in
/// place, without a task of its own. As small as a session's, since the handshake is boxed and let go.
enum Peer {
    Shaking {
        runtime: Arc<SessionRuntime>,
        peer: PeerAddress,
        shaking: Pin<Box<dyn Future<Output = Option<Accepted>> + Send>>,
    },
    /// The session is made when the peer speaks.
    Arriving(Arriving),
    Session(SessionTask),
    Gone,
}

impl Peer {
    fn new(
        inner: &Arc<Inner>,
        runtime: &Arc<SessionRuntime>,
        wire: WireVersions,
        arrived: Arrived,
    ) -> Self {
        let (inner, runtime) = (inner.clone(), runtime.clone());
        let Arrived {
            incoming,
            place,
            since,
            arrival,
        } = arrived;
        match incoming {
            Incoming::Connection(connection) => {
                let accepted = inner.accepted(connection, wire, since, place);
                Self::Arriving(Arriving::new(runtime, accepted))
            }
            Incoming::Handshake {
                peer,
                begun,
                handshake,
            } => {
                let stats = runtime.clone();
                let shaking = Box::pin(async move {
                    let shaken = shake_hands(&inner, &stats, begun, handshake, since).await;
                    drop(arrival);
                    shaken.map(|(since, connection)| inner.accepted(connection, wire, since, place))
                });
                Self::Shaking {
                    runtime,
                    peer,
                    shaking,
                }
            }
        }
    }
}

impl Future for Peer {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.get_mut() {
            Self::Session(session) => Pin::new(session).poll(cx),
            this => this.poll_arrival(cx),
        }
    }
}

impl Peer {
    /// Until there is a session. Apart, so that a session's poll saves no registers for it.
    #[inline(never)]
    fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let polled = match self {
                Self::Session(session) => return Pin::new(session).poll(cx),
                Self::Arriving(arriving) => Pin::new(arriving)
                    .poll(cx)
                    .map(|task| task.map(Self::Session)),
                Self::Shaking {
                    shaking,
                    peer,
                    runtime,
                } => {
                    let arrive =
                        |accepted| Self::Arriving(Arriving::new(runtime.clone(), accepted));
                    // The future is dropped after its panic and never polled again.
                    match Panicked::catch(|| shaking.as_mut().poll(cx)) {
                        Ok(polled) => polled.map(|shaken| shaken.map(arrive)),
                        Err(panicked) => {
                            tracing::error!(%peer, %panicked, "a handshake panicked");
                            Poll::Ready(None)
                        }
                    }
                }
                Self::Gone => return Poll::Ready(()),
            };
            let next = ready!(polled);
            *self = next.unwrap_or(Self::Gone);
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
            // Closed is what this semaphore never is; without a place the handshake would only be unbounded. Boxed, as few
            // wait: what each handshake holds is left as holes between the sessions of a burst.
            let place = Box::pin(timers.timeout(limit, handshakes.acquire())).await?;
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
