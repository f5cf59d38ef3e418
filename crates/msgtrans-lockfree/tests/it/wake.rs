//! `WakeCell` and `WriteToken` under contention, and the wakers that the tests use.

use crate::scaled;
use msgtrans_lockfree::{WakeCell, WriteToken};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// How often a waker was woken.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn counting_waker() -> (Waker, Arc<Wakes>) {
    let wakes = Arc::new(Wakes::default());
    (wakes.clone().into(), wakes)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn one_registration_serves_every_later_wake() {
    let cell = WakeCell::new();
    let (waker, wakes) = counting_waker();
    cell.register(&waker);
    for round in 1..=3 {
        assert!(cell.wake());
        assert!(!cell.wake());
        assert_eq!(wakes.get(), round);
        assert!(cell.clear());
        assert!(!cell.clear());
    }
}

#[test]
fn the_last_registered_waker_is_woken() {
    let cell = WakeCell::new();
    let (first, first_wakes) = counting_waker();
    let (second, second_wakes) = counting_waker();
    cell.register(&first);
    cell.register(&second);
    cell.wake();
    assert_eq!((first_wakes.get(), second_wakes.get()), (0, 1));
    // The replaced waker was dropped, not leaked.
    drop(first);
    assert_eq!(Arc::strong_count(&first_wakes), 1);
}

#[test]
fn a_wake_before_any_registration_is_found_by_the_first_look() {
    let cell = WakeCell::new();
    assert!(cell.wake());
    cell.register(Waker::noop());
    assert!(cell.clear());
}

#[test]
fn a_waker_that_panics_does_not_break_the_cell() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker may do anything");
        }
    }
    let cell = WakeCell::new();
    cell.register(&Waker::from(Arc::new(Panics)));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cell.wake())).is_err());
    cell.clear();
    let (waker, wakes) = counting_waker();
    cell.register(&waker);
    assert!(cell.wake());
    assert_eq!(wakes.get(), 1);
}

#[test]
fn no_wake_is_lost_while_the_owner_registers_anew_each_time() {
    let cell = Arc::new(WakeCell::new());
    let work = Arc::new(AtomicUsize::new(0));
    let each = scaled(50_000, 100);
    let wakers: Vec<_> = (0..3)
        .map(|_| {
            let (cell, work) = (cell.clone(), work.clone());
            thread::spawn(move || {
                for _ in 0..each {
                    work.fetch_add(1, Ordering::Relaxed);
                    cell.wake();
                }
            })
        })
        .collect();
    let mut done = 0;
    while done < 3 * each {
        // A fresh waker each time, so that every registration replaces; a lost wake hangs here.
        done += block_on(std::future::poll_fn(|cx| {
            cell.register(cx.waker());
            cell.clear();
            match work.swap(0, Ordering::Relaxed) {
                0 => Poll::Pending,
                found => Poll::Ready(found),
            }
        }));
    }
    for waker in wakers {
        waker.join().expect("waker");
    }
}

#[test]
fn token_admits_one_and_no_work_is_left_behind() {
    let token = Arc::new(WriteToken::new());
    let (queued, inside, done) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let each = scaled(50_000, 100);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (token, queued, inside, done) =
                (token.clone(), queued.clone(), inside.clone(), done.clone());
            thread::spawn(move || {
                for _ in 0..each {
                    queued.fetch_add(1, Ordering::Relaxed);
                    token.run(|| {
                        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two writers");
                        done.fetch_add(queued.swap(0, Ordering::Relaxed), Ordering::Relaxed);
                        inside.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("thread");
    }
    assert_eq!(queued.load(Ordering::Relaxed), 0, "work was left behind");
    assert_eq!(done.load(Ordering::Relaxed), 4 * each);
    assert!(!token.is_held());
}

#[test]
fn a_dropped_turn_lets_go() {
    let token = WriteToken::new();
    let turn = token.try_enter().expect("free");
    assert!(token.try_enter().is_none());
    drop(turn);
    let turn = token.try_enter().expect("free again");
    // The note left before the drop is not kept for the next holder.
    assert!(turn.finish().is_none());
}

#[test]
fn a_note_gives_the_turn_back_once() {
    let token = WriteToken::new();
    let turn = token.try_enter().expect("free");
    assert!(token.try_enter().is_none());
    let turn = turn.finish().expect("a note was left");
    assert!(turn.finish().is_none());
}
