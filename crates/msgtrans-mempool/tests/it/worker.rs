//! Worker buffers: alignment, reuse, parking, and nothing stale.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use msgtrans_mempool::worker::{
    self, OUT_BUFFER_KEPT_MAX, READ_BUFFER_LEN, ReadBuffer, put_out_buffer, take_out_buffer,
    take_read_buffer,
};
use std::sync::{RwLock, mpsc};
use std::thread;

/// Trimming reaches every thread of the process, so the test of it runs alone.
static TRIMMING: RwLock<()> = RwLock::new(());

/// Runs on a thread of its own, whose stacks start empty.
fn on_a_fresh_thread(test: impl FnOnce() + Send + 'static) {
    let _others_may_run = TRIMMING.read();
    thread::spawn(test).join().expect("test thread");
}

/// More than small reads may use up of a buffer, the page that aligns it included: what is left of it is not enough for
/// another read.
const LARGE: usize = 24_000;

fn check_fit(buffer: &mut ReadBuffer) -> usize {
    let bytes = buffer.bytes_mut();
    assert!(bytes.is_empty());
    assert!(
        bytes.capacity() >= READ_BUFFER_LEN,
        "capacity is {}",
        bytes.capacity()
    );
    assert_eq!(bytes.as_ptr().addr() % 64, 0, "not on a cache line");
    bytes.as_ptr().addr()
}

fn check_whole(buffer: &mut ReadBuffer) -> usize {
    let address = check_fit(buffer);
    assert_eq!(address % 4096, 0, "not on a page boundary");
    address
}

#[test]
#[cfg_attr(msgtrans_sanitize, ignore = "a sanitizer places memory otherwise")]
fn a_buffer_is_aligned_and_whole_after_large_reads() {
    on_a_fresh_thread(|| {
        let mut first = take_read_buffer();
        let address = check_whole(&mut first);
        drop(first);
        for used in [0, LARGE, LARGE + 1, 70_000, READ_BUFFER_LEN] {
            let mut buffer = take_read_buffer();
            assert_eq!(check_whole(&mut buffer), address, "before {used} bytes");
            buffer.bytes_mut().put_bytes(7, used);
            let slice = buffer.bytes_mut().split_to(used).freeze();
            assert_eq!(slice.len(), used);
            drop(slice);
            // A tail that nobody took is forgotten with the buffer.
            if buffer.bytes_mut().capacity() > 3 {
                buffer.bytes_mut().put_slice(b"end");
            }
            buffer.give_back();
        }
    });
}

#[test]
fn small_reads_go_behind_each_other_until_little_is_left() {
    on_a_fresh_thread(|| {
        let mut buffer = take_read_buffer();
        let mut last = check_whole(&mut buffer);
        let first = last;
        drop(buffer);
        let mut kept = Vec::new();
        for round in 0..1_000_u32 {
            let mut buffer = take_read_buffer();
            let address = check_fit(&mut buffer);
            if kept.is_empty() {
                assert_eq!(address, first, "made whole once its slices were gone");
            } else {
                let on = address - last;
                assert!((16..128).contains(&on), "{on} bytes on");
            }
            last = address;
            buffer.bytes_mut().put_u32(round);
            buffer.bytes_mut().put_bytes(1, 60);
            kept.push((round, buffer.bytes_mut().split().freeze()));
            if last - first > 10_000 {
                // All of a sudden nobody needs any of them, and the buffer is used up.
                for (round, mut slice) in kept.drain(..) {
                    assert_eq!(slice.get_u32(), round, "overwritten");
                }
                buffer.bytes_mut().put_bytes(2, LARGE);
                drop(buffer.bytes_mut().split());
            }
        }
    });
}

#[test]
fn a_slice_outlives_its_buffer_and_is_never_overwritten() {
    on_a_fresh_thread(|| {
        let mut kept: Vec<(u8, Bytes)> = Vec::new();
        for round in 0..20u8 {
            let mut buffer = take_read_buffer();
            check_fit(&mut buffer);
            let len = if round % 2 == 0 { 10_000 } else { LARGE };
            buffer.bytes_mut().put_bytes(round, len);
            kept.push((round, buffer.bytes_mut().split_to(len - 1_000).freeze()));
            if round % 3 == 0 {
                kept.swap_remove(usize::from(round / 2));
            }
        }
        for (round, slice) in &kept {
            assert!(
                slice.iter().all(|byte| byte == round),
                "slice {round} changed"
            );
        }
    });
}

#[test]
#[cfg_attr(msgtrans_sanitize, ignore = "a sanitizer places memory otherwise")]
fn a_parked_buffer_is_reclaimed_once_its_slices_are_gone() {
    on_a_fresh_thread(|| {
        let mut buffer = take_read_buffer();
        let address = check_fit(&mut buffer);
        buffer.bytes_mut().put_bytes(1, LARGE);
        let slice = buffer.bytes_mut().split().freeze();
        drop(buffer);
        let mut other = take_read_buffer();
        assert_ne!(
            check_fit(&mut other),
            address,
            "the slice still lives in it"
        );
        // The last slice drops on another thread.
        thread::spawn(move || drop(slice)).join().expect("dropper");
        let mut again = take_read_buffer();
        assert_eq!(check_fit(&mut again), address);
    });
}

#[test]
fn steady_state_allocates_nothing() {
    on_a_fresh_thread(|| {
        let (to_consumer, slices) = mpsc::sync_channel::<Bytes>(0);
        let consumer = thread::spawn(move || slices.into_iter().map(|slice| slice.len()).sum());
        let mut seen = std::collections::HashSet::new();
        for _ in 0..1_000 {
            let mut buffer = take_read_buffer();
            seen.insert(check_fit(&mut buffer));
            buffer.bytes_mut().put_bytes(1, LARGE);
            let slice = buffer.bytes_mut().split_to(LARGE).freeze();
            to_consumer.send(slice).expect("consumer");
        }
        drop(to_consumer);
        let received: usize = consumer.join().expect("consumer");
        assert_eq!(received, 1_000 * LARGE);
        // A slice or two is under way at any time: a few buffers go round.
        assert!(seen.len() <= 9, "{} buffers were used", seen.len());
    });
}

#[test]
fn buffers_whose_slices_are_kept_come_home_through_the_pool() {
    on_a_fresh_thread(|| {
        let mut seen = std::collections::HashSet::new();
        let mut keep = |count: usize| -> Vec<Bytes> {
            (0..count)
                .map(|_| {
                    let mut buffer = take_read_buffer();
                    seen.insert(check_fit(&mut buffer));
                    buffer.bytes_mut().put_slice(b"kept");
                    buffer.bytes_mut().put_bytes(0, LARGE);
                    buffer.bytes_mut().split().freeze().slice(..4)
                })
                .collect()
        };
        let slices = keep(20);
        assert!(slices.iter().all(|slice| slice == "kept"));
        drop(slices);
        // Of 20 buffers this thread has parked 4; the others are in the pool, which others use as well.
        drop(keep(20));
        assert!(seen.len() < 40, "none of them was used again");
    });
}

#[test]
fn memory_of_a_large_frame_grows_with_what_has_come() {
    on_a_fresh_thread(|| {
        let total = 900_000;
        let mut frame = BytesMut::new();
        worker::make_room(&mut frame, 100, total);
        assert!((100..1_000).contains(&frame.capacity()), "a claim");
        let mut pools = Vec::new();
        while frame.len() < total {
            let more = 10_000.min(total - frame.len());
            worker::make_room(&mut frame, more, total);
            let (come, capacity) = (frame.len() + more, frame.capacity());
            assert!(capacity >= come);
            assert!(capacity <= 4 * come + 72 * 1024, "{capacity} for {come}");
            if pools.last() != Some(&capacity) {
                pools.push(capacity);
            }
            frame.put_bytes((frame.len() / 10_000) as u8, more);
        }
        assert!(pools.len() <= 6, "{pools:?}");
        let whole = frame.freeze();
        let right = |(index, byte): (usize, &u8)| usize::from(*byte) == index / 10_000;
        assert!(whole.iter().enumerate().all(right), "lost while it grew");
    });
}

#[test]
fn frames_that_are_kept_cost_no_more_than_themselves_beyond_the_pool() {
    let _alone = TRIMMING.write();
    let total = 300_000;
    let mut kept = Vec::new();
    for _ in 0..60 {
        let mut frame = BytesMut::new();
        worker::make_room(&mut frame, total / 2, total);
        frame.put_bytes(1, total / 2);
        worker::make_room(&mut frame, total / 2, total);
        frame.put_bytes(1, total / 2);
        kept.push(frame);
    }
    let spacious = kept.iter().filter(|frame| frame.capacity() > 2 * total);
    assert!(spacious.count() <= 16, "the pool keeps 16 of 1 MiB");
}

#[test]
fn memory_of_large_frames_comes_home() {
    let _alone = TRIMMING.write();
    let gather = |len: usize| {
        let mut frame = BytesMut::new();
        worker::make_room(&mut frame, 20_000, len);
        frame.put_bytes(1, 20_000);
        worker::make_room(&mut frame, len - 20_000, len);
        frame.put_bytes(1, len - 20_000);
        frame.freeze()
    };
    let before = worker::stats();
    for len in [65_552, 250_000, 1_048_592] {
        for _ in 0..20 {
            // The last slice of one lives until the next one is whole.
            let kept = gather(len).slice(len - 1..);
            assert_eq!(gather(len).len() + kept.len(), len + 1);
        }
    }
    let after = worker::stats();
    let misses = after.frame_misses - before.frame_misses;
    assert!(misses <= 8, "{misses} of 240 were allocated");
    assert!(after.frame_hits - before.frame_hits >= 112);
    let held: usize = after.pool.tiers.iter().map(|tier| tier.leased).sum();
    let read = after.pool.tiers[1].leased;
    assert_eq!(held, read, "no frame is under way");
}

#[test]
fn trimming_empties_this_thread_at_once() {
    let _alone = TRIMMING.write();
    thread::spawn(|| {
        let before = worker::stats();
        drop(take_read_buffer());
        put_out_buffer(Vec::with_capacity(100));
        worker::trim();
        assert_eq!(take_out_buffer().capacity(), 0);
        let mut buffer = take_read_buffer();
        check_fit(&mut buffer);
        let after = worker::stats();
        assert!(after.read_misses > before.read_misses);
        assert!(after.out_misses > before.out_misses);
    })
    .join()
    .expect("test thread");
}

#[test]
#[cfg_attr(msgtrans_sanitize, ignore = "a sanitizer places memory otherwise")]
fn a_lent_buffer_is_the_one_at_hand_and_its_slices_live_on() {
    on_a_fresh_thread(|| {
        let mut taken = take_read_buffer();
        let first = check_whole(&mut taken);
        drop(taken);
        let mut kept = Vec::new();
        for round in 0..1_000_u32 {
            let (at, slice) = worker::with_read_buffer(|buffer| {
                assert!(buffer.is_empty() && buffer.capacity() >= READ_BUFFER_LEN);
                let at = buffer.as_ptr().addr();
                buffer.put_u32(round);
                buffer.put_bytes(1, 60);
                let slice = buffer.split().freeze();
                // What is left is forgotten.
                buffer.put_slice(b"left");
                (at, slice)
            });
            if kept.is_empty() {
                assert_eq!(at, first + 64 * round as usize, "behind the last one");
            }
            if !kept.is_empty() || at - first > 10_000 {
                kept.push((round, slice));
            }
        }
        for (round, mut slice) in kept {
            assert_eq!(slice.get_u32(), round, "overwritten");
        }
    });
}

#[test]
fn what_is_split_off_is_what_was_read_and_the_rest_begins_on_a_line() {
    on_a_fresh_thread(|| {
        let mut kept = Vec::new();
        for len in 0..300_usize {
            let (filled, rest) = worker::with_read_buffer(|buffer| {
                buffer.put_bytes(len as u8, len);
                (worker::split_filled(buffer), buffer.as_ptr().addr())
            });
            assert_eq!(rest % 64, 0, "behind {len} bytes");
            kept.push((len, filled));
        }
        for (len, filled) in kept {
            assert_eq!(filled, vec![len as u8; len]);
        }
        // Where there is no room for a line, nothing is lost either.
        let mut full = BytesMut::from(&[7; 100][..]);
        assert_eq!(worker::split_filled(&mut full), [7; 100][..]);
    });
}

#[test]
fn a_buffer_lent_inside_of_another_is_another() {
    on_a_fresh_thread(|| {
        worker::with_read_buffer(|outer| {
            outer.put_slice(b"outer");
            let at = outer.as_ptr().addr();
            worker::with_read_buffer(|inner| {
                assert_ne!(inner.as_ptr().addr(), at);
                inner.put_slice(b"inner");
            });
            let mut taken = take_read_buffer();
            assert_ne!(check_fit(&mut taken), at);
            assert_eq!(outer, "outer");
        });
        // Left by a read that panicked: nobody sees it.
        let panicked = std::panic::catch_unwind(|| {
            worker::with_read_buffer(|buffer| {
                buffer.put_slice(b"secret");
                panic!("in the middle of a read");
            });
        });
        assert!(panicked.is_err());
        worker::with_read_buffer(|buffer| assert!(buffer.is_empty()));
        // Swapped for another one: what is lent next is good all the same.
        let taken = worker::with_read_buffer(std::mem::take);
        assert!(taken.capacity() >= READ_BUFFER_LEN);
        worker::with_read_buffer(|buffer| assert!(buffer.capacity() >= READ_BUFFER_LEN));
    });
}

#[test]
fn a_buffer_given_back_on_another_thread_serves_that_thread() {
    on_a_fresh_thread(|| {
        let mut buffer = take_read_buffer();
        let address = check_fit(&mut buffer);
        thread::spawn(move || {
            drop(buffer);
            assert_eq!(check_fit(&mut take_read_buffer()), address);
        })
        .join()
        .expect("other thread");
    });
}

#[test]
fn a_buffer_swapped_away_by_its_user_is_replaced_by_a_good_one() {
    on_a_fresh_thread(|| {
        let mut buffer = take_read_buffer();
        let taken = std::mem::take(buffer.bytes_mut());
        drop(buffer);
        let mut buffer = take_read_buffer();
        *buffer.bytes_mut() = BytesMut::with_capacity(2 * READ_BUFFER_LEN);
        drop(buffer);
        check_fit(&mut take_read_buffer());
        assert!(taken.capacity() >= READ_BUFFER_LEN);
    });
}

#[test]
fn out_buffers_come_back_empty_with_their_capacity() {
    on_a_fresh_thread(|| {
        let mut buffer = take_out_buffer();
        buffer.extend_from_slice(&[1; 5_000]);
        let capacity = buffer.capacity();
        put_out_buffer(buffer);
        let buffer = take_out_buffer();
        assert!(buffer.is_empty());
        assert_eq!(buffer.capacity(), capacity);
    });
}

#[test]
fn out_buffers_that_grew_large_and_those_beyond_four_are_freed() {
    on_a_fresh_thread(|| {
        put_out_buffer(Vec::with_capacity(OUT_BUFFER_KEPT_MAX + 1));
        assert_eq!(take_out_buffer().capacity(), 0);
        for _ in 0..6 {
            put_out_buffer(Vec::with_capacity(10));
        }
        let kept = (0..6).filter(|_| take_out_buffer().capacity() > 0).count();
        assert_eq!(kept, 4);
    });
}
