//! The hot path by itself, so often as it is told: `cargo xtask counts` runs this under callgrind with two numbers and
//! divides the difference, which leaves out everything that happens once.

mod echo;

use bytes::{Buf, Bytes};
use msgtrans_actor::{Bounds, Mailbox};
use msgtrans_core::{
    Decoder, Limits, OutBuffer, Packet, PacketBatch, WireVersion, WireVersions, encode,
};
use msgtrans_lockfree::LockFreeQueue;
use std::collections::VecDeque;
use std::hint::black_box;
use std::process::ExitCode;

/// Operations of one repetition: a session meets messages in batches.
const BATCH: u32 = 32;
const PAYLOAD: usize = 64;

/// What is counted, an operation each.
const WORKS: [(&str, Work); 9] = [
    ("encode a frame of 64 B", encoding),
    ("decode a frame of 64 B", decoding),
    ("queue push and pop", queue),
    ("mailbox push and take", mailbox),
    ("session echo of 64 B, tcp", echo::tcp),
    ("session echo of 64 B, ws", echo::ws),
    ("session one-way of 64 B, tcp", echo::one_way),
    ("lone session echo of 64 B, tcp", echo::lone_tcp),
    ("lone session echo of 64 B, ws", echo::lone_ws),
];

/// Repeats something so many times.
type Work = fn(u32) -> Result<(), String>;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let ended = match (args.next(), args.next().map(|times| times.parse())) {
        (None, _) => {
            // For who counts: how many operations a repetition is, and the names.
            println!("{BATCH}");
            WORKS.iter().for_each(|(name, _)| println!("{name}"));
            Ok(())
        }
        (Some(asked), Some(Ok(times))) => match WORKS.iter().find(|(name, _)| *name == asked) {
            Some((_, work)) => work(times),
            None => Err(format!("{asked}: no such work")),
        },
        _ => Err("usage: counts [WORK TIMES]".to_owned()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("counts: {error}");
            ExitCode::FAILURE
        }
    }
}

fn packets() -> Vec<Packet> {
    (1..=BATCH)
        .map(|id| Packet::binary(vec![id as u8; PAYLOAD]).with_message_id(id))
        .collect()
}

fn encoding(times: u32) -> Result<(), String> {
    let (packets, mut out) = (packets(), OutBuffer::new());
    for _ in 0..times {
        for packet in black_box(&packets) {
            encode(packet, WireVersion::V2, &mut out).map_err(|error| error.to_string())?;
        }
        black_box(out.chunk());
        out.advance(out.len());
    }
    Ok(())
}

fn decoding(times: u32) -> Result<(), String> {
    let mut out = OutBuffer::new();
    for packet in &packets() {
        encode(packet, WireVersion::V2, &mut out).map_err(|error| error.to_string())?;
    }
    let bytes = Bytes::copy_from_slice(out.chunk());
    let mut decoder = Decoder::new(WireVersions::V2, Limits::default());
    decoder.set_wire(WireVersion::V2, Limits::default());
    let mut batch = PacketBatch::new();
    for _ in 0..times {
        decoder.push(black_box(&bytes).clone());
        let decoded = decoder.decode(usize::MAX, &mut batch);
        decoded.map_err(|error| error.to_string())?;
        let mut taken = 0;
        while let Some(packet) = batch.pop() {
            black_box(packet);
            taken += 1;
        }
        if taken != BATCH {
            return Err(format!("{taken} frames of {BATCH}"));
        }
    }
    Ok(())
}

fn queue(times: u32) -> Result<(), String> {
    let queue = LockFreeQueue::bounded(BATCH as usize);
    for _ in 0..times {
        for value in 0..BATCH {
            queue
                .try_push(black_box(value))
                .map_err(|error| error.to_string())?;
        }
        while let Some(value) = queue.pop() {
            black_box(value);
        }
    }
    Ok(())
}

fn mailbox(times: u32) -> Result<(), String> {
    let bounds = Bounds {
        items: 1024,
        bytes: 1 << 20,
    };
    let mailbox = Mailbox::<(), u32>::new(bounds);
    let mut taken = VecDeque::new();
    for _ in 0..times {
        for value in 0..BATCH {
            let pushed = mailbox.try_push(black_box(value), PAYLOAD);
            pushed.map_err(|error| format!("{error:?}"))?;
        }
        mailbox.take(usize::MAX, &mut taken, |_| PAYLOAD);
        while let Some(value) = taken.pop_front() {
            black_box(value);
        }
    }
    Ok(())
}
