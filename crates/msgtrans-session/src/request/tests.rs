//! Ids wrap and skip what is pending, results reach their waiter once, deadlines are found.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_core::{CloseReason, Packet, RequestError};
use tokio::time::Instant;

use super::RequestTable;

fn response(id: u32, payload: &'static str) -> Packet {
    Packet::response(payload).with_message_id(id)
}

fn poll(table: &mut RequestTable, id: u32) -> Poll<Result<Packet, RequestError>> {
    table.poll(id, &mut Context::from_waker(Waker::noop()))
}

#[test]
fn ids_start_at_one_wrap_past_zero_and_skip_what_is_pending() {
    let mut table = RequestTable::default();
    assert_eq!(table.insert(None, 10, None).expect("room"), 1);
    table.last_id = u32::MAX - 1;
    assert_eq!(table.insert(None, 10, None).expect("room"), u32::MAX);
    assert_eq!(
        table.insert(None, 10, None).expect("room"),
        2,
        "0 is never an id and 1 is pending"
    );
}

#[tokio::test(start_paused = true)]
async fn a_table_begins_behind_the_id_it_is_told_and_so_do_its_clocks() {
    let mut table = RequestTable::starting_behind(u32::MAX - 1);
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let id = table.insert(Some(second), 10, None).expect("room");
    assert_eq!(id, u32::MAX);
    table.start_clocks(now);
    assert_eq!(table.earliest(), Some(now + second));
}

#[test]
fn a_result_reaches_its_waiter_once_and_nobody_else() {
    let mut table = RequestTable::default();
    let id = table.insert(None, 10, None).expect("room");
    assert!(poll(&mut table, id).is_pending());
    assert!(
        table.respond(response(id + 1, "stray")).is_none(),
        "an id that is not pending"
    );
    assert!(
        table
            .respond(response(id, "first"))
            .expect("pending")
            .waker
            .is_some(),
        "who waits is woken"
    );
    assert!(
        table.respond(response(id, "second")).is_none(),
        "answered already"
    );
    let Poll::Ready(Ok(answer)) = poll(&mut table, id) else {
        panic!("answered")
    };
    assert_eq!(answer.payload, "first");
    assert_eq!(table.pending(), 0);
    assert!(table.respond(response(id, "late")).is_none());
}

#[test]
fn the_bound_holds_and_names_itself() {
    let mut table = RequestTable::default();
    table.insert(None, 1, None).expect("room");
    assert!(matches!(
        table.insert(None, 1, None),
        Err(RequestError::TooManyPending { max: 1 })
    ));
}

#[tokio::test(start_paused = true)]
async fn deadlines_that_have_passed_are_found_and_the_next_one_kept() {
    let mut table = RequestTable::default();
    let now = Instant::now();
    let (second_1, second_2) = (Duration::from_secs(1), Duration::from_secs(2));
    let (soon, late) = (now + second_1, now + second_2);
    let first = table.insert(Some(second_1), 10, None).expect("room");
    let second = table.insert(Some(second_2), 10, None).expect("room");
    table.insert(None, 10, None).expect("room");
    assert_eq!(table.earliest(), None, "no time runs before the task knows");
    assert!(table.expired(late).is_empty());
    table.start_clocks(now);
    assert_eq!(table.earliest(), Some(soon));
    table.start_clocks(late);
    assert!(table.expired(now).is_empty());
    assert_eq!(table.expired(soon), [first]);
    assert_eq!(table.earliest(), Some(late));
    assert!(table.abandon(second), "it was still waiting");
    assert!(!table.abandon(second), "it is gone");
}

#[test]
fn closing_fails_who_waits_and_who_comes() {
    let mut table = RequestTable::default();
    let id = table.insert(None, 10, None).expect("room");
    assert!(poll(&mut table, id).is_pending());
    assert_eq!(table.close(&CloseReason::normal()).len(), 1);
    assert!(matches!(
        poll(&mut table, id),
        Poll::Ready(Err(RequestError::Closed(_)))
    ));
    assert!(matches!(
        table.insert(None, 10, None),
        Err(RequestError::Closed(_))
    ));
}

#[test]
fn a_request_that_takes_longer_than_thousands_of_others_still_gets_its_answer() {
    let mut table = RequestTable::starting_behind(u32::MAX - 50_000);
    let slow: Vec<u32> = (0..3)
        .map(|_| table.insert(None, 10, None).expect("room"))
        .collect();
    for _ in 0..100_000 {
        let id = table.insert(None, 10, None).expect("room");
        assert!(table.respond(response(id, "quick")).is_some());
        assert!(matches!(poll(&mut table, id), Poll::Ready(Ok(packet)) if packet.message_id == id));
    }
    assert_eq!(table.pending(), 3);
    for id in slow {
        assert!(poll(&mut table, id).is_pending());
        assert!(table.respond(response(id, "slow")).is_some());
        assert!(
            matches!(poll(&mut table, id), Poll::Ready(Ok(packet)) if packet.payload == "slow")
        );
    }
    assert_eq!(table.pending(), 0);
    assert!(table.places.len() <= 16, "three at a time need few places");
}

#[test]
fn there_are_as_many_places_as_requests_and_a_burst_gives_them_back() {
    let mut table = RequestTable::default();
    let ask = |table: &mut RequestTable| table.insert(None, 1_000, None).expect("room");
    let mut ids = Vec::new();
    for pending in 1..=1_000usize {
        ids.push(ask(&mut table));
        assert_eq!(table.places.len(), pending.next_power_of_two().max(4));
        assert!(table.strays.is_empty(), "consecutive ids share no place");
    }
    for id in ids {
        assert!(table.abandon(id));
    }
    assert_eq!(table.places.len(), 0);
    let few: Vec<u32> = (0..64).map(|_| ask(&mut table)).collect();
    for id in few {
        assert!(table.abandon(id));
    }
    assert_eq!(table.places.len(), 64, "what is asked all the time is kept");
}

#[tokio::test(start_paused = true)]
async fn the_next_deadline_is_that_of_whoever_still_waits() {
    let mut table = RequestTable::default();
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let slow = table.insert(Some(2 * second), 100, None).expect("room");
    let quick = table.insert(Some(second), 100, None).expect("room");
    table.start_clocks(now);
    assert_eq!(table.earliest(), Some(now + second));
    assert!(table.abandon(slow));
    assert_eq!(table.earliest(), Some(now + second));
    assert_eq!(table.expired(now + 3 * second), [quick], "long past");

    // One that waits so long that later ones have got its place is not forgotten with them.
    let stray = table.insert(Some(second), 100, None).expect("room");
    table.start_clocks(now);
    assert!(table.abandon(quick));
    while table.strays.is_empty() {
        let id = table.insert(None, 100, None).expect("room");
        assert!(table.abandon(id));
    }
    assert_eq!((table.taken, table.pending()), (0, 1));
    assert_eq!(table.earliest(), Some(now + second));
    assert!(table.abandon(stray));
    assert_eq!(table.earliest(), None);
}

#[test]
fn a_failure_and_a_deadline_end_the_wait() {
    let mut table = RequestTable::default();
    let second = Duration::from_secs(1);
    let failed = table.insert(None, 10, Some(Waker::noop().clone()));
    let late = table.insert(Some(second), 10, Some(Waker::noop().clone()));
    let (failed, late) = (failed.expect("room"), late.expect("room"));
    let error = RequestError::TooManyPending { max: 3 };
    let answered = table.fail(failed, error).expect("pending");
    assert!(answered.waker.is_some());
    assert!(table.time_out(failed).is_none(), "it has no deadline");
    assert!(table.time_out(late).expect("pending").waker.is_some());
    assert!(matches!(
        poll(&mut table, failed),
        Poll::Ready(Err(RequestError::TooManyPending { max: 3 }))
    ));
    assert!(matches!(
        poll(&mut table, late),
        Poll::Ready(Err(RequestError::Timeout { after })) if after == second
    ));
}

#[tokio::test(start_paused = true)]
async fn the_last_clock_starts_alone_where_no_other_waits_for_its_own() {
    let mut table = RequestTable::default();
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let late = now + 9 * second;
    let insert = |table: &mut RequestTable, timeout, since| {
        let inserted = table.insert_running(Some(timeout), 10, None, Some(since));
        inserted.expect("room")
    };
    let (unseen, runs) = insert(&mut table, second, now);
    assert!(!runs, "nobody has said when the task looks");
    assert!(table.abandon(unseen), "it was waiting");
    table.start_clocks(now);
    table.set_looks_at(now + second / 8);
    let (early, runs) = insert(&mut table, second / 9, now);
    assert!(!runs, "it is over before the task looks");
    assert!(table.abandon(early), "it was waiting");
    table.start_clocks(now);
    let (first, runs) = insert(&mut table, second, now);
    assert!(runs);
    assert_eq!(table.earliest(), Some(now + second));
    table.insert(Some(5 * second), 10, None).expect("room");
    let (_, runs) = insert(&mut table, second / 2, now);
    assert!(!runs, "another is in front");
    assert_eq!(table.earliest(), Some(now + second), "no clock was touched");
    // Those that were refused have not begun, and begin with the task's look.
    table.start_clocks(late);
    assert_eq!(table.expired(late - 2 * second), [first]);
    assert_eq!(table.earliest(), Some(late + second / 2));
    let (fourth, runs) = insert(&mut table, second / 4, late);
    assert!(runs, "nobody is in front any more");
    assert_eq!(table.earliest(), Some(late + second / 4));
    assert!(table.abandon(fourth), "it was waiting");
}

#[test]
fn an_answer_past_the_task_is_for_who_has_been_seen() {
    let mut table = RequestTable::default();
    let id = table.insert(None, 10, None).expect("room");
    let early = table.respond_timed(response(id, "early"));
    assert_eq!(early.err().expect("comes back").payload, "early");
    let now = Instant::now();
    table.start_clocks(now);
    let answered = table.respond_timed(response(id, "first")).expect("taken");
    assert_eq!(answered.since, Some(now));
    let again = table.respond_timed(response(id, "second"));
    assert_eq!(again.err().expect("comes back").payload, "second");
    let Poll::Ready(Ok(answer)) = poll(&mut table, id) else {
        panic!("answered");
    };
    assert_eq!(answer.payload, "first");
}
