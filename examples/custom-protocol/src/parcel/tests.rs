//! Messages: what goes into one, and what none may hold.

use bytes::Bytes;
use msgtrans_core::{Code, Limits, Packet, PacketType, WireVersion};
use msgtrans_transport::{Framing, OutboundBatch};

use super::packer::Packer;
use super::unpacker::Unpacker;
use super::{MESSAGE_BYTES_MAX, kind, runs};

fn batch(packets: &[Packet]) -> OutboundBatch {
    let mut batch = OutboundBatch::new(Framing::Packets, WireVersion::V2);
    for packet in packets {
        batch.push(packet).expect("a packet that has an encoding");
    }
    batch
}

fn messages(packer: &mut Packer, packets: &[Packet]) -> Vec<Bytes> {
    let mut batch = batch(packets);
    let mut messages = Vec::new();
    while !batch.is_empty() {
        messages.push(packer.next(&mut batch).expect("a message"));
    }
    assert!(!packer.is_inside_packet());
    messages
}

fn unpack(messages: impl IntoIterator<Item = Bytes>) -> Vec<Packet> {
    let (mut unpacker, limits) = (Unpacker::default(), Limits::default());
    let mut packets = Vec::new();
    for message in messages {
        unpacker.push(message, &limits).expect("a message");
        while let Some(packet) = unpacker.next(&limits).expect("a packet") {
            packets.push(packet);
        }
    }
    assert_eq!(unpacker.held_bytes(), None);
    packets
}

/// Bytes without a pattern, the same ones each time.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

fn noisy(id: u32, bytes: usize) -> Packet {
    let payload: Bytes = noise(id.into()).take(bytes).collect();
    Packet::binary(payload).with_message_id(id)
}

#[test]
fn many_small_packets_share_one_message() {
    let packets: Vec<_> = (1..=1000).map(|id| noisy(id, 20)).collect();
    let messages = messages(&mut Packer::new(MESSAGE_BYTES_MAX, true), &packets);
    assert_eq!(messages.len(), 1);
    assert_eq!(unpack(messages), packets);
}

#[test]
fn no_message_is_larger_than_configured() {
    let packets: Vec<_> = (0..200).map(|id| noisy(id, id as usize * 50)).collect();
    let messages = messages(&mut Packer::new(4096, true), &packets);
    assert!(messages.iter().all(|message| message.len() <= 4096));
    assert_eq!(unpack(messages), packets);
}

#[test]
fn a_batch_that_repeats_itself_shrinks_and_noise_does_not_grow() {
    let zeros: Vec<_> = (1..=50)
        .map(|id| Packet::binary(vec![0; 1000]).with_message_id(id))
        .collect();
    let packed = messages(&mut Packer::new(MESSAGE_BYTES_MAX, true), &zeros);
    assert_eq!(packed[0][0], kind::PACKED);
    assert!(packed[0].len() < 2000, "{} bytes", packed[0].len());
    assert_eq!(unpack(packed), zeros);
    let plain = messages(&mut Packer::new(MESSAGE_BYTES_MAX, false), &zeros);
    assert_eq!(plain[0][0], kind::BATCH);
    assert_eq!(unpack(plain), zeros);
    let noisy = messages(&mut Packer::new(MESSAGE_BYTES_MAX, true), &[noisy(1, 1000)]);
    assert_eq!((noisy[0][0], noisy[0].len()), (kind::BATCH, 1 + 5 + 1000));
}

#[test]
fn a_large_body_leaves_as_slices_of_the_packet_itself() {
    let packet = noisy(7, 200_000).with_ext_header(vec![1; 60_000]);
    let messages = messages(
        &mut Packer::new(MESSAGE_BYTES_MAX, true),
        std::slice::from_ref(&packet),
    );
    assert_eq!(messages[0][0], kind::LARGE);
    assert_eq!(messages[1].as_ptr(), packet.ext_header.as_ptr());
    assert_eq!(messages[2].as_ptr(), packet.payload.as_ptr());
    assert_eq!(unpack(messages), [packet]);
}

#[test]
fn runs_come_back() {
    let mixed: Vec<u8> = noise(3)
        .take(500)
        .flat_map(|byte| vec![byte; usize::from(byte % 5)])
        .collect();
    for plain in [
        &[][..],
        &[1],
        &[1, 1],
        &[1; 3],
        &[1; 130],
        &[1; 131],
        &[1; 10_000],
        &mixed,
    ] {
        let mut packed = Vec::new();
        runs::pack(plain, &mut packed);
        assert_eq!(runs::unpack(&packed, plain.len()).as_deref(), Ok(plain));
        if !plain.is_empty() {
            assert!(runs::unpack(&packed, plain.len() - 1).is_err());
            assert!(runs::unpack(&packed, plain.len() + 1).is_err());
            assert!(runs::unpack(&packed[..packed.len() - 1], plain.len()).is_err());
        }
    }
}

#[track_caller]
fn refused(messages: &[&[u8]]) -> Code {
    let (mut unpacker, limits) = (Unpacker::default(), Limits::default());
    let (last, before) = messages.split_last().expect("a message");
    for message in before {
        let pushed = unpacker.push(Bytes::copy_from_slice(message), &limits);
        pushed.expect("the message in front");
    }
    let last = unpacker
        .push(Bytes::copy_from_slice(last), &limits)
        .and_then(|()| unpacker.next(&limits));
    last.expect_err("should be refused").code()
}

#[test]
fn what_is_no_message_is_refused() {
    let long = vec![kind::BATCH; MESSAGE_BYTES_MAX + 1];
    assert_eq!(refused(&[&long]), Code::TOO_LARGE);
    // Claims to unpack to 2^28 - 1 bytes.
    let bomb = [kind::PACKED, 0xff, 0xff, 0xff, 0x7f, 0xff, 0];
    assert_eq!(refused(&[&bomb]), Code::TOO_LARGE);
    // Unpacks to more than it claims.
    assert_eq!(refused(&[&[kind::PACKED, 5, 0xff, 0]]), Code::TOO_LARGE);
    for message in [
        &[][..],
        &[kind::BATCH],
        &[kind::BATCH, 0, 0, 1, 5, b'h'],
        &[kind::LARGE, 0, 0, 1, 0],
        &[kind::LARGE, 0, 0, 1, 5, b'h'],
        &[kind::END, 0],
        &[99, 0],
    ] {
        assert_eq!(refused(&[message]), Code::PROTOCOL_ERROR, "{message:?}");
    }
    // An empty part, a part too long, a message behind the end.
    let large = &[kind::LARGE, 0, 0, 1, 2][..];
    assert_eq!(refused(&[large, &[]]), Code::PROTOCOL_ERROR);
    assert_eq!(refused(&[large, b"abc"]), Code::PROTOCOL_ERROR);
    assert_eq!(refused(&[&[kind::END], &[kind::END]]), Code::PROTOCOL_ERROR);
}

#[test]
fn a_large_packet_gets_memory_as_it_arrives_and_not_as_it_claims() {
    let (mut unpacker, limits) = (Unpacker::default(), Limits::default());
    let claim = Packet::numbered(PacketType::OneWay, 1, vec![0; 16 << 20]);
    let mut batch = batch(&[claim]);
    let mut packer = Packer::new(MESSAGE_BYTES_MAX, true);
    for _ in 0..2 {
        let message = packer.next(&mut batch).expect("a message");
        unpacker.push(message, &limits).expect("a message");
    }
    assert_eq!(unpacker.held_bytes(), Some(MESSAGE_BYTES_MAX));
    assert!(unpacker.capacity() <= 2 * MESSAGE_BYTES_MAX);
}

/// Damages good messages everywhere; whatever comes of it is a packet or an error.
#[test]
fn damaged_messages_do_no_harm() {
    let packets: Vec<_> = (0..20)
        .map(|id| noisy(id, id as usize * 7).with_ext_header("header"))
        .chain([Packet::failure(9, Code::OVERLOADED, "no")])
        .chain([Packet::binary(vec![0; 300])])
        .collect();
    let good = messages(&mut Packer::new(MESSAGE_BYTES_MAX, true), &packets);
    let limits = Limits::default();
    for (round, damage) in noise(1).take(20_000).enumerate() {
        let mut message = good[0].to_vec();
        let at = round % message.len();
        message[at] ^= damage;
        message.truncate(message.len() - usize::from(damage) % 3);
        let mut unpacker = Unpacker::default();
        if unpacker.push(message.into(), &limits).is_ok() {
            while let Ok(Some(packet)) = unpacker.next(&limits) {
                assert!(packet.payload.len() <= MESSAGE_BYTES_MAX);
            }
        }
    }
}
