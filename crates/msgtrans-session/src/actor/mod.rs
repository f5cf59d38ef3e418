//! [`SessionActor`]: the task of one session — its phases, its lanes, its clock.
//!
//! | phase | what runs |
//! |---|---|
//! | opening | handshake and authenticator; one frame at a time |
//! | open | commands, outbound, inbound, handler lanes |
//! | ending | the peer has ended: messages that came before are handled, nothing is read or written |
//! | closing | what is queued is written, then Goodbye, then the connection closes |
//! | leaving | the handler hears of the end |
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

mod closing;
mod gone;
mod inbound;
mod open;
mod pace;
mod time;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_actor::{Actor, Driver, LOT, Lane, TimerKey};
use msgtrans_core::{
    CloseReason, Code, ConnectError, Goodbye, Packet, PacketType, SessionId, WireVersion,
    WireVersions,
};
use msgtrans_transport::{Connection, ConnectionError, Framing, Progress};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::SessionConfig;
use crate::direct::Direct;
use crate::opening::{OpenError, Opening, Role, may_listen_first};
use crate::pass::{self, BATCH_BYTES, Pass};
use crate::rate_limit::RateLimiter;
use crate::runtime::SessionRuntime;
use crate::service::LaneFuture;
use crate::session::{Command, Commands, HELD, Outgoing, Session, Shared};
use crate::turn::Turn;

/// The future of a session; spawn it.
pub type SessionTask = Driver<SessionActor>;

/// The task of one session. Made by [`accept`] or [`connect`].
pub struct SessionActor {
    session: Session,
    connection: Box<dyn Connection>,
    phase: Phase,
    /// How packets are framed; of use once the wire version is known.
    framing: Framing,
    version: Option<WireVersion>,
    /// Whether the connection knows the wire version: a listen-first peer's is decided by whoever writes first.
    settled: bool,
    /// Whether the last write did not take everything.
    blocked: bool,
    /// Whether the session was announced.
    announced: bool,
    /// Whether the session has a place among those that were admitted.
    admitted: bool,
    waker: Option<Waker>,
    /// What is at hand: packets to handle, bytes to write.
    pass: Option<Box<Pass>>,
    /// The handler's lanes, once there was something for them.
    lanes: Option<Box<Lanes>>,
    /// What only some sessions have.
    rare: Option<Box<Rare>>,
    alarm: Option<(Instant, TimerKey)>,
    /// Whether the alarm comes before everything that may fall due: while the session is open and nothing but silence
    /// can end it, its deadlines only move away.
    watched: bool,
    now: Instant,
    heard: Instant,
    wrote: Instant,
    progress: Progress,
    /// Milliseconds, as on the wire: see the test of the task's size.
    heartbeat_ms: u32,
    /// Whether each packet is looked at by itself, as it passes middleware or is counted against a rate.
    looked_at: bool,
    /// Bytes held of a packet of which not all has come.
    incomplete: u32,
    /// Whether packets have come since the last note of what is incomplete.
    received: bool,
    /// Since when nothing is read because the handler is busy.
    held_back: Option<Instant>,
    /// Since when a packet has been under way.
    pace: Option<pace::Pace>,
    /// Held as long as the task lives.
    permit: Option<Box<Permit>>,
    /// Where somebody listens at debug: everything that happens in the task happens in it.
    span: Option<Box<tracing::Span>>,
}

/// All that a phase holds is boxed, since an idle session is in the one that holds nothing.
enum Phase {
    Opening(Box<Opening>),
    Open,
    Ending(Box<closing::Ending>),
    Closing(Box<closing::Closing>),
    Leaving(Box<closing::Leaving>),
    Done,
}

/// The handler at work.
#[derive(Default)]
struct Lanes {
    messages: Option<LaneFuture>,
    requests: Option<LaneFuture>,
}

#[derive(Default)]
struct Rare {
    drain: Option<Goodbye>,
    drain_said: bool,
    /// Whether the work was found done, and nothing has come since.
    drain_done: bool,
    /// Requests of this side that were given up, to be cancelled once what was queued before has gone.
    cancels: Vec<u32>,
    session_limiter: Option<RateLimiter>,
    address_limiter: Option<Arc<RateLimiter>>,
    paused_until: Option<Instant>,
    /// The last Ping that could not be answered while the peer did not read.
    pong_due: Option<Packet>,
}

/// Boxed once more, because peers of this machine have none.
struct Permit {
    _held: Box<dyn Send>,
}

/// A connection that a server has accepted.
pub struct Accepted {
    /// The pipe, its protocol's own handshakes done.
    pub connection: Box<dyn Connection>,
    /// The session's name, should it become one.
    pub id: SessionId,
    /// The versions that the listener accepts.
    pub wire: WireVersions,
    /// When the peer came in: one deadline spans all handshakes.
    pub since: Instant,
    /// Dropped when the session's task ends: a place among the peers of its address.
    pub permit: Option<Box<dyn Send>>,
}

impl Accepted {
    /// Whether the peer speaks first: not where the protocol has decided for version 1, whose peers may only listen.
    pub(crate) fn must_speak(&self) -> bool {
        self.connection.info().negotiated != Some(WireVersion::V1)
    }

    /// Until when silence that was noticed at `looked` means nothing.
    pub(crate) fn silent_until(&self, config: &SessionConfig, looked: Instant) -> Instant {
        let deadline = time::after(self.since, config.handshake_timeout);
        if may_listen_first(self.wire, self.connection.as_ref()) {
            deadline.min(time::after(looked, config.listen_first_after))
        } else {
            deadline
        }
    }
}

/// A session on the server's side of a connection.
pub fn accept(runtime: Arc<SessionRuntime>, accepted: Accepted) -> SessionTask {
    let progress = accepted.connection.progress();
    accept_looked(runtime, accepted, None, progress)
}

/// The same of a peer whose silence was noticed at `looked`, and of whose connection `progress` has been counted.
pub(crate) fn accept_looked(
    runtime: Arc<SessionRuntime>,
    accepted: Accepted,
    looked: Option<Instant>,
    progress: Progress,
) -> SessionTask {
    let Accepted {
        connection,
        id,
        wire,
        since,
        permit,
    } = accepted;
    let now = Instant::now();
    let config = &runtime.config;
    let silence = may_listen_first(wire, connection.as_ref())
        .then(|| time::after(looked.unwrap_or(now), config.listen_first_after));
    let deadline = time::after(since, config.handshake_timeout);
    let opening = Opening {
        role: Role::Server,
        deadline,
        silence,
        decision: None,
    };
    let mut actor = SessionActor::new(runtime, connection, id, opening, now);
    actor.progress = progress;
    actor.permit = permit.map(|held| Box::new(Permit { _held: held }));
    Driver::new(actor)
}

/// A session on the client's side of `connection`: says Hello where version 2 is to be spoken. The receiver hears of the
/// open session or of the failure; if it is dropped first, the session closes.
pub fn connect(
    runtime: Arc<SessionRuntime>,
    connection: Box<dyn Connection>,
    endpoint: String,
    wire: WireVersions,
) -> (SessionTask, oneshot::Receiver<Result<Session, OpenError>>) {
    let now = Instant::now();
    let (opened, receiver) = oneshot::channel();
    let deadline = time::after(now, runtime.config.handshake_timeout);
    let role = Role::Client {
        endpoint,
        opened: Some(opened),
        said_hello: false,
    };
    let opening = Opening {
        role,
        deadline,
        silence: None,
        decision: None,
    };
    let mut actor = SessionActor::new(runtime, connection, SessionId::new(0), opening, now);
    let version = actor.session.info().negotiated.unwrap_or(match wire {
        WireVersions::V1 => WireVersion::V1,
        WireVersions::V2 | WireVersions::Any => WireVersion::V2,
    });
    actor.settle(version);
    (Driver::new(actor), receiver)
}

impl SessionActor {
    fn new(
        runtime: Arc<SessionRuntime>,
        mut connection: Box<dyn Connection>,
        id: SessionId,
        opening: Opening,
        now: Instant,
    ) -> Self {
        let heartbeat_ms = millis(runtime.config.heartbeat);
        let span = span(id, connection.info());
        let direct = connection.shortcut().map(Direct::new);
        let turn = connection.byte_way().map(Turn::new);
        let progress = connection.progress();
        let info = connection.take_info();
        let shared = Arc::new(Shared::new(id, info, runtime, direct, turn));
        Self {
            session: Session { shared },
            progress,
            connection,
            phase: Phase::Opening(Box::new(opening)),
            framing: Framing::Packets,
            version: None,
            settled: false,
            blocked: false,
            announced: false,
            admitted: false,
            waker: None,
            pass: None,
            lanes: None,
            rare: None,
            alarm: None,
            watched: false,
            now,
            heard: now,
            wrote: now,
            heartbeat_ms,
            looked_at: false,
            incomplete: 0,
            received: false,
            held_back: None,
            pace: None,
            permit: None,
            span,
        }
    }

    fn shared(&self) -> &Shared {
        &self.session.shared
    }

    fn runtime(&self) -> &Arc<SessionRuntime> {
        &self.session.shared.runtime
    }

    /// From here on the connection speaks `version`.
    fn settle(&mut self, version: WireVersion) {
        self.settled = true;
        self.connection
            .set_wire(version, self.runtime().config.limits);
        self.set_wire(version);
    }

    /// Packets can be framed from here on. Before the first pass there is none to tell.
    fn set_wire(&mut self, version: WireVersion) {
        self.watched = false;
        self.framing = self.connection.framing();
        self.version = Some(version);
        let wire = self.wire();
        if let Some(pass) = &mut self.pass {
            pass.wire(wire);
        }
    }

    /// How packets are framed, once that is known.
    #[inline]
    fn wire(&self) -> Option<(Framing, WireVersion)> {
        Some((self.framing, self.version?))
    }

    /// What is at hand. Each pass begins with one, so none is made here.
    fn pass(&mut self) -> &mut Pass {
        self.pass.get_or_insert_with(pass::fresh)
    }

    fn is_v2(&self) -> bool {
        self.version == Some(WireVersion::V2)
    }

    /// Adds a frame of the session's own to the pass.
    fn push_control(&mut self, packet: &Packet) {
        if let Err(error) = self.pass().push_own(packet) {
            tracing::error!(%error, ?packet, "a frame of the session's own could not be encoded");
        }
    }

    fn tell_panic(&self, message: &str) {
        tracing::error!(session = %self.session.id(), panic = message, "a handler panicked; its session closes");
        let error =
            msgtrans_core::HandlerError::with_code(Code::INTERNAL, format!("panicked: {message}"));
        self.runtime()
            .events_error(self.session.id(), error.into_transport());
    }

    fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms.into())
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Apart, because few passes have any.
    #[cold]
    fn take_commands(&mut self) {
        let mut commands = Commands::new();
        self.shared().mailbox.take_commands(&mut commands);
        for command in commands {
            self.command(command);
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Close(reason) => self.begin_close(reason, true),
            Command::Drain(goodbye) => self.drain(goodbye),
            Command::Shed => self.shed(),
            Command::Cancel(id) => self.rare().cancels.push(id),
            // Every pass ends with a look at the deadlines.
            Command::Look => {}
        }
    }

    fn drain(&mut self, goodbye: Goodbye) {
        match self.phase {
            Phase::Opening(_) => self.refuse(goodbye.code, &goodbye.reason, goodbye.retry_after),
            Phase::Open => {
                let rare = self.rare();
                if rare.drain.is_none() {
                    rare.drain = Some(goodbye);
                }
            }
            _ => {}
        }
    }

    /// Tells the peer once; ends the session when nothing runs and nothing has come for a moment.
    fn check_drain(&mut self, cx: &mut Context<'_>) {
        let Some(rare) = self.rare.as_mut() else {
            return;
        };
        let Some(goodbye) = &rare.drain else { return };
        let (code, reason) = (goodbye.code, goodbye.reason.clone());
        if !rare.drain_said {
            rare.drain_said = true;
            let frame = goodbye.to_packet(PacketType::GoAway);
            if self.is_v2() {
                self.push_control(&frame);
            }
            // Requests that were on their way when the peer heard of it still count as work.
            self.heard = self.now;
            return;
        }
        let working = !self.pass().is_idle();
        let quiet = self.now.saturating_duration_since(self.heard) >= time::DRAIN_QUIET;
        let done = !working
            && quiet
            && !self.shared().mailbox.is_signalled()
            && self.shared().requests_pending() == 0;
        // Found twice, since this pass has yet to read: what came while this side stood still is work too.
        let twice = std::mem::replace(&mut self.rare().drain_done, done);
        match (done, twice) {
            (true, true) => self.begin_close(CloseReason::local(code, reason), true),
            (true, false) => cx.waker().wake_by_ref(),
            (false, _) => {}
        }
    }

    /// Writes the pass's batch; whether everything has gone.
    #[inline]
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        if !self.blocked && !self.pass().has_out() {
            return Ok(true);
        }
        if !self.settled {
            // Whoever writes first to a peer that listens first decides for version 1.
            self.settle(WireVersion::V1);
        }
        let pass = self.pass.get_or_insert_with(pass::fresh);
        let Some(out) = pass.out_mut() else {
            return Ok(true);
        };
        match self.connection.poll_send(cx, out) {
            Poll::Ready(Ok(())) => {
                self.set_blocked(false);
                self.pass().answered_bytes = 0;
                Ok(true)
            }
            Poll::Pending => {
                if !self.blocked {
                    self.set_blocked(true);
                    // The time without progress counts from here.
                    self.wrote = self.now;
                }
                Ok(false)
            }
            Poll::Ready(Err(error)) => Err(error),
        }
    }

    fn set_blocked(&mut self, blocked: bool) {
        if self.blocked != blocked {
            self.blocked = blocked;
            self.shared().blocked.store(blocked, Ordering::Relaxed);
            if blocked {
                // Through the mailbox's lock, as whoever queues a request between saying that deadlines have changed and
                // asking whether the task waits: either it sees here that the task does, and tells it to look, or the
                // task, which looks behind this, sees there that they have changed.
                let _ = self.shared().mailbox.is_empty();
            }
        }
    }

    /// Writes down what is held, in lots; less than one costs nothing.
    #[inline]
    fn note_held(&mut self, at_hand: usize) {
        let shared = &self.session.shared;
        let now = (self.incomplete as usize).saturating_add(at_hand);
        let noted = shared.held.load(Ordering::Relaxed);
        if now >= LOT || noted != 0 {
            HELD.note_in(&shared.held, now);
        }
    }

    /// Counts what has passed since the last pass.
    #[inline]
    fn note_progress(&mut self, counts: &mut crate::stats::PassCounts) {
        let progress = self.connection.progress();
        if progress.read != self.progress.read {
            let more = progress.read.saturating_sub(self.progress.read);
            counts.bytes_in = counts.bytes_in.wrapping_add(more);
            self.heard = self.now;
            self.note_incomplete();
        }
        if progress.written != self.progress.written {
            let more = progress.written.saturating_sub(self.progress.written);
            counts.bytes_out = counts.bytes_out.wrapping_add(more);
            self.wrote = self.now;
        }
        self.progress = progress;
    }
}

impl Actor for SessionActor {
    #[inline]
    fn is_gathering(&self) -> bool {
        self.session.shared.mailbox.is_gathering()
    }

    #[inline]
    fn may_begin(&mut self, cx: &mut Context<'_>) -> bool {
        let shared = &self.session.shared;
        let Some(turn) = &shared.turn else {
            return true;
        };
        turn.token.begin(|| shared.mailbox.register(cx.waker()))
    }

    #[inline]
    fn begin_pass(&mut self, cx: &mut Context<'_>) {
        self.now = Instant::now();
        if let Some(turn) = &self.session.shared.turn
            && let Some(wrote) = turn.wrote()
        {
            self.wrote = wrote;
        }
        if let Some(direct) = &self.session.shared.direct {
            let (came, went) = direct.begin_pass();
            // At the latest now.
            if came {
                self.heard = self.now;
            }
            if went {
                self.wrote = self.now;
            }
        }
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
            self.session.shared.mailbox.register(cx.waker());
        }
        let mut pass = self.pass.take().unwrap_or_else(pass::fresh);
        pass.begin(
            self.session.shared.key,
            || self.wire(),
            matches!(self.phase, Phase::Open),
        );
        self.pass = Some(pass);
        if let Some(span) = &self.span {
            span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
        }
    }

    #[inline]
    fn commands(&mut self, _: &mut Context<'_>) -> Lane {
        if self.shared().mailbox.has_commands() {
            self.take_commands();
        }
        self.check_time();
        if matches!(self.phase, Phase::Done) {
            Lane::Done
        } else {
            Lane::Idle
        }
    }

    #[inline]
    fn gather(&mut self, cx: &mut Context<'_>) -> Lane {
        if matches!(self.phase, Phase::Open) {
            let drained = !self.shared().mailbox.is_signalled() || {
                let pass = self.pass.get_or_insert_with(pass::fresh);
                pass.drain(&self.session.shared)
            };
            if self.rare.is_some() {
                if drained {
                    self.send_cancels();
                }
                self.check_drain(cx);
            }
        }
        Lane::Idle
    }

    #[inline]
    fn inbound(&mut self, cx: &mut Context<'_>) -> Lane {
        match &mut self.phase {
            Phase::Opening(_) => self.poll_opening(cx),
            Phase::Open => self.poll_open(cx),
            Phase::Ending(_) => self.poll_ending(cx),
            Phase::Closing(_) | Phase::Leaving(_) | Phase::Done => Lane::Idle,
        }
    }

    #[inline]
    fn flush(&mut self, cx: &mut Context<'_>) -> Lane {
        match self.phase {
            Phase::Closing(_) | Phase::Leaving(_) | Phase::Done => self.poll_close(cx),
            Phase::Ending(_) => Lane::Idle,
            Phase::Opening(_) | Phase::Open => match self.write(cx) {
                // What was queued meanwhile by this very pass goes with the next one.
                Ok(true)
                    if self.shared().mailbox.is_signalled()
                        && matches!(self.phase, Phase::Open) =>
                {
                    Lane::Busy
                }
                Ok(_) if self.may_go_on() => Lane::Busy,
                Ok(_) => Lane::Idle,
                Err(error) => {
                    self.lost(error);
                    Lane::Busy
                }
            },
        }
    }

    #[inline]
    fn end_pass(&mut self, _: &mut Context<'_>) {
        if let Some(span) = &self.span {
            span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
        }
        // A handler that panicked had it.
        let Some(mut pass) = self.pass.take().or_else(pass::leave) else {
            return;
        };
        self.note_progress(&mut pass.counts);
        self.note_held(pass.held());
        pass.counts.flush(
            &self.session.shared.counters,
            &self.session.shared.runtime.stats,
        );
        if pass.is_idle() {
            pass::put_back(pass);
        } else {
            self.pass = Some(pass);
        }
        self.arm();
        if let Some(direct) = &self.session.shared.direct {
            let open = matches!(self.phase, Phase::Open);
            let pass = self.pass.as_ref();
            let written = pass.is_none_or(|pass| !pass.has_out()) && !self.blocked;
            let handled = pass.is_none_or(|pass| !pass.has_messages());
            direct.end_pass(open && written, open && handled);
        }
    }

    /// Not behind a panic, which ends the session: the rest of a frame that a broadcaster could not write whole would come
    /// behind its Goodbye.
    #[inline]
    fn rest(&mut self) {
        if let Some(turn) = &self.session.shared.turn
            && matches!(self.phase, Phase::Open)
            && self.settled
            && !self.blocked
            && self.pass.as_ref().is_none_or(|pass| !pass.has_out())
        {
            turn.token.lay_down();
        }
    }

    fn panicked(&mut self, message: String) {
        self.tell_panic(&message);
        if let Phase::Leaving(_) = self.phase {
            // It was the handler that heard of the end: it is not asked again.
            self.phase = Phase::Done;
            return;
        }
        // The lanes may be half-way through anything: they are not polled again.
        self.lanes = None;
        let mut pass = self.pass.take().unwrap_or_else(pass::fresh);
        pass.begin(self.session.shared.key, || self.wire(), false);
        self.pass = Some(pass);
        self.begin_close(
            CloseReason::local(Code::HANDLER_FAILED, "the handler panicked"),
            true,
        );
    }
}

impl Drop for SessionActor {
    /// A task that is dropped instead of ended (the runtime shuts down) still tells everybody who waits.
    fn drop(&mut self) {
        if let Some((_, key)) = self.alarm.take() {
            self.runtime().timers.cancel(key);
        }
        if !matches!(self.phase, Phase::Done) {
            let reason = CloseReason::local(Code::GOING_AWAY, "the session's task was dropped");
            self.end_now(reason);
        }
        self.incomplete = 0;
        self.note_held(0);
    }
}

impl std::fmt::Debug for SessionActor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionActor")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

/// Bytes of encoded packets after which a blocked session stops answering what it could answer later.
const OUT_PAUSE: usize = 2 * BATCH_BYTES;

/// Whole milliseconds, of at most 300 s.
fn millis(heartbeat: Duration) -> u32 {
    u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX)
}

/// The failure of a dialled connection whose peer broke the handshake.
fn handshake_error(endpoint: &str, what: impl ToString, retryable: bool) -> ConnectError {
    ConnectError::Handshake {
        endpoint: endpoint.to_owned(),
        stage: "hello",
        what: what.to_string(),
        retryable,
    }
}

/// What is left of a queue when its session ends: confirmations fail by being dropped.
fn discard(items: VecDeque<Outgoing>) {
    drop(items);
}

/// A span a connection, at debug; nothing is kept where nobody listens.
fn span(id: SessionId, info: &msgtrans_core::ConnectionInfo) -> Option<Box<tracing::Span>> {
    let span = tracing::debug_span!("connection", session = %id, protocol = info.protocol, peer = %info.peer);
    (!span.is_disabled()).then(|| Box::new(span))
}

#[cfg(test)]
mod tests;
