//! The account as its holders and its bells see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{ByteAccount, LOT};

fn account() -> &'static ByteAccount {
    Box::leak(Box::new(ByteAccount::new()))
}

#[test]
fn what_is_small_is_not_written_down_and_what_is_large_in_whole_lots() {
    let account = account();
    let noted = account.note(0, LOT - 1);
    assert_eq!((noted, account.held()), (0, 0));
    let noted = account.note(noted, 3 * LOT + 5);
    assert_eq!((noted, account.held()), (3 * LOT, 3 * LOT));
    // One lot less is not worth a word; nothing at all is.
    let noted = account.note(noted, 2 * LOT);
    assert_eq!((noted, account.held()), (3 * LOT, 3 * LOT));
    let noted = account.note(noted, LOT);
    assert_eq!((noted, account.held()), (LOT, LOT));
    assert_eq!((account.note(noted, 0), account.held()), (0, 0));
}

#[test]
fn a_bell_rings_for_who_takes_more_from_its_bound_on_until_it_is_taken_down() {
    let account = account();
    let rung = Arc::new(AtomicUsize::new(0));
    let bell = {
        let rung = rung.clone();
        account.ring_from(4 * LOT, move || {
            rung.fetch_add(1, Ordering::Relaxed);
        })
    };
    let far = account.ring_from(1_000 * LOT, || panic!("far below its bound"));
    let mut noted = account.note(0, 3 * LOT);
    assert_eq!(rung.load(Ordering::Relaxed), 0);
    noted = account.note(noted, 4 * LOT);
    noted = account.note(noted, 9 * LOT);
    assert_eq!(rung.load(Ordering::Relaxed), 2);
    // Less is no reason to ring, however much is left.
    noted = account.note(noted, 6 * LOT);
    drop(bell);
    noted = account.note(noted, 20 * LOT);
    drop(far);
    account.note(noted, 0);
    assert_eq!((rung.load(Ordering::Relaxed), account.held()), (2, 0));
}

#[test]
fn a_bell_finds_in_the_holders_note_what_it_rings_for() {
    let (account, noted) = (account(), Arc::new(AtomicUsize::new(0)));
    let found = Arc::new(AtomicUsize::new(0));
    let bell = {
        let (noted, found) = (noted.clone(), found.clone());
        account.ring_from(4 * LOT, move || {
            found.store(noted.load(Ordering::Relaxed), Ordering::Relaxed);
        })
    };
    account.note_in(&noted, 7 * LOT + 1);
    assert_eq!(found.load(Ordering::Relaxed), 7 * LOT);
    account.note_in(&noted, 0);
    assert_eq!((noted.load(Ordering::Relaxed), account.held()), (0, 0));
    drop(bell);
}
