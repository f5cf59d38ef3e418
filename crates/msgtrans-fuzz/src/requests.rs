//! The request table against a map: ids, results, deadlines and the end, in any order.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use msgtrans_core::{CloseReason, Code, Packet, RequestError};
use msgtrans_session::fuzzing::RequestTable;
use tokio::time::Instant;

use crate::input::Input;

/// Ids near the end of their range meet those at its beginning.
const LAST_IDS: [u32; 4] = [0, u32::MAX - 3, u32::MAX, 1 << 31];

#[derive(Debug)]
struct Waiter {
    deadline: Option<u8>,
    /// Whether its time runs, which began with that of the table.
    timed: bool,
    result: Option<Result<Packet, ()>>,
}

/// Each operation has the same outcome on the table and on a map that knows nothing of wakers and caches.
pub(crate) fn requests(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let start = Instant::now();
    let at = |tick: u8| start + Duration::from_millis(u64::from(tick));
    let max = 1 + usize::from(input.byte() % 8);
    let mut last_id = LAST_IDS[usize::from(input.byte() % 4)];
    let mut table = RequestTable::starting_behind(last_id);
    let mut model: BTreeMap<u32, Waiter> = BTreeMap::new();
    let mut closed = false;
    let mut answers = 0u8;
    while !input.is_empty() {
        let (operation, argument) = (input.byte(), input.byte());
        // An id that is pending, mostly, or any near it.
        let id = match argument {
            0..=199 if !model.is_empty() => {
                let index = usize::from(argument) % model.len();
                *model.keys().nth(index).expect("an index in range")
            }
            _ => last_id.wrapping_add(u32::from(argument % 4)),
        };
        match operation % 6 {
            0 | 1 => {
                let deadline = (argument & 1 == 1).then_some(argument);
                let timeout = deadline.map(|tick| Duration::from_millis(u64::from(tick)));
                match table.insert(timeout, max, None) {
                    Ok(id) => {
                        assert!(!closed && model.len() < max);
                        let expected = next_id(last_id, &model);
                        assert_eq!(id, expected);
                        last_id = id;
                        let (result, timed) = (None, false);
                        let waiter = Waiter {
                            deadline,
                            timed,
                            result,
                        };
                        model.insert(id, waiter);
                    }
                    Err(RequestError::TooManyPending { .. }) => {
                        assert!(!closed && model.len() == max);
                    }
                    Err(_) => assert!(closed),
                }
            }
            2 => match table.poll(id, &mut Context::from_waker(Waker::noop())) {
                Poll::Pending => {
                    assert!(matches!(model.get(&id), Some(Waiter { result: None, .. })))
                }
                Poll::Ready(result) => {
                    let expected = model.remove(&id).map(|waiter| waiter.result);
                    // An id that was never given is a closed one.
                    let expected = expected.unwrap_or(Some(Err(())));
                    assert_eq!(Some(result.map_err(drop)), expected);
                }
            },
            3 => {
                answers = answers.wrapping_add(1);
                let answer = Packet::response(vec![answers]).with_message_id(id);
                let taken = table.respond(answer.clone()).is_some();
                match model.get_mut(&id) {
                    Some(Waiter { result, .. }) if result.is_none() => {
                        assert!(taken);
                        *result = Some(Ok(answer));
                    }
                    _ => assert!(!taken, "an answer that nobody waits for was taken"),
                }
            }
            4 => {
                let waited = table.abandon(id);
                let expected = model
                    .remove(&id)
                    .is_some_and(|waiter| waiter.result.is_none());
                assert_eq!(waited, expected);
            }
            _ if argument == 255 => {
                table.close(&CloseReason::local(Code::INTERNAL, "end"));
                closed = true;
                for waiter in model.values_mut() {
                    waiter.result.get_or_insert(Err(()));
                }
            }
            _ if argument % 8 == 7 => {
                table.start_clocks(start);
                for waiter in model.values_mut() {
                    waiter.timed = true;
                }
            }
            _ => {
                let mut expired = table.expired(at(argument));
                expired.sort_unstable();
                let late = |waiter: &Waiter| {
                    waiter.result.is_none()
                        && waiter.timed
                        && waiter.deadline.is_some_and(|tick| tick <= argument)
                };
                let expected: Vec<u32> = (model.iter())
                    .filter_map(|(id, waiter)| late(waiter).then_some(*id))
                    .collect();
                assert_eq!(expired, expected);
                // What has run out is timed out at once, as a session does it.
                for id in expired {
                    assert!(table.time_out(id).is_some());
                    if let Some(waiter) = model.get_mut(&id) {
                        waiter.result = Some(Err(()));
                    }
                }
            }
        }
        assert_eq!(table.pending(), model.len());
        let first = (model.values())
            .filter(|waiter| waiter.result.is_none() && waiter.timed)
            .filter_map(|waiter| waiter.deadline)
            .min();
        if let Some(first) = first {
            assert!(
                table
                    .earliest()
                    .is_some_and(|earliest| earliest <= at(first))
            );
        }
    }
}

/// 1, 2, … 2^32-1, then 1 again, skipping those that are pending.
fn next_id(last: u32, pending: &BTreeMap<u32, Waiter>) -> u32 {
    let mut id = last;
    loop {
        id = id.wrapping_add(1).max(1);
        if !pending.contains_key(&id) {
            return id;
        }
    }
}
