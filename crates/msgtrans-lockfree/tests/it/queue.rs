//! `LockFreeQueue` beside `VecDeque`, and its wakes.

use crate::scaled;
use crate::wake::{block_on, counting_waker};
use msgtrans_lockfree::{LockFreeQueue, PushError};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread;

#[derive(Debug, Clone)]
enum Step {
    Push(u16),
    Pop,
    Close,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: scaled(256, 4) as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_reads_like_std(
        capacity in prop::option::of(1usize..6),
        steps in prop::collection::vec(prop_oneof![
            6 => any::<u16>().prop_map(Step::Push),
            5 => Just(Step::Pop),
            1 => Just(Step::Close),
        ], 0..60),
    ) {
        let queue = capacity.map_or_else(LockFreeQueue::unbounded, LockFreeQueue::bounded);
        let mut twin = VecDeque::new();
        let mut closed = false;
        for step in steps {
            match step {
                Step::Push(value) => {
                    let expected = if closed {
                        Err(PushError::Closed(value))
                    } else if Some(twin.len()) == capacity {
                        Err(PushError::Full(value))
                    } else {
                        twin.push_back(value);
                        Ok(())
                    };
                    prop_assert_eq!(queue.try_push(value), expected);
                }
                Step::Pop => prop_assert_eq!(queue.pop(), twin.pop_front()),
                Step::Close => {
                    prop_assert_eq!(queue.close(), !closed);
                    closed = true;
                }
            }
            prop_assert_eq!(queue.len(), twin.len());
        }
    }
}

#[test]
fn a_sleeping_consumer_is_woken_once_for_a_burst() {
    let queue = LockFreeQueue::bounded(8);
    let (waker, wakes) = counting_waker();
    let mut cx = Context::from_waker(&waker);
    assert_eq!(queue.poll_pop(&mut cx), Poll::Pending);
    for value in 0..5 {
        assert_eq!(queue.try_push(value), Ok(()));
    }
    assert_eq!(wakes.get(), 1);
    for value in 0..5 {
        assert_eq!(queue.poll_pop(&mut cx), Poll::Ready(Some(value)));
    }
    assert_eq!(queue.poll_pop(&mut cx), Poll::Pending);
    assert_eq!(queue.try_push(5), Ok(()));
    assert_eq!(wakes.get(), 2);
}

#[test]
fn closing_wakes_the_consumer_and_ends_after_the_last_item() {
    let queue = LockFreeQueue::unbounded();
    let (waker, wakes) = counting_waker();
    let mut cx = Context::from_waker(&waker);
    assert_eq!(queue.poll_pop(&mut cx), Poll::<Option<u8>>::Pending);
    assert!(queue.close());
    assert_eq!(wakes.get(), 1);
    assert_eq!(queue.poll_pop(&mut cx), Poll::Ready(None));
    assert_eq!(queue.try_push(1), Err(PushError::Closed(1)));
    assert_eq!(queue.poll_pop(&mut cx), Poll::Ready(None));
}

fn check_everything_arrives_in_order_of_each_producer(queue: LockFreeQueue<(usize, usize)>) {
    let queue = Arc::new(queue);
    let each = scaled(50_000, 100);
    let producers: Vec<_> = (0..3)
        .map(|producer| {
            let queue = queue.clone();
            thread::spawn(move || {
                for number in 0..each {
                    let mut item = (producer, number);
                    while let Err(refused) = queue.try_push(item) {
                        assert!(refused.is_full());
                        item = refused.into_inner();
                        thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let consumer = {
        let queue = queue.clone();
        thread::spawn(move || {
            let mut next = [0; 3];
            // A lost wake would hang here.
            while let Some((producer, number)) = block_on(queue.recv()) {
                assert_eq!(number, next[producer]);
                next[producer] += 1;
            }
            next
        })
    };
    for producer in producers {
        producer.join().expect("producer");
    }
    queue.close();
    assert_eq!(consumer.join().expect("consumer"), [each; 3]);
    assert_eq!(queue.len(), 0);
}

#[test]
fn everything_arrives_in_order_through_a_bounded_queue() {
    check_everything_arrives_in_order_of_each_producer(LockFreeQueue::bounded(4));
}

#[test]
fn everything_arrives_in_order_through_an_unbounded_queue() {
    check_everything_arrives_in_order_of_each_producer(LockFreeQueue::unbounded());
}

#[test]
fn what_was_accepted_before_closing_is_delivered() {
    for _ in 0..scaled(500, 10) {
        let queue = Arc::new(LockFreeQueue::unbounded());
        let producers: Vec<_> = (0..2)
            .map(|_| {
                let queue = queue.clone();
                thread::spawn(move || {
                    let mut accepted = 0;
                    while accepted < 1_000 && queue.try_push(()).is_ok() {
                        accepted += 1;
                    }
                    accepted
                })
            })
            .collect();
        let consumer = {
            let queue = queue.clone();
            thread::spawn(move || {
                let mut received = 0;
                while block_on(queue.recv()).is_some() {
                    received += 1;
                }
                received
            })
        };
        queue.close();
        let accepted: usize = producers
            .into_iter()
            .map(|p| p.join().expect("producer"))
            .sum();
        assert_eq!(consumer.join().expect("consumer"), accepted);
    }
}

#[test]
fn a_refused_push_says_why_and_gives_the_value_back() {
    let queue = LockFreeQueue::bounded(1);
    assert_eq!(queue.try_push("first"), Ok(()));
    let full = queue.try_push("second").expect_err("one fits");
    assert!(full.is_full());
    assert_eq!(full.to_string(), "queue is full");
    assert_eq!(full.into_inner(), "second");
    assert!(queue.close());
    assert!(!queue.close(), "closed once");
    let closed = queue.try_push("third").expect_err("closed");
    assert!(!closed.is_full());
    assert_eq!(closed.to_string(), "queue is closed");
    assert_eq!(closed.into_inner(), "third");
    assert_eq!(queue.pop(), Some("first"));
}

#[test]
fn what_is_printed_of_a_queue_tells_its_state_and_not_its_items() {
    let queue = LockFreeQueue::<&str>::bounded(3);
    assert_eq!(queue.try_push("secret"), Ok(()));
    queue.close();
    let text = format!("{queue:?}");
    assert_eq!(
        text,
        "LockFreeQueue { len: 1, capacity: Some(3), closed: true, .. }"
    );
    assert_eq!(LockFreeQueue::<u8>::unbounded().capacity(), None);
}
