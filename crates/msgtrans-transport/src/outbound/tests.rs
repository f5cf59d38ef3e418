//! Positions of confirmations, and what is refused without an encoder.

use bytes::Bytes;
use msgtrans_core::{PacketType, encode};

use super::*;

fn batch(framing: Framing) -> OutboundBatch {
    OutboundBatch::new(framing, WireVersion::V2)
}

fn confirm(batch: &mut OutboundBatch) -> Confirmed {
    let (confirmation, confirmed) = Confirmation::new();
    batch.confirm(confirmation);
    confirmed
}

fn state(confirmed: &mut Confirmed) -> Poll<bool> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    Pin::new(confirmed).poll(&mut cx)
}

#[test]
fn a_confirmation_falls_due_with_the_last_byte_of_its_packet() {
    let mut batch = batch(Framing::Encode(encode));
    batch.push(&Packet::text("first")).expect("encodes");
    let mut first = confirm(&mut batch);
    let len = batch.len();
    batch
        .push(&Packet::binary(vec![0; 10_000]))
        .expect("encodes");
    let mut second = confirm(&mut batch);

    batch.bytes_mut().advance(len - 1);
    batch.complete_taken();
    assert_eq!(state(&mut first), Poll::Pending);
    batch.bytes_mut().advance(1);
    batch.complete_taken();
    assert_eq!(state(&mut first), Poll::Ready(true));
    assert_eq!(state(&mut second), Poll::Pending);
    drop(batch);
    assert_eq!(state(&mut second), Poll::Ready(false), "dropped is failed");
}

#[test]
fn a_confirmation_of_packets_falls_due_with_its_packet() {
    let mut batch = batch(Framing::Packets);
    batch.push(&Packet::text("first")).expect("a packet");
    let mut first = confirm(&mut batch);
    batch.push(&Packet::text("")).expect("a packet");
    let mut second = confirm(&mut batch);
    assert_eq!(batch.len(), 64 + 5 + 64);
    batch.pop().expect("the first");
    batch.complete_taken();
    assert_eq!(
        (state(&mut first), state(&mut second)),
        (Poll::Ready(true), Poll::Pending)
    );
    batch.pop().expect("the second");
    let taken = batch.take_confirmations();
    assert_eq!((taken.len(), batch.has_confirmations()), (1, false));
    assert_eq!(
        state(&mut second),
        Poll::Pending,
        "taken, to be completed later"
    );
    taken.into_iter().for_each(Confirmation::complete);
    assert_eq!(state(&mut second), Poll::Ready(true));
    assert!(batch.is_empty());
}

#[test]
fn a_confirmation_of_nothing_falls_due_at_once() {
    let mut batch = batch(Framing::Encode(encode));
    let mut nothing = confirm(&mut batch);
    batch.complete_taken();
    assert_eq!(state(&mut nothing), Poll::Ready(true));
}

/// What an encoder refuses is refused by a batch of packets too.
#[test]
fn a_packet_without_an_encoding_is_refused_by_every_framing() {
    for framing in [Framing::Encode(encode), Framing::Packets] {
        let mut batch = batch(framing);
        for bad in [
            Packet::text("").with_ext_header(vec![0; 65_536]),
            Packet::numbered(PacketType::Ping, 1, vec![0; 65]),
            Packet::request("").with_flags(msgtrans_core::Flags::UNRELIABLE),
        ] {
            batch.push(&bad).expect_err("cannot be encoded");
        }
        assert!(batch.is_empty(), "{framing:?}");
        let mut v1 = OutboundBatch::new(framing, WireVersion::V1);
        let hello = Packet::numbered(PacketType::Hello, 0, "");
        assert!(v1.push(&hello).is_err(), "{framing:?}");
    }
}

#[test]
fn encoded_bytes_are_shared_among_batches() {
    let mut batch = batch(Framing::Encode(encode));
    let encoded = Bytes::from(vec![7; 10_000]);
    batch.push_encoded(&encoded);
    assert_eq!(batch.bytes_mut().chunk().as_ptr(), encoded.as_ptr());
}
