//! Payloads that claim to be compressed: bombs, and streams that no encoder of ours would make.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flate2::write::ZlibEncoder;
use msgtrans_testkit::adversary::{Frame, kind, memory_bytes};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::stage::{Stage, count, row, row_with};

const ZSTD: u8 = 1;
const ZLIB: u8 = 2;

/// 24 MiB of zeros, compressed: above the limit of 16, and no more work than it takes.
fn bombs() -> [(u8, Vec<u8>); 2] {
    let zeros = vec![0; 1 << 20];
    let mut zlib = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut zstd = zstd::stream::Encoder::new(Vec::new(), 1).expect("an encoder");
    for _ in 0..24 {
        zlib.write_all(&zeros).expect("memory");
        zstd.write_all(&zeros).expect("memory");
    }
    let zlib = zlib.finish().expect("memory");
    let zstd = zstd.finish().expect("memory");
    [(ZSTD, zstd), (ZLIB, zlib)]
}

/// Sends a request with this payload in a session of its own: `None` when it is answered, the code of the Goodbye when
/// the server leaves.
async fn ends_with(stage: &Stage, compression: u8, payload: &[u8]) -> Option<u16> {
    let mut wire = stage.session().await;
    let frame = Frame::v2(kind::REQUEST).id(1).compression(compression);
    wire.send(&frame.payload(payload)).await.expect("sent");
    loop {
        let frame = wire.recv().await.expect("an answer");
        match frame.packet_type {
            kind::RESPONSE => return None,
            kind::GOODBYE => return frame.code(),
            _ => {}
        }
    }
}

#[test]
fn bombs_stop_at_the_limit_whatever_the_algorithm() {
    let each = count("MSGTRANS_ADVERSARY_BOMBS", 2);
    row(&[("too_large", 8)], async |stage| {
        let before = memory_bytes();
        let (peak, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let watching = tokio::spawn({
            let (peak, over) = (peak.clone(), over.clone());
            async move {
                let mut ticks = interval(Duration::from_millis(2));
                while !over.load(Ordering::Relaxed) {
                    peak.fetch_max(memory_bytes(), Ordering::Relaxed);
                    ticks.tick().await;
                }
            }
        });
        let mut attackers = JoinSet::new();
        for (compression, bomb) in bombs() {
            let frame = Frame::v2(kind::ONE_WAY)
                .compression(compression)
                .payload(bomb);
            for _ in 0..2 {
                for _ in 0..each {
                    let (mut wire, frame) = (stage.session().await, frame.clone());
                    attackers.spawn(async move {
                        wire.send(&frame).await.expect("sent");
                        let goodbye = wire.recv_kind(kind::GOODBYE).await.expect("left");
                        assert_eq!(goodbye.code(), Some(3));
                    });
                }
            }
        }
        attackers.join_all().await;
        over.store(true, Ordering::Relaxed);
        watching.await.expect("ran");
        let grown = peak.load(Ordering::Relaxed).saturating_sub(before);
        // Two threads decompress at a time, each up to 16 MiB and what a vector of it grows through.
        assert!(grown < 160 << 20, "{} MiB at the peak", grown >> 20);
    });
}

#[test]
fn decompressed_payloads_have_a_bound_of_their_own() {
    let change = |builder: msgtrans::TransportServerBuilder| {
        builder.session_config(|config| config.decompressed_max = 100_000)
    };
    row_with(change, &[("too_large", 2)], async |stage| {
        for (len, code) in [(100_000, None), (100_001, Some(3))] {
            let payload = vec![7; len];
            let packed = zstd::bulk::compress(&payload, 1).expect("compressed");
            assert_eq!(ends_with(stage, ZSTD, &packed).await, code, "zstd, {len}");
            let mut zlib = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            zlib.write_all(&payload).expect("memory");
            let packed = zlib.finish().expect("memory");
            assert_eq!(ends_with(stage, ZLIB, &packed).await, code, "zlib, {len}");
        }
    });
}

const MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
/// The last block: one raw byte, `A`.
const BLOCK: [u8; 4] = [9, 0, 0, b'A'];

/// A zstd frame by hand: its descriptor, what follows it in the header, one block.
fn zstd_frame(descriptor: u8, header: &[u8]) -> Vec<u8> {
    [&MAGIC, &[descriptor][..], header, &BLOCK].concat()
}

#[test]
fn crafted_streams_are_refused() {
    const ONE_BYTE: (u8, [u8; 1]) = (0x20, [1]);
    let good = zstd_frame(ONE_BYTE.0, &ONE_BYTE.1);
    let skippable = [&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let mut zlib = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    zlib.write_all(b"hello, hello, hello").expect("memory");
    let zlib = zlib.finish().expect("memory");
    let mut wrong_sum = zlib.clone();
    *wrong_sum.last_mut().expect("a sum") ^= 1;
    let mut dictionary = zlib.clone();
    // FDICT, with which the check bits happen to be zero.
    dictionary[1] = 0x20;
    let bad = [
        (ZSTD, "a window of 128 MiB", zstd_frame(0, &[0x88])),
        (ZSTD, "a window of 16 MiB", zstd_frame(0, &[0x70])),
        (
            ZSTD,
            "a content of 2^40 bytes in one segment",
            zstd_frame(0xE0, &(1_u64 << 40).to_le_bytes()),
        ),
        (ZSTD, "a content size that lies", zstd_frame(0x20, &[9])),
        (ZSTD, "an unknown dictionary", zstd_frame(0x21, &[7, 1])),
        (ZSTD, "a checksum that is not there", zstd_frame(0x24, &[1])),
        (ZSTD, "two frames", [good.clone(), good.clone()].concat()),
        (ZSTD, "a trailing byte", [good.clone(), vec![0]].concat()),
        (
            ZSTD,
            "a skippable frame in front",
            [skippable.clone(), good.clone()].concat(),
        ),
        (
            ZSTD,
            "a skippable frame behind",
            [good.clone(), skippable.clone()].concat(),
        ),
        (ZSTD, "a skippable frame alone", skippable),
        (ZSTD, "a frame cut off", good[..good.len() - 1].to_vec()),
        (ZSTD, "a header cut off", good[..5].to_vec()),
        (ZSTD, "nothing", Vec::new()),
        (ZSTD, "zlib", zlib.clone()),
        (ZLIB, "two streams", [zlib.clone(), zlib.clone()].concat()),
        (ZLIB, "a trailing byte", [zlib.clone(), vec![0]].concat()),
        (ZLIB, "a stream cut off", zlib[..zlib.len() - 5].to_vec()),
        (ZLIB, "a sum cut off", zlib[..zlib.len() - 1].to_vec()),
        (ZLIB, "a wrong sum", wrong_sum),
        (ZLIB, "a dictionary", dictionary),
        (ZLIB, "nothing", Vec::new()),
        (ZLIB, "zstd", good.clone()),
    ];
    row(&[("protocol_error", 20)], async |stage| {
        assert_eq!(ends_with(stage, ZSTD, &good).await, None);
        assert_eq!(ends_with(stage, ZLIB, &zlib).await, None);
        let mut taken = Vec::new();
        for (compression, what, payload) in &bad {
            let code = ends_with(stage, *compression, payload).await;
            if !matches!(code, Some(2 | 3)) {
                taken.push((compression, what, code));
            }
        }
        assert!(taken.is_empty(), "{taken:?}");
    });
}
