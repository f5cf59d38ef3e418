//! The buffer against a plain vector, and what it keeps in memory.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Slice(usize),
    Bytes(usize),
    Shared(usize),
    Advance(usize),
    Take(usize),
    Patch(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..200usize).prop_map(Step::Slice),
        prop_oneof![0..200usize, 4090..4100usize, 9000..9010usize].prop_map(Step::Bytes),
        (0..50usize).prop_map(Step::Shared),
        prop_oneof![0..100usize, 0..30_000usize].prop_map(Step::Advance),
        prop_oneof![0..100usize, 0..30_000usize].prop_map(Step::Take),
        (0..100usize).prop_map(Step::Patch),
    ]
}

/// What `chunks_vectored` gives for `count` slices.
fn vectored(buffer: &OutBuffer, count: usize) -> (Vec<u8>, usize) {
    let mut slices = vec![IoSlice::new(&[]); count];
    let filled = buffer.chunks_vectored(&mut slices);
    assert!(slices[..filled].iter().all(|slice| !slice.is_empty()));
    assert!(slices[filled..].iter().all(|slice| slice.is_empty()));
    (
        slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect(),
        filled,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn behaves_like_a_vector(steps in prop::collection::vec(step(), 1..60)) {
        let mut buffer = OutBuffer::new();
        let mut model = Vec::new();
        let (mut pushed, mut taken) = (0u64, 0u64);
        let mut seed = 0u8;
        let mut fresh = |len: usize| {
            seed = seed.wrapping_add(1);
            (0..len).map(|at| seed.wrapping_mul(31).wrapping_add(at as u8)).collect::<Vec<u8>>()
        };
        for step in steps {
            match step {
                Step::Slice(len) => {
                    let part = fresh(len);
                    buffer.put_slice(&part);
                    pushed += len as u64;
                    model.extend(part);
                }
                Step::Bytes(len) => {
                    let part = fresh(len);
                    buffer.put_bytes(&Bytes::from(part.clone()));
                    pushed += len as u64;
                    model.extend(part);
                }
                Step::Shared(len) => {
                    let part = fresh(len);
                    buffer.put_shared(Bytes::from(part.clone()));
                    pushed += len as u64;
                    model.extend(part);
                }
                Step::Advance(count) => {
                    let count = count.min(model.len());
                    buffer.advance(count);
                    taken += count as u64;
                    model.drain(..count);
                }
                Step::Take(max) => {
                    let part = buffer.take_bytes(max);
                    prop_assert!(part.len() <= max && (max == 0 || model.is_empty() || !part.is_empty()));
                    prop_assert_eq!(&part[..], &model[..part.len()]);
                    taken += part.len() as u64;
                    model.drain(..part.len());
                }
                Step::Patch(len) => {
                    let mark = buffer.copied_len();
                    let part = fresh(len);
                    buffer.put_slice(&vec![0; len]);
                    buffer.copied_from_mut(mark).copy_from_slice(&part);
                    pushed += len as u64;
                    model.extend(part);
                }
            }
            prop_assert_eq!(buffer.len(), model.len());
            prop_assert_eq!(buffer.is_empty(), model.is_empty());
            prop_assert_eq!((buffer.pushed(), buffer.taken()), (pushed, taken));
            prop_assert!(model.starts_with(buffer.chunk()));
            prop_assert!(model.is_empty() || !buffer.chunk().is_empty());
            prop_assert_eq!(&vectored(&buffer, 200).0, &model);
            for count in [0, 1, 2, 5] {
                let (bytes, filled) = vectored(&buffer, count);
                prop_assert!(model.starts_with(&bytes));
                prop_assert!(filled == count || bytes.len() == model.len());
            }
        }
        prop_assert_eq!(buffer.copy_to_bytes(model.len()), model);
    }
}

#[test]
fn a_buffer_that_never_runs_empty_does_not_grow_for_ever() {
    let mut buffer = OutBuffer::new();
    let mut expected = 0u8;
    let mut next = 0u8;
    for _ in 0..20_000 {
        // 150 in, 150 out, 40 KiB behind.
        let part: Vec<u8> = (0..150)
            .map(|_| {
                next = next.wrapping_add(1);
                next
            })
            .collect();
        buffer.put_slice(&part);
        if buffer.len() > 40_000 {
            for _ in 0..150 {
                expected = expected.wrapping_add(1);
                assert_eq!(buffer.chunk()[0], expected);
                buffer.advance(1);
            }
        }
    }
    assert!(
        buffer.capacity() < 200_000,
        "{} bytes held",
        buffer.capacity()
    );
}

#[test]
fn payloads_are_shared_from_the_threshold_on() {
    for (len, shared) in [(SHARED_PAYLOAD_MIN - 1, false), (SHARED_PAYLOAD_MIN, true)] {
        let payload = Bytes::from(vec![1; len]);
        let mut buffer = OutBuffer::new();
        buffer.put_bytes(&payload);
        assert_eq!(buffer.chunk().as_ptr() == payload.as_ptr(), shared);
        let taken = buffer.take_bytes(usize::MAX);
        assert_eq!(taken.as_ptr() == payload.as_ptr(), shared);
        assert_eq!(taken, payload);
    }
}

#[test]
fn memory_goes_in_and_out_empty() {
    let mut buffer = OutBuffer::from_vec(vec![1; 5000]);
    assert!(buffer.is_empty() && buffer.capacity() >= 5000);
    buffer.put_slice(b"left behind");
    let memory = buffer.into_vec();
    assert!(memory.is_empty() && memory.capacity() >= 5000);
}

#[test]
#[should_panic(expected = "advanced by 4 bytes of 3")]
fn advancing_beyond_the_end_is_a_fault_of_the_caller() {
    let mut buffer = OutBuffer::new();
    buffer.put_slice(b"abc");
    buffer.advance(4);
}

#[test]
fn a_long_backlog_is_moved_few_times_however_small_the_writes() {
    let mut buffer = OutBuffer::new();
    buffer.put_slice(&vec![1; 4 << 20]);
    let mut moves = 0;
    while !buffer.is_empty() {
        let before = buffer.chunk().as_ptr();
        buffer.advance(1 << 12);
        moves += usize::from(buffer.chunk().as_ptr() < before);
    }
    assert!(moves <= 10, "moved {moves} times");
}
