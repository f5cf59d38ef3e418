//! [`Ledger`]: the server's handler of a soak, which writes down what it has handled and compares it with what clients
//! were told.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use msgtrans::{CloseReason, Handler, HandlerError, Packet, Session, SessionId, TransportServer};

use super::message::{Kind, Message};
use super::violations::Violations;

/// Every so many pushes the server asks the client something instead.
const QUESTION_EVERY: u64 = 25;
/// The pause between broadcasts.
const BROADCAST_EVERY: Duration = Duration::from_millis(100);

/// What a client says of an epoch: what the server must have handled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// One-way messages that the server has acknowledged.
    pub(crate) acknowledged: u64,
    /// Requests are numbered from 1 to this.
    pub(crate) requests: u64,
    /// Requests that were not answered.
    pub(crate) unanswered: Vec<u64>,
}

impl Claim {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let numbers = [self.acknowledged, self.requests];
        let all = numbers.iter().chain(&self.unanswered);
        all.flat_map(|number| number.to_be_bytes()).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks::<8>();
        let mut numbers = numbers.iter().map(|number| u64::from_be_bytes(*number));
        rest.is_empty().then_some(())?;
        Some(Self {
            acknowledged: numbers.next()?,
            requests: numbers.next()?,
            unanswered: numbers.collect(),
        })
    }
}

/// What one session has brought.
#[derive(Debug)]
struct Log {
    client: u32,
    epoch: u32,
    one_way: u64,
    requests: Handled,
}

/// Which numbers were handled, few of them out of order.
#[derive(Debug, Default)]
struct Handled {
    /// All up to this were.
    below: u64,
    beyond: BTreeSet<u64>,
}

impl Handled {
    /// False where it was handled before.
    fn add(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        self.beyond.insert(number);
        while self.beyond.remove(&(self.below + 1)) {
            self.below += 1;
        }
        true
    }

    fn contains(&self, number: u64) -> bool {
        number <= self.below || self.beyond.contains(&number)
    }
}

/// A client, and which of its sessions.
type Epoch = (u32, u32);

/// Cheap to clone; every clone is the same ledger.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Inner>);

struct Inner {
    push_every: Duration,
    violations: Violations,
    /// What is open now, by session; what no client has claimed yet, by client and epoch.
    sessions: Mutex<HashMap<SessionId, Arc<Mutex<Log>>>>,
    unclaimed: Mutex<HashMap<Epoch, Arc<Mutex<Log>>>>,
    counts: Counts,
}

/// Relaxed everywhere: read for reports alone.
#[derive(Default)]
struct Counts {
    one_way: AtomicU64,
    requests: AtomicU64,
    pushes: AtomicU64,
    questions: AtomicU64,
    broadcasts: AtomicU64,
    broadcasts_full: AtomicU64,
    claims: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Ledger {
    pub(crate) fn new(push_every: Duration) -> Self {
        Self(Arc::new(Inner {
            push_every,
            violations: Violations::default(),
            sessions: Mutex::default(),
            unclaimed: Mutex::default(),
            counts: Counts::default(),
        }))
    }

    /// What it has counted, as one line.
    pub(crate) fn line(&self) -> String {
        let Inner {
            violations,
            sessions,
            unclaimed,
            counts,
            ..
        } = &*self.0;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "+violations={} +logs={} +unclaimed={} +one_way={} +requests={} +pushes={} +questions={} +broadcasts={} \
             +broadcasts_full={} +claims={}",
            violations.count(),
            lock(sessions).len(),
            lock(unclaimed).len(),
            of(&counts.one_way),
            of(&counts.requests),
            of(&counts.pushes),
            of(&counts.questions),
            of(&counts.broadcasts),
            of(&counts.broadcasts_full),
            of(&counts.claims),
        )
    }

    /// Sends to all clients for as long as the server lives.
    pub(crate) async fn broadcast(self, server: TransportServer) {
        for number in 1.. {
            let message = Message {
                kind: Kind::Broadcast,
                client: 0,
                epoch: 0,
                number,
            };
            if let Ok(report) = server
                .broadcast(Packet::binary(message.encode(&[b'b'; 100])))
                .await
            {
                count(&self.0.counts.broadcasts);
                let full = report.full as u64;
                self.0
                    .counts
                    .broadcasts_full
                    .fetch_add(full, Ordering::Relaxed);
            }
            tokio::time::sleep(BROADCAST_EVERY).await;
        }
    }

    /// The log of a session, begun by its first message.
    fn log(&self, session: &Session, message: &Message) -> Arc<Mutex<Log>> {
        let inner = &self.0;
        let mut sessions = lock(&inner.sessions);
        if let Some(log) = sessions.get(&session.id()) {
            let of = lock(log);
            if (of.client, of.epoch) != (message.client, message.epoch) {
                inner
                    .violations
                    .add(|| format!("{message:?} on the session of {of:?}"));
            }
            drop(of);
            return log.clone();
        }
        let log = Arc::new(Mutex::new(Log {
            client: message.client,
            epoch: message.epoch,
            one_way: 0,
            requests: Handled::default(),
        }));
        sessions.insert(session.id(), log.clone());
        let key = (message.client, message.epoch);
        if lock(&inner.unclaimed).insert(key, log.clone()).is_some() {
            inner
                .violations
                .add(|| format!("{message:?} began an epoch for the second time"));
        }
        tokio::spawn(self.clone().push(session.clone(), *message));
        log
    }

    /// Messages and questions to one client until its session ends.
    async fn push(self, session: Session, to: Message) {
        let inner = &self.0;
        let (mut pushed, mut asked) = (0, 0);
        loop {
            tokio::time::sleep(inner.push_every).await;
            let kind = match (pushed + asked) % QUESTION_EVERY {
                0 => Kind::Question,
                _ => Kind::Push,
            };
            if kind == Kind::Push {
                let message = Message {
                    kind,
                    number: pushed + 1,
                    ..to
                };
                let packet = Packet::binary(message.encode(&[b'p'; 200]));
                match session.send(packet).await {
                    Ok(()) => {
                        pushed += 1;
                        count(&inner.counts.pushes);
                    }
                    // No room in time: the same number goes again.
                    Err(error) if error.is_retryable() && session.is_connected() => {}
                    Err(_) => return,
                }
                continue;
            }
            asked += 1;
            let message = Message {
                kind,
                number: asked,
                ..to
            };
            let question = message.encode(b"?");
            match session.request(Packet::request(question.clone())).await {
                Ok(answer) if answer.payload == question => count(&inner.counts.questions),
                Ok(answer) => inner
                    .violations
                    .add(|| format!("{answer:?} answers {message:?}")),
                Err(_) if session.is_connected() => {}
                Err(_) => return,
            }
        }
    }

    fn one_way(&self, session: &Session, message: &Message) {
        let log = self.log(session, message);
        let mut log = lock(&log);
        let last = log.one_way;
        match message.number {
            number if number == last + 1 => log.one_way = number,
            number if number <= last => {
                self.0
                    .violations
                    .add(|| format!("{message:?} again or late, after {last}"));
            }
            number => {
                self.0
                    .violations
                    .add(|| format!("{message:?} after {last}: lost between"));
                log.one_way = number;
            }
        }
        count(&self.0.counts.one_way);
    }

    fn request(&self, session: &Session, message: &Message) {
        let log = self.log(session, message);
        if !lock(&log).requests.add(message.number) {
            self.0
                .violations
                .add(|| format!("{message:?} handled twice"));
        }
        count(&self.0.counts.requests);
    }

    /// The number of the last one-way message, which is not below what the client has sent before it asked.
    fn sync(&self, session: &Session, message: &Message) -> u64 {
        let log = self.log(session, message);
        let last = lock(&log).one_way;
        if last < message.number {
            self.0
                .violations
                .add(|| format!("{message:?} overtook messages after {last}"));
        }
        last
    }

    /// Compares what a client was told with what was handled; the number of one-way messages that were.
    fn claim(&self, message: &Message, claim: &Claim) -> u64 {
        let inner = &self.0;
        let key = (message.client, message.epoch);
        let Some(log) = lock(&inner.unclaimed).remove(&key) else {
            let answered = claim.requests - claim.unanswered.len() as u64;
            if claim.acknowledged > 0 || answered > 0 {
                inner
                    .violations
                    .add(|| format!("all of {message:?} lost, acknowledged: {claim:?}"));
            }
            return 0;
        };
        let log = lock(&log);
        if log.one_way < claim.acknowledged {
            inner
                .violations
                .add(|| format!("{claim:?} acknowledged, {log:?} handled"));
        }
        let unanswered: BTreeSet<u64> = claim.unanswered.iter().copied().collect();
        let lost = (1..=claim.requests)
            .filter(|number| !unanswered.contains(number))
            .filter(|number| !log.requests.contains(*number))
            .count();
        if lost > 0 {
            inner
                .violations
                .add(|| format!("{lost} answered requests of {message:?} never handled"));
        }
        count(&inner.counts.claims);
        log.one_way
    }
}

impl Handler for Ledger {
    async fn on_message(&self, session: &Session, packet: Packet) -> Result<(), HandlerError> {
        match Message::decode(&packet.payload) {
            Ok((message, _)) if message.kind == Kind::OneWay => self.one_way(session, &message),
            Ok((message, _)) => self
                .0
                .violations
                .add(|| format!("{message:?} came one way")),
            Err(what) => self.0.violations.add(|| what),
        }
        Ok(())
    }

    async fn on_request(&self, session: &Session, request: Packet) -> Result<Packet, HandlerError> {
        let (message, filler) = match Message::decode(&request.payload) {
            Ok(decoded) => decoded,
            Err(what) => {
                self.0.violations.add(|| what.clone());
                return Err(HandlerError::new(what));
            }
        };
        match message.kind {
            Kind::Request => self.request(session, &message),
            Kind::Sync => {
                let number = self.sync(session, &message);
                let answer = Message { number, ..message };
                return Ok(Packet::response(answer.encode(&[])));
            }
            Kind::Report => match Claim::decode(filler) {
                Some(claim) => {
                    let number = self.claim(&message, &claim);
                    let answer = Message { number, ..message };
                    return Ok(Packet::response(answer.encode(&[])));
                }
                None => self
                    .0
                    .violations
                    .add(|| format!("{message:?} with no claim")),
            },
            _ => self
                .0
                .violations
                .add(|| format!("{message:?} came as a request")),
        }
        Ok(Packet::response(request.payload))
    }

    async fn on_disconnect(&self, session: &Session, _: &CloseReason) {
        lock(&self.0.sessions).remove(&session.id());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_handled_once_in_any_order() {
        let mut handled = Handled::default();
        for number in [2, 1, 4, 3, 7] {
            assert!(handled.add(number), "{number}");
        }
        assert!(!handled.add(3));
        assert!(!handled.add(7));
        assert!(handled.contains(4) && !handled.contains(5));
        assert_eq!((handled.below, handled.beyond.len()), (4, 1));
    }

    #[test]
    fn a_claim_comes_back() {
        let claim = Claim {
            acknowledged: 5,
            requests: 9,
            unanswered: vec![3, 8],
        };
        assert_eq!(Claim::decode(&claim.encode()), Some(claim));
        assert_eq!(Claim::decode(b"12345678"), None);
    }

    #[test]
    fn what_was_acknowledged_and_not_handled_is_a_violation() {
        let ledger = Ledger::new(Duration::from_secs(1));
        let message = Message {
            kind: Kind::Report,
            client: 1,
            epoch: 1,
            number: 0,
        };
        ledger.claim(&message, &Claim::default());
        assert_eq!(ledger.0.violations.count(), 0);
        let claim = Claim {
            acknowledged: 1,
            ..Claim::default()
        };
        ledger.claim(&message, &claim);
        assert_eq!(ledger.0.violations.count(), 1);
        let mut requests = Handled::default();
        requests.add(1);
        let log = Log {
            client: 1,
            epoch: 1,
            one_way: 4,
            requests,
        };
        lock(&ledger.0.unclaimed).insert((1, 1), Arc::new(Mutex::new(log)));
        let claim = Claim {
            acknowledged: 4,
            requests: 2,
            unanswered: vec![],
        };
        ledger.claim(&message, &claim);
        assert_eq!(ledger.0.violations.count(), 2);
    }
}
