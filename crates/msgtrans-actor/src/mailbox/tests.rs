//! Bounds, order, fairness, and who is woken how often.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::test_waker::Wakes;

type Box10 = Mailbox<&'static str, u32>;

/// Holds 3 items of 10 bytes in all.
fn small() -> Box10 {
    Mailbox::new(Bounds {
        items: 3,
        bytes: 10,
    })
}

/// The actor's side: a registered waker that counts.
fn actor(mailbox: &Box10) -> Arc<Wakes> {
    let wakes = Wakes::new();
    mailbox.register(&wakes.waker());
    wakes
}

fn take_all(mailbox: &Box10) -> Vec<u32> {
    let mut into = VecDeque::new();
    assert!(
        !mailbox.take(usize::MAX, &mut into, |_| 1),
        "nothing is left"
    );
    into.into()
}

fn take_commands(mailbox: &Box10) -> Vec<&'static str> {
    let mut into = Vec::new();
    mailbox.take_commands(&mut into);
    into
}

/// A waiting sender: its future, polled once with a waker of its own.
fn waiting(mailbox: &Box10, item: u32, bytes: usize) -> (Push<'_, &'static str, u32>, Arc<Wakes>) {
    let (mut push, wakes) = (mailbox.push(item, bytes), Wakes::new());
    assert!(poll(&mut push, &wakes).is_pending());
    (push, wakes)
}

fn poll(
    push: &mut Push<'_, &'static str, u32>,
    wakes: &Arc<Wakes>,
) -> Poll<Result<(), PushError<u32>>> {
    Pin::new(push).poll(&mut Context::from_waker(&wakes.waker()))
}

#[test]
fn items_are_bounded() {
    let mailbox = small();
    for item in 0..3 {
        assert_eq!(mailbox.try_push(item, 1), Ok(()));
    }
    assert_eq!(mailbox.try_push(3, 1), Err(PushError::Full(3)));
    assert_eq!(mailbox.len(), (3, 3));
    assert_eq!(take_all(&mailbox), [0, 1, 2]);
    assert!(mailbox.is_empty());
}

#[test]
fn bytes_are_bounded() {
    let mailbox = small();
    assert_eq!(mailbox.try_push(1, 6), Ok(()));
    assert_eq!(mailbox.try_push(2, 5), Err(PushError::Full(2)));
    assert_eq!(mailbox.try_push(3, 4), Ok(()));
    assert_eq!(mailbox.len(), (2, 10));
}

#[test]
fn an_item_larger_than_everything_is_taken_alone() {
    let mailbox = small();
    assert_eq!(mailbox.try_push(1, 1000), Ok(()));
    assert_eq!(mailbox.try_push(2, 0), Err(PushError::Full(2)));
    let mailbox = small();
    assert_eq!(mailbox.try_push(2, 0), Ok(()));
    assert_eq!(mailbox.try_push(1, 1000), Err(PushError::Full(1)));
}

#[test]
fn what_must_not_wait_is_taken_beyond_the_bounds() {
    let mailbox = small();
    for item in 0..10 {
        assert!(mailbox.push_unbounded(item, 10));
    }
    assert_eq!(mailbox.len(), (10, 100));
    assert_eq!(mailbox.try_push(10, 1), Err(PushError::Full(10)));
}

#[test]
fn a_take_keeps_to_its_budget_and_says_what_is_left() {
    let mailbox = small();
    for item in 0..3 {
        mailbox.try_push(item, 3).expect("room");
    }
    let mut into = VecDeque::new();
    assert!(mailbox.take(4, &mut into, |_| 3));
    assert_eq!((into.len(), mailbox.len()), (2, (1, 3)));
    assert!(mailbox.is_signalled(), "the actor comes back by itself");
    assert!(!mailbox.take(3, &mut into, |_| 3));
    assert_eq!(into, [0, 1, 2]);
    assert!(!mailbox.is_signalled());
}

#[test]
fn a_take_without_a_budget_still_brings_an_item() {
    let mailbox = small();
    mailbox.try_push(1, 3).expect("room");
    mailbox.try_push(2, 3).expect("room");
    let mut into = VecDeque::new();
    assert!(mailbox.take(0, &mut into, |_| 3));
    assert_eq!(into, [1]);
}

#[test]
fn the_actor_is_woken_once_until_it_has_looked() {
    let mailbox = small();
    let wakes = actor(&mailbox);
    assert!(!mailbox.is_signalled());
    for item in 0..3 {
        mailbox.try_push(item, 1).expect("room");
    }
    mailbox.push_unbounded(3, 1);
    assert_eq!(wakes.count(), 1);
    take_all(&mailbox);
    assert!(!mailbox.is_signalled());
    mailbox.try_push(4, 1).expect("room");
    assert_eq!(wakes.count(), 2);
}

#[test]
fn an_actor_gathers_unless_all_that_it_was_told_of_is_lone() {
    let mailbox = small();
    let wakes = actor(&mailbox);
    assert_eq!(mailbox.try_push_lone(1, 1), Ok(()));
    assert!(mailbox.is_signalled() && !mailbox.is_gathering());
    mailbox.try_push(2, 1).expect("room");
    assert!(mailbox.is_gathering());
    assert_eq!(mailbox.try_push_lone(3, 1), Ok(()));
    assert!(mailbox.is_gathering());
    assert_eq!(mailbox.try_push_lone(4, 1), Err(PushError::Full(4)));
    assert_eq!(wakes.count(), 1);
    assert_eq!(take_all(&mailbox), [1, 2, 3]);
    assert!(!mailbox.is_gathering());
    mailbox.command("close");
    assert!(mailbox.is_gathering());
    mailbox.close();
    assert_eq!(mailbox.try_push_lone(5, 1), Err(PushError::Closed(5)));
}

#[test]
fn a_lone_item_is_taken_by_itself() {
    let mailbox = small();
    let wakes = actor(&mailbox);
    assert_eq!(mailbox.take_lone(), None);
    mailbox.try_push(1, 10).expect("room");
    let (mut push, waiting) = waiting(&mailbox, 2, 1);
    assert_eq!(mailbox.take_lone(), Some(1));
    assert_eq!(mailbox.len(), (0, 0));
    assert!(!mailbox.is_signalled());
    assert_eq!(waiting.count(), 1, "there is room");
    assert_eq!(poll(&mut push, &waiting), Poll::Ready(Ok(())));
    assert_eq!(wakes.count(), 2);
    mailbox.try_push(3, 1).expect("room");
    assert_eq!(mailbox.take_lone(), None, "not alone");
    assert_eq!(take_all(&mailbox), [2, 3]);
    mailbox.try_push(4, 1).expect("room");
    mailbox.command("close");
    assert!(mailbox.has_commands());
    assert_eq!(mailbox.take_lone(), None, "a command is no item");
    assert_eq!(take_commands(&mailbox), ["close"]);
    assert!(!mailbox.has_commands());
    assert_eq!(mailbox.take_lone(), Some(4));
}

#[test]
fn an_actor_that_took_a_part_is_not_woken_for_the_rest() {
    let mailbox = small();
    let wakes = actor(&mailbox);
    mailbox.try_push(1, 1).expect("room");
    mailbox.try_push(2, 1).expect("room");
    assert!(mailbox.take(1, &mut VecDeque::new(), |_| 1));
    mailbox.try_push(3, 1).expect("room");
    assert_eq!(wakes.count(), 1);
}

#[test]
fn commands_are_never_behind_items_and_never_full() {
    let mailbox = small();
    while mailbox.try_push(0, 1).is_ok() {}
    let (_push, _) = waiting(&mailbox, 1, 1);
    for _ in 0..100 {
        assert!(mailbox.command("close"));
    }
    assert_eq!(take_commands(&mailbox).len(), 100);
    assert_eq!(mailbox.len().0, 3);
}

#[test]
fn commands_wake_once_until_they_are_taken() {
    let mailbox = small();
    let wakes = actor(&mailbox);
    mailbox.command("a");
    mailbox.command("b");
    assert_eq!((wakes.count(), mailbox.is_signalled()), (1, true));
    assert_eq!(take_commands(&mailbox), ["a", "b"]);
    mailbox.command("c");
    assert_eq!(wakes.count(), 2);
}

/// The actor has been told of an item and is between its commands and its items.
#[test]
fn a_command_between_the_two_takes_wakes_the_actor() {
    let mailbox = small();
    let wakes = actor(&mailbox);
    mailbox.try_push(1, 1).expect("room");
    assert!(take_commands(&mailbox).is_empty());
    mailbox.command("close");
    assert_eq!(take_all(&mailbox), [1]);
    assert_eq!(wakes.count(), 2);
    assert!(mailbox.is_signalled(), "a command is left");
    assert_eq!(take_commands(&mailbox), ["close"]);
    assert!(take_all(&mailbox).is_empty());
    assert!(!mailbox.is_signalled());
}

/// An actor that does not want items now, such as a session that is not yet open.
#[test]
fn a_command_wakes_an_actor_that_leaves_its_items() {
    let mailbox = small();
    let wakes = actor(&mailbox);
    mailbox.try_push(1, 1).expect("room");
    assert!(take_commands(&mailbox).is_empty());
    assert!(mailbox.command("close"));
    assert_eq!(wakes.count(), 2);
}

#[test]
fn registering_another_waker_wakes_that_one() {
    let mailbox = small();
    let (old, new) = (actor(&mailbox), actor(&mailbox));
    mailbox.command("a");
    assert_eq!((old.count(), new.count()), (0, 1));
}

#[test]
fn waiting_senders_go_in_the_order_in_which_they_came() {
    let mailbox = small();
    mailbox.try_push(0, 10).expect("room");
    let (mut first, first_wakes) = waiting(&mailbox, 1, 8);
    let (mut second, second_wakes) = waiting(&mailbox, 2, 1);
    assert_eq!(take_all_of(&mailbox, 10), [0]);
    assert_eq!((first_wakes.count(), second_wakes.count()), (1, 0));
    // There is room for both, but nobody overtakes.
    assert_eq!(mailbox.try_push(3, 1), Err(PushError::Full(3)));
    assert!(poll(&mut second, &second_wakes).is_pending());
    assert_eq!(poll(&mut first, &first_wakes), Poll::Ready(Ok(())));
    assert_eq!(second_wakes.count(), 1, "the first hands the room on");
    assert_eq!(poll(&mut second, &second_wakes), Poll::Ready(Ok(())));
    assert_eq!(take_all_of(&mailbox, 1), [1, 2]);
}

fn take_all_of(mailbox: &Box10, bytes: usize) -> Vec<u32> {
    let mut into = VecDeque::new();
    mailbox.take(usize::MAX, &mut into, |_| bytes);
    into.into()
}

#[test]
fn a_small_item_does_not_overtake_a_large_one_that_waits() {
    let mailbox = small();
    mailbox.try_push(0, 5).expect("room");
    let (_large, large_wakes) = waiting(&mailbox, 1, 10);
    assert_eq!(mailbox.try_push(2, 1), Err(PushError::Full(2)));
    let (_small, small_wakes) = waiting(&mailbox, 3, 1);
    assert_eq!((large_wakes.count(), small_wakes.count()), (0, 0));
}

#[test]
fn a_sender_that_was_woken_and_gives_up_hands_the_room_on() {
    let mailbox = small();
    mailbox.try_push(0, 10).expect("room");
    let (first, first_wakes) = waiting(&mailbox, 1, 8);
    let (mut second, second_wakes) = waiting(&mailbox, 2, 8);
    take_all_of(&mailbox, 10);
    assert_eq!((first_wakes.count(), second_wakes.count()), (1, 0));
    drop(first);
    assert_eq!(second_wakes.count(), 1);
    assert_eq!(poll(&mut second, &second_wakes), Poll::Ready(Ok(())));
    assert_eq!(take_all_of(&mailbox, 8), [2]);
}

#[test]
fn a_sender_that_gives_up_in_the_middle_leaves_the_order() {
    let mailbox = small();
    mailbox.try_push(0, 10).expect("room");
    let (mut first, first_wakes) = waiting(&mailbox, 1, 1);
    let (middle, _) = waiting(&mailbox, 2, 1);
    let (mut last, last_wakes) = waiting(&mailbox, 3, 1);
    assert_eq!(middle.into_item(), Some(2), "the item comes back");
    take_all_of(&mailbox, 10);
    assert_eq!(poll(&mut first, &first_wakes), Poll::Ready(Ok(())));
    assert_eq!(poll(&mut last, &last_wakes), Poll::Ready(Ok(())));
    assert_eq!(take_all_of(&mailbox, 1), [1, 3]);
}

#[test]
fn a_queued_item_does_not_come_back() {
    let mailbox = small();
    let mut push = mailbox.push(1, 1);
    assert_eq!(poll(&mut push, &Wakes::new()), Poll::Ready(Ok(())));
    assert_eq!(push.into_item(), None);
    assert_eq!(mailbox.len(), (1, 1));
}

#[test]
fn a_sender_that_moves_to_another_task_is_woken_there() {
    let mailbox = small();
    mailbox.try_push(0, 10).expect("room");
    let (mut push, old) = waiting(&mailbox, 1, 1);
    let new = Wakes::new();
    assert!(poll(&mut push, &new).is_pending());
    take_all_of(&mailbox, 10);
    assert_eq!((old.count(), new.count()), (0, 1));
}

#[test]
fn a_push_that_waited_wakes_the_actor() {
    let mailbox = small();
    let wakes = actor(&mailbox);
    mailbox.try_push(0, 10).expect("room");
    let (mut push, push_wakes) = waiting(&mailbox, 1, 1);
    take_all_of(&mailbox, 10);
    assert_eq!(poll(&mut push, &push_wakes), Poll::Ready(Ok(())));
    assert_eq!(wakes.count(), 2);
}

#[test]
fn dropping_the_oldest_takes_what_may_go_and_gives_its_room_to_who_waits() {
    let mailbox = small();
    mailbox.try_push(1, 5).expect("room");
    mailbox.try_push(2, 5).expect("room");
    let (mut push, wakes) = waiting(&mailbox, 3, 5);
    assert_eq!(mailbox.drop_oldest(|item| *item > 5, |_| 5), None);
    assert_eq!(wakes.count(), 0);
    assert_eq!(mailbox.drop_oldest(|item| *item == 2, |_| 5), Some(2));
    assert_eq!((mailbox.len(), wakes.count()), ((1, 5), 1));
    assert_eq!(poll(&mut push, &wakes), Poll::Ready(Ok(())));
    assert_eq!(take_all_of(&mailbox, 5), [1, 3]);
}

#[test]
fn closing_gives_everything_back() {
    let mailbox = small();
    mailbox.try_push(1, 5).expect("room");
    mailbox.try_push(2, 5).expect("room");
    mailbox.command("too late");
    let (mut push, wakes) = waiting(&mailbox, 3, 1);
    assert_eq!(mailbox.close(), [1, 2]);
    assert_eq!(wakes.count(), 1);
    assert_eq!(
        poll(&mut push, &wakes),
        Poll::Ready(Err(PushError::Closed(3)))
    );
    assert_eq!(mailbox.try_push(4, 1), Err(PushError::Closed(4)));
    let mut late = mailbox.push(5, 1);
    assert_eq!(
        poll(&mut late, &wakes),
        Poll::Ready(Err(PushError::Closed(5)))
    );
    assert!(!mailbox.command("later"));
    assert!(!mailbox.push_unbounded(6, 1));
    assert!(take_commands(&mailbox).is_empty());
    assert!(mailbox.close().is_empty());
}

/// What is dropped by a close may hold the last handle of something that looks at the mailbox.
#[test]
fn a_command_that_reaches_back_when_it_is_dropped_does_not_lock_up() {
    struct Nosy(Arc<Mailbox<Nosy, u32>>, Arc<AtomicBool>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            self.1
                .store(self.0.try_push(1, 1).is_err(), Ordering::Relaxed);
        }
    }
    let mailbox = Arc::new(Mailbox::new(Bounds { items: 1, bytes: 1 }));
    let closed = Arc::new(AtomicBool::new(false));
    mailbox.command(Nosy(mailbox.clone(), closed.clone()));
    mailbox.close();
    assert!(
        closed.load(Ordering::Relaxed),
        "it found the mailbox closed"
    );
}

/// Senders on threads of their own, an actor that sleeps unless it is woken: nothing is lost, nobody hangs.
#[test]
fn nothing_is_lost_between_threads() {
    const EACH: u32 = 5_000;
    let mailbox = Arc::new(small());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("threads");
    let total = runtime.block_on(async {
        for sender in 0..4 {
            let mailbox = mailbox.clone();
            tokio::spawn(async move {
                for item in 0..EACH {
                    mailbox.push(sender * EACH + item, 3).await.expect("open");
                    if item % 100 == 0 {
                        mailbox.command("tick");
                    }
                }
            });
        }
        let (mut next, mut ticks) = ([0; 4], 0);
        std::future::poll_fn(|cx| {
            mailbox.register(cx.waker());
            let (mut commands, mut items) = (Vec::new(), VecDeque::new());
            mailbox.take_commands(&mut commands);
            ticks += commands.len();
            if mailbox.take(7, &mut items, |_| 3) {
                cx.waker().wake_by_ref();
            }
            for item in items {
                let next = &mut next[(item / EACH) as usize];
                assert_eq!(item % EACH, *next, "each sender's items stay in order");
                *next += 1;
            }
            let done = next == [EACH; 4] && ticks == 4 * (EACH as usize).div_ceil(100);
            if done {
                Poll::Ready(next.iter().sum::<u32>())
            } else {
                Poll::Pending
            }
        })
        .await
    });
    assert_eq!(total, 4 * EACH);
}

#[test]
fn what_goes_first_is_taken_first_whatever_the_bounds_say_and_wakes_nobody_by_itself() {
    let mailbox = small();
    let wakes = actor(&mailbox);
    for item in 1..=3 {
        assert_eq!(mailbox.try_push(item, 1), Ok(()));
    }
    assert_eq!(wakes.count(), 1);
    assert!(mailbox.push_first(0, 10));
    assert_eq!(wakes.count(), 1);
    mailbox.wake();
    assert_eq!(wakes.count(), 2);
    assert_eq!(take_all(&mailbox), [0, 1, 2, 3]);
    assert!(mailbox.push_first(4, 1));
    assert!(mailbox.is_signalled() && !mailbox.is_gathering());
    mailbox.close();
    assert!(!mailbox.push_first(5, 1));
    mailbox.wake();
    assert_eq!(wakes.count(), 2);
}
