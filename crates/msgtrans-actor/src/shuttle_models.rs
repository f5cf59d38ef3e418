//! Registry, mailboxes and close together, as a server has them, and its alarms, in random and in adversarial orders.
//!
//! `cargo xtask shuttle`; shuttle itself reports a thread that waits for ever.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use msgtrans_lockfree::LockFreeHashMap;
use shuttle::future::block_on;
use shuttle::sync::Arc;
use shuttle::thread::{self, JoinHandle};
use tokio::time::Instant;

use crate::test_waker::Wakes;
use crate::{Bounds, Mailbox, PushError, Timers};

/// Preemptions that the adversarial scheduler places.
const DEPTH: usize = 3;

fn model(body: impl Fn() + Send + Sync + Clone + 'static) {
    let schedules = std::env::var("MSGTRANS_SHUTTLE_SCHEDULES");
    let schedules = schedules.map_or(2_000, |count| count.parse().expect("a count of schedules"));
    shuttle::check_random(body.clone(), schedules);
    shuttle::check_pct(body, schedules, DEPTH);
}

#[derive(Debug, PartialEq, Eq)]
struct End;

type Inbox = Mailbox<End, u64>;
type Registry = LockFreeHashMap<u64, Arc<Inbox>>;

fn size(_: &u64) -> usize {
    1
}

/// A session: takes what comes until it is told to end; gives what it took, with what was left at its end.
fn session(registry: &Arc<Registry>, id: u64, items: usize) -> JoinHandle<Vec<u64>> {
    let inbox = Arc::new(Inbox::new(Bounds { items, bytes: 100 }));
    registry.insert(id, inbox.clone());
    let registry = registry.clone();
    thread::spawn(move || {
        let mut taken = VecDeque::new();
        let mut commands = Vec::new();
        block_on(poll_fn(|cx| {
            inbox.register(cx.waker());
            loop {
                inbox.take_commands(&mut commands);
                let left = inbox.take(1, &mut taken, size);
                if commands.pop() == Some(End) {
                    return Poll::Ready(());
                }
                if !left && !inbox.is_signalled() {
                    return Poll::Pending;
                }
            }
        }));
        let removed = registry.remove_if(&id, |found| Arc::ptr_eq(found, &inbox));
        assert!(removed, "nobody else takes a session out");
        taken.extend(inbox.close());
        taken.into()
    })
}

/// Sends to a session by its id; gives what was taken over.
fn sender(registry: &Arc<Registry>, id: u64, items: std::ops::Range<u64>) -> JoinHandle<Vec<u64>> {
    let registry = registry.clone();
    thread::spawn(move || {
        let send = |item| {
            let inbox = registry.get(&id)?;
            match block_on(inbox.push(item, 1)) {
                Ok(()) => Some(item),
                Err(PushError::Closed(back) | PushError::Full(back)) => {
                    assert_eq!(back, item);
                    None
                }
            }
        };
        items.filter_map(send).collect()
    })
}

fn end(registry: &Arc<Registry>, id: u64) -> JoinHandle<()> {
    let registry = registry.clone();
    thread::spawn(move || {
        if let Some(inbox) = registry.get(&id) {
            inbox.command(End);
        }
    })
}

fn join<T>(handle: JoinHandle<T>) -> T {
    handle.join().expect("no thread of a model panics")
}

#[test]
fn what_a_session_took_over_is_taken_or_left_at_its_end_and_nothing_else() {
    model(|| {
        let registry = Arc::new(Registry::new());
        let taken = session(&registry, 1, 1);
        let senders = [sender(&registry, 1, 0..3), sender(&registry, 1, 10..13)];
        let end = end(&registry, 1);
        let mut sent = senders.map(join).concat();
        join(end);
        let taken = join(taken);
        for sender in [0..3, 10..13] {
            let own: Vec<_> = taken.iter().filter(|item| sender.contains(*item)).collect();
            assert!(own.is_sorted(), "{taken:?}");
        }
        let mut taken = taken;
        taken.sort();
        sent.sort();
        assert_eq!(taken, sent);
        assert!(registry.get(&1).is_none());
    });
}

#[test]
fn a_broadcast_reaches_every_session_that_stays() {
    model(|| {
        let registry = Arc::new(Registry::new());
        let sessions: Vec<_> = (0..3).map(|id| session(&registry, id, 4)).collect();
        let broadcast = {
            let registry = registry.clone();
            thread::spawn(move || {
                registry.for_each(|_, inbox| {
                    let _ = inbox.try_push(7, 1);
                });
            })
        };
        let leaver = end(&registry, 1);
        join(broadcast);
        join(leaver);
        for rest in [end(&registry, 0), end(&registry, 2)] {
            join(rest);
        }
        let taken: Vec<_> = sessions.into_iter().map(join).collect();
        assert_eq!((&taken[0], &taken[2]), (&vec![7], &vec![7]));
        assert!(taken[1].len() < 2);
        assert!(registry.is_empty());
    });
}

/// Who sleeps is told only of an alarm before the one that it sleeps for, or was told of: a cancelled one counts until it
/// has looked again. Nothing wakes it by itself here, so an alarm that it is not told of is one that never rings.
#[test]
fn an_alarm_that_is_due_rings_beside_others_that_are_cancelled() {
    model(|| {
        // Before the wheel's time begins, so that it is due whatever the clock says.
        let due = Instant::now();
        let later = due + Duration::from_secs(3600);
        let timers = Timers::for_model();
        let (rung, cancelled) = (Wakes::new(), Wakes::new());
        let armers: Vec<_> = [[due, later], [later, due]]
            .map(|others| {
                let (timers, rung, cancelled) = (timers.clone(), rung.clone(), cancelled.clone());
                thread::spawn(move || {
                    for at in others {
                        let key = timers.arm(at, cancelled.waker());
                        timers.cancel(key);
                    }
                    timers.arm(due, rung.waker());
                })
            })
            .into();
        timers.run_while(|| rung.count() < 2);
        for armer in armers {
            join(armer);
        }
        assert_eq!((rung.count(), timers.armed()), (2, 0));
        assert!(cancelled.count() < 3, "only those that are due ring");
    });
}
