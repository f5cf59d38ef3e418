//! Typed payloads (feature `serde`).

use std::collections::BTreeMap;

use msgtrans_core::{DecodeError, EncodeError, Packet, PacketType};

#[test]
fn a_value_survives_and_may_borrow_from_the_packet() {
    let order = BTreeMap::from([("symbol", "EURUSD"), ("side", "buy")]);
    let packet = Packet::json(&order).expect("a JSON value");
    assert_eq!(packet.packet_type, PacketType::OneWay);
    assert_eq!(packet.payload, r#"{"side":"buy","symbol":"EURUSD"}"#);
    let read: BTreeMap<&str, &str> = packet.payload_as_json().expect("our own bytes");
    assert_eq!(read, order);
}

#[test]
fn what_is_not_json_says_so() {
    let no_string_keys = BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(
        Packet::json(&no_string_keys),
        Err(EncodeError::Json { .. })
    ));
    for payload in ["", "{", "\"text\"", "1 2"] {
        let read = Packet::text(payload).payload_as_json::<u32>();
        let error = read.expect_err(payload);
        assert!(matches!(error, DecodeError::Json { .. }));
        assert!(
            error
                .to_string()
                .starts_with("payload is not the expected JSON: ")
        );
    }
}
