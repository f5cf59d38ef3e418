//! What one frame costs to encode and to decode, 32 at a time as a session does, beside a plain copy of its bytes.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;
use std::time::Duration;

use bytes::{Buf, Bytes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use micro::Stopwatch;
use msgtrans_core::{
    Decoder, HEADER_LEN, Limits, OutBuffer, Packet, PacketBatch, WireVersion, WireVersions, encode,
};

const BATCH: u32 = 32;

fn packets(payload: usize) -> Vec<Packet> {
    (0..BATCH)
        .map(|id| Packet::binary(vec![id as u8; payload]).with_message_id(id + 1))
        .collect()
}

fn encoded(packets: &[Packet]) -> Bytes {
    let mut out = OutBuffer::new();
    for packet in packets {
        encode(packet, WireVersion::V2, &mut out).expect("plain packets encode");
    }
    Bytes::copy_from_slice(out.chunk())
}

fn time(iters: u64, mut once: impl FnMut()) -> Duration {
    let watch = Stopwatch::start();
    for _ in 0..iters {
        once();
    }
    watch.elapsed()
}

fn codec(criterion: &mut Criterion) {
    for payload in [64, 1024] {
        let packets = packets(payload);
        let bytes = encoded(&packets);
        assert_eq!(bytes.len(), BATCH as usize * (HEADER_LEN + payload));
        let mut group = criterion.benchmark_group("codec");
        group.throughput(Throughput::Elements(u64::from(BATCH)));

        group.bench_function(format!("encode/{payload}"), |bencher| {
            let mut out = OutBuffer::new();
            bencher.iter_custom(|iters| {
                time(iters, || {
                    for packet in black_box(&packets) {
                        encode(packet, WireVersion::V2, &mut out).expect("plain packets encode");
                    }
                    black_box(out.chunk());
                    out.advance(out.len());
                })
            });
        });
        group.bench_function(format!("copy/{payload}"), |bencher| {
            let mut out = Vec::new();
            bencher.iter_custom(|iters| {
                time(iters, || {
                    for packet in black_box(&packets) {
                        out.extend_from_slice(&[0; HEADER_LEN]);
                        out.extend_from_slice(&packet.payload);
                    }
                    black_box(&out[..]);
                    out.clear();
                })
            });
        });
        group.bench_function(format!("decode/{payload}"), |bencher| {
            let mut decoder = Decoder::new(WireVersions::V2, Limits::default());
            decoder.set_wire(WireVersion::V2, Limits::default());
            let mut batch = PacketBatch::new();
            bencher.iter_custom(|iters| {
                time(iters, || {
                    decoder.push(black_box(&bytes).clone());
                    decoder
                        .decode(usize::MAX, &mut batch)
                        .expect("whole frames decode");
                    assert_eq!(batch.len(), BATCH as usize);
                    // Taken out one by one, as the lanes take them.
                    while let Some(packet) = batch.pop() {
                        black_box(packet);
                    }
                })
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).nresamples(5_000);
    targets = codec
}
criterion_main!(benches);
