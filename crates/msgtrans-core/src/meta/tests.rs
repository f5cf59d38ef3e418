//! META fields: what survives, what is refused, what pins memory.

use super::*;

fn round_trip(meta: &Meta) -> Meta {
    let mut out = Vec::new();
    meta.put(&mut out);
    assert_eq!(meta.encoded_len(), Ok(out.len()));
    Meta::decode(&out).expect("our own bytes")
}

fn full() -> Meta {
    Meta {
        deadline: Some(Duration::from_millis(1500)),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        key: Some(Bytes::from_static(b"price:EURUSD")),
        code: Some(Code::OVERLOADED),
    }
}

#[test]
fn every_combination_of_fields_survives() {
    for bits in 0..16 {
        let mut meta = full();
        if bits & 1 == 0 {
            meta.deadline = None;
        }
        if bits & 2 == 0 {
            meta.traceparent = None;
        }
        if bits & 4 == 0 {
            meta.key = None;
        }
        if bits & 8 == 0 {
            meta.code = None;
        }
        assert_eq!(round_trip(&meta), meta);
    }
}

#[test]
fn a_deadline_is_rounded_up_and_saturates() {
    for (given, wire) in [
        (Duration::ZERO, Duration::ZERO),
        (Duration::from_nanos(1), Duration::from_millis(1)),
        (Duration::from_millis(7), Duration::from_millis(7)),
        (Duration::from_micros(7001), Duration::from_millis(8)),
        (Duration::MAX, Duration::from_millis(u64::from(u32::MAX))),
    ] {
        let meta = Meta::new().with_deadline(given);
        assert_eq!(round_trip(&meta).deadline, Some(wire), "{given:?}");
    }
}

#[test]
fn lengths_are_bounded_on_both_sides_at_the_same_byte() {
    for (field, max, tag) in [("traceparent", 256, 22), ("key", 1024, 23)] {
        let meta = |len| match field {
            "key" => Meta {
                key: Some(vec![b'k'; len].into()),
                ..Meta::new()
            },
            _ => Meta::new().with_traceparent("t".repeat(len)),
        };
        assert_eq!(round_trip(&meta(max)), meta(max));
        let len = max + 1;
        let too_long = EncodeError::MetaTooLong { field, len, max };
        assert_eq!(meta(len).encoded_len(), Err(too_long));
        let mut body = Vec::new();
        meta(len).put(&mut body);
        assert_eq!(
            Meta::decode(&body),
            Err(DecodeError::TlvLength { tag, len })
        );
    }
}

#[test]
fn unknown_fields_are_skipped_and_broken_ones_refused() {
    let mut body = Vec::new();
    tlv::put(&mut body, 200, b"from the future");
    full().put(&mut body);
    assert_eq!(Meta::decode(&body), Ok(full()));
    tlv::put(&mut body, tag::DEADLINE_MS, b"1234");
    assert_eq!(
        Meta::decode(&body),
        Err(DecodeError::TlvDuplicate { tag: 21 })
    );
    for (tag, value) in [(16, &b"1"[..]), (21, b"12345"), (21, b"")] {
        let mut body = Vec::new();
        tlv::put(&mut body, tag, value);
        let len = value.len();
        assert_eq!(
            Meta::decode(&body),
            Err(DecodeError::TlvLength { tag, len })
        );
    }
}
