//! Lengths and frames, however the stream is cut.

use msgtrans_core::{PacketType, WireVersions};

use super::*;

fn stream(payloads: &[usize]) -> Vec<u8> {
    let mut out = OutBuffer::new();
    for (id, len) in (1..).zip(payloads) {
        let packet = Packet::new(PacketType::OneWay, vec![7; *len]).with_message_id(id);
        encode_prefixed(&packet, WireVersion::V1, &mut out).expect("encodes");
    }
    out.copy_to_bytes(out.remaining()).to_vec()
}

/// Decodes `bytes` that arrive in chunks of `chunk`, large frames through the decoder's own buffer.
fn decode(bytes: &[u8], chunk: usize, single: bool) -> Result<(Vec<usize>, bool), DecodeError> {
    let mut decoder = Decoder::new(WireVersions::V1, Limits::default());
    let mut prefix = Unprefix::new(Limits::default());
    if !single {
        decoder.set_wire(WireVersion::V1, Limits::default());
        prefix.set_limits(Limits::default());
    }
    let mut batch = PacketBatch::new();
    let mut lens = Vec::new();
    let mut left = bytes;
    loop {
        prefix.decode(&mut decoder, 4096, &mut batch)?;
        let got = batch.len();
        assert!(
            !single || got <= 1,
            "one packet a call until the wire is set"
        );
        while let Some(packet) = batch.pop() {
            lens.push(packet.payload.len());
        }
        if got > 0 {
            continue;
        }
        if left.is_empty() {
            return Ok((lens, prefix.is_at_boundary() && decoder.is_at_boundary()));
        }
        let part = match decoder.read_target() {
            msgtrans_core::ReadTarget::Direct(max) => {
                let part = max.min(chunk).min(left.len());
                decoder.direct_buffer().extend_from_slice(&left[..part]);
                prefix.read_directly(part);
                part
            }
            msgtrans_core::ReadTarget::Shared => {
                let part = chunk.min(left.len());
                prefix.push(Bytes::copy_from_slice(&left[..part]));
                part
            }
        };
        left = &left[part..];
    }
}

#[test]
fn frames_come_out_alike_however_the_stream_is_cut() {
    let lens = [0, 1, 3, 5000, 0, 100_000, 64, 40_000];
    let bytes = stream(&lens);
    for chunk in (1..64).chain([1200, 4096, 20_000, 65_536, usize::MAX]) {
        for single in [false, true] {
            let (got, whole) = decode(&bytes, chunk, single).expect("decodes");
            assert_eq!(got, lens, "chunks of {chunk}");
            assert!(whole, "chunks of {chunk}");
        }
    }
}

#[test]
fn every_cut_in_the_middle_shows() {
    let bytes = stream(&[10, 20]);
    let second = PREFIX_LEN + HEADER_LEN + 10;
    for len in 1..bytes.len() {
        let (_, whole) = decode(&bytes[..len], 7, false).expect("decodes");
        // The first byte of a length below 2^24 alone begins no frame, at the start of a stream.
        assert_eq!(whole, len == 1 || len == second, "cut after {len}");
    }
}

#[test]
fn a_length_that_is_not_its_frames_is_refused_behind_what_was_right() {
    for wrong in [0_u32, 15, 25, 27, u32::MAX] {
        let mut bytes = stream(&[5]);
        let mut second = stream(&[10]);
        second[..PREFIX_LEN].copy_from_slice(&wrong.to_be_bytes());
        bytes.extend_from_slice(&second);
        let mut decoder = Decoder::new(WireVersions::V1, Limits::default());
        decoder.set_wire(WireVersion::V1, Limits::default());
        let mut prefix = Unprefix::new(Limits::default());
        prefix.set_limits(Limits::default());
        let mut batch = PacketBatch::new();
        prefix.push(bytes.into());
        prefix
            .decode(&mut decoder, usize::MAX, &mut batch)
            .expect("the first packet is right");
        assert_eq!(batch.len(), 1);
        for _ in 0..2 {
            let error = prefix
                .decode(&mut decoder, usize::MAX, &mut batch)
                .expect_err("the second is not");
            assert!(matches!(error, DecodeError::Framing { .. }), "{error}");
        }
        assert_eq!(batch.len(), 1);
    }
}

#[test]
fn the_bytes_are_a_length_and_the_frame() {
    let packet = Packet::new(PacketType::OneWay, vec![1, 2]);
    let mut frame = OutBuffer::new();
    encode(&packet, WireVersion::V1, &mut frame).expect("encodes");
    let mut out = OutBuffer::new();
    encode_prefixed(&packet, WireVersion::V1, &mut out).expect("encodes");
    let mut expected = vec![0, 0, 0, 18];
    expected.extend_from_slice(frame.chunk());
    assert_eq!(out.chunk(), expected);
}
