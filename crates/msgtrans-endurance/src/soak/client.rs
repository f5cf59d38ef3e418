//! One client of a soak: loads its session until that ends, then says what it was told, on the next one.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use msgtrans::{
    CloseReason, Handler, HandlerError, Packet, RequestError, Session, SessionId, TransportClient,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::ledger::Claim;
use super::message::{Kind, Message};
use super::violations::Violations;

/// The pause between bursts.
const TICK: Duration = Duration::from_millis(10);
/// Every so many one-way messages one is confirmed, and an acknowledgement is asked for.
const CONFIRM_EVERY: u64 = 16;
const SYNC_EVERY: u64 = 64;
/// Requests under way at once.
const REQUESTS_MAX: usize = 8;
/// Longer than any fault; who waits longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What all clients share.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    pub(crate) violations: Violations,
    pub(crate) counts: Arc<Counts>,
    stopping: Arc<AtomicBool>,
}

/// Relaxed everywhere: read for reports alone.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) sessions: AtomicU64,
    pub(crate) one_way: AtomicU64,
    pub(crate) confirmed: AtomicU64,
    /// Confirmed by the protocol, and not handled: lost with their connection.
    pub(crate) confirmed_lost: AtomicU64,
    pub(crate) acknowledged: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) unanswered: AtomicU64,
    pub(crate) pushes: AtomicU64,
    pub(crate) questions: AtomicU64,
    pub(crate) broadcasts: AtomicU64,
}

impl Shared {
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn stops(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Checks what the server sends.
pub(crate) struct Receiver {
    pub(crate) client: u32,
    pub(crate) shared: Shared,
    /// The last push and the last broadcast of each session.
    pub(crate) last: Mutex<HashMap<SessionId, (u64, u64)>>,
}

impl Receiver {
    fn check(&self, session: &Session, message: &Message) {
        let violations = &self.shared.violations;
        let mut last = lock(&self.last);
        let (push, broadcast) = last.entry(session.id()).or_default();
        match message.kind {
            Kind::Push => {
                count(&self.shared.counts.pushes);
                if message.client != self.client || message.number != *push + 1 {
                    violations
                        .add(|| format!("{message:?} to client {} after {push}", self.client));
                }
                *push = message.number;
            }
            Kind::Broadcast => {
                count(&self.shared.counts.broadcasts);
                // Whoever has no room does without some, and never sees one twice or late.
                if message.number <= *broadcast {
                    violations.add(|| format!("{message:?} again or late, after {broadcast}"));
                }
                *broadcast = message.number;
            }
            _ => violations.add(|| format!("{message:?} came one way to a client")),
        }
    }
}

impl Handler for Receiver {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        match Message::decode(&packet.payload) {
            Ok((message, _)) => self.check(session, &message),
            Err(what) => self.shared.violations.add(|| what),
        }
        Ok(())
    }

    async fn on_request(&self, _: &Session, request: Packet) -> Result<Packet, HandlerError> {
        match Message::decode(&request.payload) {
            Ok((message, _)) if message.kind == Kind::Question && message.client == self.client => {
                count(&self.shared.counts.questions);
            }
            other => self
                .shared
                .violations
                .add(|| format!("{other:?} as a question")),
        }
        Ok(Packet::response(request.payload))
    }

    async fn on_disconnect(&self, session: &Session, _: &CloseReason) {
        lock(&self.last).remove(&session.id());
    }
}

/// One client's load.
pub(crate) struct Load {
    pub(crate) number: u32,
    pub(crate) client: TransportClient,
    pub(crate) shared: Shared,
    /// One-way messages and requests in a tick.
    pub(crate) one_way: f64,
    pub(crate) requests: f64,
    pub(crate) payload_bytes: usize,
}

/// What the client knows of one session of its own.
#[derive(Default)]
struct Epoch {
    sent: u64,
    confirmed: u64,
    acknowledged: u64,
    requests: u64,
    unanswered: Mutex<BTreeSet<u64>>,
}

impl Epoch {
    fn claim(&self) -> Claim {
        Claim {
            acknowledged: self.acknowledged,
            requests: self.requests,
            unanswered: lock(&self.unanswered).iter().copied().collect(),
        }
    }
}

impl Load {
    /// Loads one session after the other until it is told to stop, and then leaves in good order. An error is a client
    /// that hangs or could not come back.
    pub(crate) async fn run(self) -> Result<(), String> {
        let mut number = 0;
        let mut before: Option<(u32, Epoch)> = None;
        loop {
            let session = timeout(PATIENCE, self.session()).await.map_err(|_| {
                let reason = self.client.close_reason();
                format!("client {} does not come back: {reason:?}", self.number)
            })?;
            count(&self.shared.counts.sessions);
            if let Some((epoch, known)) = &before
                && !self.report(&session, *epoch, known).await?
            {
                // Lost again; the report goes on the next one.
                continue;
            }
            number += 1;
            let mut epoch = Epoch::default();
            self.load(number, &session, &mut epoch).await?;
            if self.shared.stops() && self.leave(number, &session, &mut epoch).await? {
                return Ok(());
            }
            before = Some((number, epoch));
        }
    }

    /// The client's next session that is open.
    async fn session(&self) -> Session {
        loop {
            if let Some(session) = self.client.session()
                && session.is_connected()
            {
                return session;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    fn message(&self, kind: Kind, epoch: u32, number: u64) -> Message {
        Message {
            kind,
            client: self.number,
            epoch,
            number,
        }
    }

    /// Whether the server has compared an epoch with its ledger; false where the session was lost meanwhile.
    async fn report(&self, session: &Session, epoch: u32, known: &Epoch) -> Result<bool, String> {
        let counts = &self.shared.counts;
        let message = self.message(Kind::Report, epoch, 0);
        let packet = Packet::request(message.encode(&known.claim().encode()));
        let Some(answer) = self.request(session, packet).await? else {
            return Ok(false);
        };
        let unanswered = lock(&known.unanswered).len() as u64;
        counts.unanswered.fetch_add(unanswered, Ordering::Relaxed);
        match Message::decode(&answer.payload) {
            Ok((got, _)) if got.kind == Kind::Report => {
                let lost = known.confirmed.saturating_sub(got.number);
                counts.confirmed_lost.fetch_add(lost, Ordering::Relaxed);
            }
            other => self
                .shared
                .violations
                .add(|| format!("{other:?} answers {message:?}")),
        }
        Ok(true)
    }

    /// A request that is repeated until it is answered; `None` where the session has ended.
    async fn request(&self, session: &Session, packet: Packet) -> Result<Option<Packet>, String> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            match session.request(packet.clone()).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(_) if !session.is_connected() => return Ok(None),
                Err(RequestError::Closed(_)) => return Ok(None),
                Err(_) => tokio::time::sleep(TICK).await,
            }
        }
        Err(format!("client {} gets no answer", self.number))
    }

    /// Loads one session until it ends or all is to stop.
    async fn load(&self, number: u32, session: &Session, epoch: &mut Epoch) -> Result<(), String> {
        let mut ticks = interval(TICK);
        // What a fault has held up is not caught up with: the rate is a rate.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let (mut one_way, mut requests) = (0.0, 0.0);
        let mut asking: JoinSet<Option<u64>> = JoinSet::new();
        let filler = vec![b'f'; self.payload_bytes];
        while session.is_connected() && !self.shared.stops() {
            ticks.tick().await;
            one_way += self.one_way;
            requests += self.requests;
            while one_way >= 1.0 {
                one_way -= 1.0;
                if !self.send(number, session, epoch, &filler).await? {
                    break;
                }
            }
            while requests >= 1.0 && asking.len() < REQUESTS_MAX {
                requests -= 1.0;
                epoch.requests += 1;
                lock(&epoch.unanswered).insert(epoch.requests);
                asking.spawn(self.ask(number, session.clone(), epoch.requests, &filler));
            }
            requests = requests.min(REQUESTS_MAX as f64);
            while let Some(answered) = asking.try_join_next() {
                Self::note(epoch, answered.map_err(|error| error.to_string())?);
            }
        }
        let rest = async {
            while let Some(answered) = asking.join_next().await {
                Self::note(epoch, answered.map_err(|error| error.to_string())?);
            }
            Ok(())
        };
        timeout(PATIENCE, rest)
            .await
            .map_err(|_| format!("requests of client {} hang", self.number))?
    }

    fn note(epoch: &Epoch, answered: Option<u64>) {
        if let Some(number) = answered {
            lock(&epoch.unanswered).remove(&number);
        }
    }

    /// One message, and what goes with it; false where the session has ended.
    async fn send(
        &self,
        number: u32,
        session: &Session,
        epoch: &mut Epoch,
        filler: &[u8],
    ) -> Result<bool, String> {
        let counts = &self.shared.counts;
        let next = epoch.sent + 1;
        let message = self.message(Kind::OneWay, number, next);
        let packet = Packet::binary(message.encode(filler));
        let confirm = next.is_multiple_of(CONFIRM_EVERY);
        let sent = match confirm {
            true => session.send_confirmed(packet).await,
            false => session.send(packet).await,
        };
        match sent {
            Ok(()) => {
                epoch.sent = next;
                count(&counts.one_way);
                if confirm {
                    epoch.confirmed = next;
                    count(&counts.confirmed);
                }
            }
            // Not queued: the same number goes again.
            Err(error) if error.is_retryable() && session.is_connected() => return Ok(true),
            Err(_) => return Ok(false),
        }
        if next.is_multiple_of(SYNC_EVERY) {
            return self.sync(number, session, epoch).await;
        }
        Ok(true)
    }

    /// Has the server acknowledge what was sent; false where the session has ended.
    async fn sync(
        &self,
        number: u32,
        session: &Session,
        epoch: &mut Epoch,
    ) -> Result<bool, String> {
        let message = self.message(Kind::Sync, number, epoch.sent);
        let packet = Packet::request(message.encode(&[]));
        let Some(answer) = self.request(session, packet).await? else {
            return Ok(false);
        };
        match Message::decode(&answer.payload) {
            Ok((got, _)) if got.kind == Kind::Sync && got.number == epoch.sent => {
                let more = got.number - epoch.acknowledged;
                self.shared
                    .counts
                    .acknowledged
                    .fetch_add(more, Ordering::Relaxed);
                epoch.acknowledged = got.number;
            }
            other => self
                .shared
                .violations
                .add(|| format!("{other:?} acknowledges {message:?}")),
        }
        Ok(true)
    }

    /// A request; its number where it was answered.
    fn ask(
        &self,
        epoch: u32,
        session: Session,
        number: u64,
        filler: &[u8],
    ) -> impl Future<Output = Option<u64>> + use<> {
        let message = self.message(Kind::Request, epoch, number);
        let payload = message.encode(filler);
        let shared = self.shared.clone();
        async move {
            let answer = session
                .request(Packet::request(payload.clone()))
                .await
                .ok()?;
            if answer.payload != payload {
                shared
                    .violations
                    .add(|| format!("another answer to {message:?}"));
            }
            count(&shared.counts.answered);
            Some(number)
        }
    }

    /// The end of the soak: everything that was sent has arrived, and the server's ledger says so. False where the
    /// session was lost meanwhile.
    async fn leave(
        &self,
        number: u32,
        session: &Session,
        epoch: &mut Epoch,
    ) -> Result<bool, String> {
        if !self.sync(number, session, epoch).await? || !self.report(session, number, epoch).await?
        {
            return Ok(false);
        }
        // The session may end meanwhile: it was to.
        let _ = self.client.disconnect().await;
        Ok(true)
    }
}
