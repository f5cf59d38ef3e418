//! Datagrams through a [`DelayLine`], on a clock of numbers.

use super::*;

fn faults(change: impl FnOnce(&mut DatagramFaults)) -> DatagramFaults {
    let mut faults = DatagramFaults::default();
    change(&mut faults);
    faults
}

/// Pushes 0 to `count` at the same moment; what leaves later than everything, in order.
fn leave(count: u8, faults: &DatagramFaults) -> Vec<u8> {
    let mut line = DelayLine::new(Random::new(7));
    let now = Instant::now();
    for number in 0..count {
        line.push(Bytes::from(vec![number]), faults, now);
    }
    let later = now + Duration::from_secs(3_600);
    std::iter::from_fn(|| line.pop(later))
        .map(|datagram| datagram[0])
        .collect()
}

#[test]
fn without_faults_all_leave_at_once_and_in_order() {
    let mut line = DelayLine::new(Random::new(7));
    let now = Instant::now();
    for number in 0..100_u8 {
        line.push(Bytes::from(vec![number]), &DatagramFaults::default(), now);
    }
    let left: Vec<u8> = std::iter::from_fn(|| line.pop(now))
        .map(|datagram| datagram[0])
        .collect();
    assert_eq!(left, (0..100).collect::<Vec<u8>>());
}

#[test]
fn loss_takes_about_its_share_and_the_same_for_the_same_seed() {
    let lossy = faults(|faults| faults.loss = 0.3);
    let left = leave(200, &lossy);
    assert!((110..170).contains(&left.len()), "{} of 200", left.len());
    assert_eq!(left, leave(200, &lossy));
}

#[test]
fn a_duplicated_datagram_leaves_twice() {
    let mut left = leave(50, &faults(|faults| faults.duplication = 1.0));
    assert_eq!(left.len(), 100);
    left.sort_unstable();
    left.dedup();
    assert_eq!(left, (0..50).collect::<Vec<u8>>());
}

#[test]
fn a_late_datagram_is_overtaken() {
    let left = leave(100, &faults(|faults| faults.reordering = 0.2));
    assert_eq!(left.len(), 100);
    assert_ne!(left, (0..100).collect::<Vec<u8>>());
}

#[test]
fn latency_holds_until_it_is_over() {
    let mut line = DelayLine::new(Random::new(7));
    let now = Instant::now();
    let latency = Duration::from_millis(20);
    let slow = faults(|faults| faults.latency = latency);
    line.push(Bytes::from_static(b"x"), &slow, now);
    assert_eq!(line.next_due(), Some(now + latency));
    assert_eq!(line.pop(now + latency - Duration::from_nanos(1)), None);
    assert!(line.pop(now + latency).is_some());
}

#[test]
fn bandwidth_spreads_what_comes_at_once() {
    let mut line = DelayLine::new(Random::new(7));
    let now = Instant::now();
    let narrow = faults(|faults| faults.bytes_per_second = 1_000.try_into().ok());
    for _ in 0..3 {
        line.push(Bytes::from_static(&[0; 100]), &narrow, now);
    }
    for passed in 1..=3 {
        assert_eq!(
            line.next_due(),
            Some(now + Duration::from_millis(100 * passed))
        );
        let due = line.next_due().expect("one waits");
        assert!(line.pop(due).is_some());
    }
}

#[test]
fn what_does_not_fit_is_lost() {
    let mut line = DelayLine::new(Random::new(7));
    let now = Instant::now();
    let slow = faults(|faults| faults.latency = Duration::from_secs(1));
    let datagram = Bytes::from(vec![0; 1_000]);
    let fits = HELD_BYTES_MAX / cost(&datagram);
    for number in 0..fits + 10 {
        let fate = line.push(datagram.clone(), &slow, now);
        assert_eq!(fate.lost, number >= fits);
    }
    assert!(line.held_bytes <= HELD_BYTES_MAX);
    assert_eq!(line.clear(), fits);
    assert_eq!(line.next_due(), None);
}
