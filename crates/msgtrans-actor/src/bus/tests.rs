//! What a slow subscriber loses, and that it is told.

use super::*;

fn published(bus: &EventBus<u32>, events: std::ops::Range<u32>) {
    for event in events {
        bus.publish(|| event);
    }
}

#[tokio::test]
async fn every_subscriber_hears_every_event_from_its_start() {
    let bus = EventBus::new(8);
    let mut first = bus.subscribe();
    published(&bus, 0..1);
    let mut second = bus.subscribe();
    published(&bus, 1..2);
    assert_eq!(first.next().await, Some(Received::Event(0)));
    assert_eq!(first.next().await, Some(Received::Event(1)));
    assert_eq!(second.next().await, Some(Received::Event(1)));
    assert_eq!(bus.lost(), 0);
}

#[tokio::test]
async fn a_slow_subscriber_loses_the_oldest_and_is_told_how_many() {
    let bus = EventBus::new(4);
    let (mut slow, mut quick) = (bus.subscribe(), bus.subscribe());
    for event in 0..10 {
        published(&bus, event..event + 1);
        assert_eq!(quick.next().await, Some(Received::Event(event)));
    }
    assert_eq!(slow.next().await, Some(Received::Lost(6)));
    for event in 6..10 {
        assert_eq!(slow.next().await, Some(Received::Event(event)));
    }
    assert_eq!(bus.lost(), 6);
    published(&bus, 10..16);
    assert_eq!(slow.next().await, Some(Received::Lost(2)));
    assert_eq!(
        bus.clone().lost(),
        8,
        "summed over all and seen by every handle"
    );
}

#[tokio::test]
async fn nobody_listening_costs_no_event() {
    let bus = EventBus::new(4);
    bus.publish(|| -> u32 { unreachable!("nobody would hear it") });
    drop(bus.subscribe());
    bus.publish(|| unreachable!("nobody hears it any more"));
}

#[tokio::test]
async fn the_end_of_the_bus_comes_after_its_events() {
    let bus = EventBus::new(0);
    let mut receiver = bus.subscribe();
    published(&bus, 7..8);
    drop(bus);
    assert_eq!(receiver.next().await, Some(Received::Event(7)));
    assert_eq!(receiver.next().await, None);
}
