//! Version 1 on a QUIC stream: every frame behind its length, however the stream is cut.

use bytes::{Buf, Bytes};
use msgtrans_core::{
    Decoder, HEADER_LEN, Header, Limits, OutBuffer, PacketBatch, ReadTarget, WireVersion,
    WireVersions, codec,
};
use msgtrans_quic::fuzzing::{Unprefix, encode_prefixed};

use crate::frames::{self, Content};
use crate::input::{Cuts, Input};

const PREFIX_LEN: usize = 4;

/// Reassembly finds what one frame at a time shows: the same packets, an error where that has one.
pub(crate) fn quic_stream(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choices = input.byte();
    let limits = frames::limits(&mut input);
    let budget_bytes = usize::from(input.u16());
    let mut cuts = input.cuts();
    let mut stream = Vec::new();
    // Honest frames first: a fuzzer rarely writes a length that fits.
    for _ in 0..choices & 3 {
        let mut packet = frames::packet(&mut input);
        let len = usize::from(input.byte());
        packet.payload = input.take(len).to_vec().into();
        let mut out = OutBuffer::new();
        if encode_prefixed(&packet, WireVersion::V1, &mut out).is_ok() {
            stream.extend_from_slice(&out.copy_to_bytes(out.len()));
        }
    }
    let filler = if choices & 4 == 0 {
        0
    } else {
        usize::from(input.byte()) * 320
    };
    stream.extend_from_slice(input.rest());
    stream.resize(stream.len() + filler, 0);

    let expected = one_by_one(&stream, &limits);
    let single = choices & 8 != 0;
    let split = incrementally(&stream, limits, single, budget_bytes, &mut cuts);
    same(&expected, &split);
    let mut whole = Input::new(&[255; 4]).cuts();
    let at_once = incrementally(&stream, limits, false, usize::MAX, &mut whole);
    same(&expected, &at_once);
}

/// Which error it is depends on what has arrived: a length is judged with the header behind it.
fn same(expected: &Content, got: &Content) {
    assert_eq!(expected.packets, got.packets);
    assert_eq!(
        expected.end.as_ref().map_err(drop),
        got.end.as_ref().map_err(drop),
        "{:?} {:?}",
        expected.end,
        got.end
    );
}

fn one_by_one(mut stream: &[u8], limits: &Limits) -> Content {
    let mut packets = Vec::new();
    let end = loop {
        let Some((prefix, rest)) = stream.split_first_chunk::<PREFIX_LEN>() else {
            // The zero that makes a stream visible begins no frame.
            break Ok(stream.is_empty() || (packets.is_empty() && stream == [0]));
        };
        let Some(head) = rest.first_chunk::<HEADER_LEN>() else {
            break Ok(false);
        };
        let header = match Header::parse(head, limits) {
            Ok(header) => header,
            Err(error) => break Err(error.to_string()),
        };
        if header.frame_len() != u32::from_be_bytes(*prefix) as usize {
            break Err("a length that is not the frame's".to_owned());
        }
        if header.version != WireVersion::V1 {
            break Err("a frame of the other version".to_owned());
        }
        let Some((frame, rest)) = rest.split_at_checked(header.frame_len()) else {
            break Ok(false);
        };
        let frame = Bytes::copy_from_slice(frame);
        match codec::decode_exact(frame, Some(WireVersion::V1), limits) {
            Ok((packet, _)) => packets.push(packet),
            Err(error) => break Err(error.to_string()),
        }
        stream = rest;
    };
    Content { packets, end }
}

fn incrementally(
    stream: &[u8],
    limits: Limits,
    single: bool,
    budget_bytes: usize,
    cuts: &mut Cuts,
) -> Content {
    let mut decoder = Decoder::new(WireVersions::V1, limits);
    let mut prefix = Unprefix::new(limits);
    if !single {
        decoder.set_wire(WireVersion::V1, limits);
        prefix.set_limits(limits);
    }
    let mut batch = PacketBatch::new();
    let mut packets = Vec::new();
    let mut left = stream;
    loop {
        loop {
            if let Err(error) = prefix.decode(&mut decoder, budget_bytes, &mut batch) {
                return Content {
                    packets,
                    end: Err(error.to_string()),
                };
            }
            assert!(!single || batch.len() <= 1);
            if batch.is_empty() {
                break;
            }
            packets.extend(std::iter::from_fn(|| batch.pop()));
        }
        if left.is_empty() {
            break;
        }
        let len = cuts.next_len().min(left.len());
        let len = match decoder.read_target() {
            ReadTarget::Shared => {
                prefix.push(Bytes::copy_from_slice(&left[..len]));
                len
            }
            ReadTarget::Direct(max) => {
                let len = frames::read_direct(decoder.direct_buffer(), &left[..len.min(max)]);
                prefix.read_directly(len);
                len
            }
        };
        left.advance(len);
    }
    Content {
        packets,
        end: Ok(prefix.is_at_boundary() && decoder.is_at_boundary()),
    }
}
