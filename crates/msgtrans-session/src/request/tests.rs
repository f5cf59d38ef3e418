//! Ids wrap and skip what is pending, results reach their waiter once, deadlines are found.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_core::{CloseReason, Packet, RequestError};
use tokio::time::Instant;

use super::RequestTable;

fn poll(table: &mut RequestTable, id: u32) -> Poll<Result<Packet, RequestError>> {
    table.poll(id, &mut Context::from_waker(Waker::noop()))
}

#[test]
fn ids_start_at_one_wrap_past_zero_and_skip_what_is_pending() {
    let mut table = RequestTable::default();
    assert_eq!(table.insert(None, 10).expect("room"), 1);
    table.last_id = u32::MAX - 1;
    assert_eq!(table.insert(None, 10).expect("room"), u32::MAX);
    assert_eq!(
        table.insert(None, 10).expect("room"),
        2,
        "0 is never an id and 1 is pending"
    );
}

#[test]
fn a_result_reaches_its_waiter_once_and_nobody_else() {
    let mut table = RequestTable::default();
    let id = table.insert(None, 10).expect("room");
    assert!(poll(&mut table, id).is_pending());
    assert!(
        table
            .complete(id + 1, Ok(Packet::response("stray")))
            .is_err(),
        "an id that is not pending"
    );
    assert!(
        table
            .complete(id, Ok(Packet::response("first")))
            .expect("pending")
            .is_some(),
        "who waits is woken"
    );
    assert!(
        table.complete(id, Ok(Packet::response("second"))).is_err(),
        "answered already"
    );
    let Poll::Ready(Ok(response)) = poll(&mut table, id) else {
        panic!("answered")
    };
    assert_eq!(response.payload, "first");
    assert_eq!(table.pending(), 0);
    assert!(table.complete(id, Ok(Packet::response("late"))).is_err());
}

#[test]
fn the_bound_holds_and_names_itself() {
    let mut table = RequestTable::default();
    table.insert(None, 1).expect("room");
    assert!(matches!(
        table.insert(None, 1),
        Err(RequestError::TooManyPending { max: 1 })
    ));
}

#[tokio::test(start_paused = true)]
async fn deadlines_that_have_passed_are_found_and_the_next_one_kept() {
    let mut table = RequestTable::default();
    let now = Instant::now();
    let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
    let first = table.insert(Some(soon), 10).expect("room");
    let second = table.insert(Some(late), 10).expect("room");
    table.insert(None, 10).expect("room");
    assert!(table.expired(now).is_empty());
    assert_eq!(table.expired(soon), [first]);
    assert_eq!(table.earliest(), Some(late));
    assert!(table.abandon(second), "it was still waiting");
    assert!(!table.abandon(second), "it is gone");
}

#[test]
fn closing_fails_who_waits_and_who_comes() {
    let mut table = RequestTable::default();
    let id = table.insert(None, 10).expect("room");
    assert!(poll(&mut table, id).is_pending());
    assert_eq!(table.close(&CloseReason::normal()).len(), 1);
    assert!(matches!(
        poll(&mut table, id),
        Poll::Ready(Err(RequestError::Closed(_)))
    ));
    assert!(matches!(
        table.insert(None, 10),
        Err(RequestError::Closed(_))
    ));
}
