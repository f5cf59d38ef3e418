//! Packets, identifiers, reasons and batches as applications use them.

use std::sync::Arc;

use bytes::Bytes;
use msgtrans_core::{
    CloseReason, Code, ConnectionInfo, Flags, Initiator, Meta, Packet, PacketBatch, PacketType,
    PeerAddress, SessionId, WireVersion, WireVersions,
};

#[test]
fn what_crosses_threads_is_send_and_sync() {
    fn check<T: Send + Sync + 'static>() {}
    check::<Packet>();
    check::<msgtrans_core::Decoder>();
    check::<msgtrans_core::OutBuffer>();
    check::<msgtrans_core::Hello>();
    check::<msgtrans_core::Welcome>();
    check::<msgtrans_core::Goodbye>();
    check::<CloseReason>();
    check::<ConnectionInfo>();
    check::<SessionId>();
    check::<msgtrans_core::TransportError>();
    check::<msgtrans_core::HandlerError>();
    check::<msgtrans_core::SendError>();
    check::<msgtrans_core::RequestError>();
    // A batch is one task's at a time.
    fn moves<T: Send + 'static>() {}
    moves::<PacketBatch>();
    check::<msgtrans_core::ConnectError>();
}

#[test]
fn constructors_set_what_they_are_named_for() {
    let text = Packet::text("grüße");
    assert_eq!(text.packet_type, PacketType::OneWay);
    assert_eq!(text.payload_as_string().as_deref(), Some("grüße"));
    assert_eq!(Packet::binary(&b"\xff"[..]).payload_as_string(), None);
    assert_eq!(Packet::request("r").packet_type, PacketType::Request);
    assert_eq!(Packet::response("r").packet_type, PacketType::Response);
    let echo = Packet::echo(9, "e");
    assert_eq!((echo.packet_type, echo.message_id), (PacketType::OneWay, 9));
    let failure = Packet::failure(3, Code(1000), "why");
    assert_eq!(failure.message_id, 3);
    assert_eq!(failure.meta.expect("a code").code, Some(Code(1000)));
    assert_eq!(Packet::text("").with_meta(Meta::new()).meta, None);
}

#[test]
fn a_session_numbers_only_what_the_application_did_not() {
    let id_of = |mut packet: Packet| {
        packet.assign_id(|| 77);
        packet.assign_id(|| 78);
        packet.message_id
    };
    assert_eq!(id_of(Packet::text("x")), 77);
    assert_eq!(id_of(Packet::text("x").with_message_id(5)), 5);
    assert_eq!(id_of(Packet::text("x").with_message_id(0)), 0);
    assert_eq!(id_of(Packet::echo(0, "x")), 0);
    let mut by_field = Packet::text("x");
    by_field.message_id = 6;
    assert_eq!(id_of(by_field), 6);
}

#[test]
fn debug_output_never_shows_a_payload() {
    let packet = Packet::text("hunter2")
        .with_ext_header("hunter3")
        .with_flags(Flags::HIGH_PRIORITY);
    let text = format!("{packet:?}");
    assert!(!text.contains("hunter"), "{text}");
    assert!(text.contains("payload_len: 7") && text.contains("HIGH_PRIORITY"));
}

#[test]
fn detach_copies_small_parts_alone() {
    let buffer = Bytes::from(vec![7; 1000]);
    let mut packet = Packet::binary(buffer.slice(..900)).with_ext_header(buffer.slice(900..));
    packet.detach(100);
    assert_eq!(packet.payload.as_ptr(), buffer.as_ptr());
    assert_ne!(packet.ext_header.as_ptr(), buffer[900..].as_ptr());
    assert_eq!(packet.ext_header, buffer[900..]);
}

#[test]
fn a_batch_counts_packets_and_bytes_in_order() {
    let mut batch = PacketBatch::new();
    assert!(batch.is_empty() && batch.pop().is_none() && batch.version().is_none());
    batch.push(Packet::echo(1, "abc"), WireVersion::V1);
    batch.push(Packet::echo(2, "").with_ext_header("xy"), WireVersion::V2);
    assert_eq!((batch.len(), batch.bytes()), (2, 64 + 3 + 64 + 2));
    assert_eq!(batch.version(), Some(WireVersion::V2));
    assert_eq!(batch.front().map(|packet| packet.message_id), Some(1));
    assert_eq!(batch.pop().map(|packet| packet.message_id), Some(1));
    assert_eq!((batch.len(), batch.bytes()), (1, 66));
    batch.clear();
    assert_eq!((batch.len(), batch.bytes()), (0, 0));
}

#[test]
fn versions_are_read_from_their_names() {
    for (text, versions) in [
        ("v1", WireVersions::V1),
        ("v2", WireVersions::V2),
        ("auto", WireVersions::Any),
        ("any", WireVersions::Any),
    ] {
        assert_eq!(text.parse(), Ok(versions));
    }
    let error = "v3".parse::<WireVersions>().expect_err("no such version");
    assert_eq!(error.to_string(), "wire of v3: must be v1, v2 or auto");
}

#[test]
fn reasons_say_who_and_why() {
    let reason = CloseReason::peer(Code::OVERLOADED, "later");
    assert_eq!(
        reason.to_string(),
        "closed by the peer: overloaded (6): later"
    );
    assert_eq!(reason.initiator, Initiator::Peer);
    assert!(!reason.is_clean());
    assert!(CloseReason::normal().is_clean());
    assert!(!CloseReason::network(Code::NORMAL, "").is_clean());
    let long = CloseReason::local(Code(4000), format!("x{}", "é".repeat(1000)));
    assert_eq!(long.reason.len(), 1023);
    assert_eq!(Code(4000).to_string(), "application (4000)");
    assert_eq!(Code(999).as_str(), "unknown");
}

#[test]
fn codes_have_the_numbers_of_the_wire_format() {
    let words = [
        "normal",
        "going away",
        "protocol error",
        "too large",
        "unauthorized",
        "rate limited",
        "overloaded",
        "timeout",
        "internal",
        "handler failed",
        "resume refused",
        "unsupported",
        "deadline exceeded",
        "cancelled",
        "slow consumer",
        "replaced",
    ];
    for (number, word) in (0..).zip(words) {
        assert_eq!(Code(number).as_str(), word);
    }
}

#[test]
fn only_foreign_addresses_are_capped() {
    let capped = |text: &str| {
        PeerAddress::Socket(text.parse().expect("an address"))
            .capped_ip()
            .map(|ip| ip.to_string())
    };
    assert_eq!(capped("127.0.0.1:1"), None);
    assert_eq!(capped("[::1]:1"), None);
    assert_eq!(capped("[::ffff:127.0.0.1]:1"), None);
    assert_eq!(capped("[::ffff:9.8.7.6]:1").as_deref(), Some("9.8.7.6"));
    assert_eq!(capped("9.8.7.6:1").as_deref(), Some("9.8.7.6"));
    assert_eq!(PeerAddress::Local("pipe".into()).capped_ip(), None);
}

#[test]
fn a_batch_gives_its_plain_messages_run_by_run_and_counts_what_is_left() {
    // Where the requests stand among ten packets: every way there is.
    for places in 0u32..1 << 10 {
        let mut batch = PacketBatch::new();
        for index in 0..10u32 {
            let payload = vec![0; index as usize];
            let packet = match places >> index & 1 {
                0 => Packet::binary(payload),
                _ => Packet::request(payload),
            };
            batch.push(packet.with_message_id(index + 1), WireVersion::V2);
        }
        let mut run = PacketBatch::new();
        let mut next = 1;
        while next <= 10 {
            batch.take_plain_run(&mut run);
            let bytes = |len: u32, from: u32| {
                (from..from + len)
                    .map(|id| 64 + id as usize - 1)
                    .sum::<usize>()
            };
            let in_run = run.len() as u32;
            assert!(run.is_plain());
            assert_eq!(run.bytes(), bytes(in_run, next));
            assert_eq!(batch.bytes(), bytes(11 - next - in_run, next + in_run));
            while let Some(packet) = run.drain_next() {
                assert_eq!(packet.into_inner().message_id, next);
                next += 1;
            }
            if let Some(other) = batch.pop() {
                assert_eq!(other.packet_type, PacketType::Request);
                assert_eq!(other.message_id, next);
                next += 1;
            }
        }
        assert!(batch.is_empty() && batch.is_plain() && batch.bytes() == 0);
    }
}

#[test]
fn a_packet_that_is_done_with_lets_go_of_all_its_parts() {
    let held = Arc::new([7u8; 100]);
    let bytes = || Bytes::from_owner(Shared(held.clone()));
    let plain = Packet::binary(bytes());
    let with_header = Packet::binary(bytes()).with_ext_header(bytes());
    let mut meta = Meta::default();
    meta.code = Some(Code::NORMAL);
    let with_meta = Packet::binary(bytes()).with_meta(meta);
    assert_eq!(Arc::strong_count(&held), 5);
    for packet in [plain, with_header, with_meta] {
        packet.done_with();
    }
    assert_eq!(Arc::strong_count(&held), 1);
}

struct Shared(Arc<[u8; 100]>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &*self.0
    }
}
