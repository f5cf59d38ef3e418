//! Peers that go in the middle of a frame, in every state, by reset and by end of stream.

use bytes::{Buf, Bytes};
use msgtrans_core::{Limits, OutBuffer, Packet, WireVersion, WireVersions, encode};
use msgtrans_tcp::TcpServerConfig;
use msgtrans_testkit::{Peer, accept};
use msgtrans_transport::{ConnectionError, ListenContext, Listener, ServerProtocol};
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const PAYLOADS: [usize; 4] = [0, 10, 5000, 100_000];

fn stream() -> Bytes {
    let mut out = OutBuffer::new();
    for len in PAYLOADS {
        let packet = Packet::binary(vec![1; len]).with_message_id(1);
        encode(&packet, WireVersion::V2, &mut out).expect("encodes");
    }
    out.copy_to_bytes(out.remaining())
}

async fn bind() -> Box<dyn Listener> {
    let context = ListenContext::new(WireVersions::Any, Limits::default());
    let config = TcpServerConfig::new("127.0.0.1:0");
    config.bind(&context).await.expect("bound")
}

/// A raw peer that writes `bytes` and goes; the other end reads whatever comes. Returns how many whole packets did and
/// how it ended.
async fn cut_after(
    listener: &mut dyn Listener,
    bytes: &[u8],
    reset: bool,
) -> (usize, Result<(), ConnectionError>) {
    let endpoint = listener.local_endpoint();
    let mut raw = TcpStream::connect(endpoint.authority().expect("host and port"))
        .await
        .expect("answers");
    let connection = accept(listener).await.expect("came");
    let mut peer = Peer::new(connection, WireVersion::V2);
    raw.write_all(bytes).await.expect("written");
    if reset {
        SockRef::from(&raw)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("option");
    }
    drop(raw);
    let mut packets = 0;
    loop {
        match peer.recv().await {
            Ok(Some(packet)) => {
                assert_eq!(packet.payload.len(), PAYLOADS[packets], "whole, in order");
                peer.set_wire(Limits::default());
                packets += 1;
            }
            Ok(None) => return (packets, Ok(())),
            Err(error) => return (packets, Err(error)),
        }
    }
}

/// Offsets at, in front of and behind every boundary, and some in between.
fn offsets(stream: &Bytes) -> Vec<usize> {
    let ends = PAYLOADS.iter().scan(0, |at, len| {
        *at += 16 + len;
        Some(*at)
    });
    let near = [0].into_iter().chain(ends).flat_map(|end: usize| {
        [
            end.saturating_sub(1),
            end,
            end + 1,
            end + 15,
            end + 16,
            end + 17,
        ]
    });
    let between = (0..stream.len()).step_by(7919);
    near.chain(between)
        .filter(|at| *at <= stream.len())
        .collect()
}

#[tokio::test]
async fn a_stream_that_ends_in_a_frame_is_truncated_and_between_frames_is_not() {
    let (stream, mut listener) = (stream(), bind().await);
    for at in offsets(&stream) {
        let (mut whole, mut left) = (0, at);
        while whole < PAYLOADS.len() && left >= 16 + PAYLOADS[whole] {
            left -= 16 + PAYLOADS[whole];
            whole += 1;
        }
        let (packets, end) = cut_after(listener.as_mut(), &stream[..at], false).await;
        assert_eq!(packets, whole, "cut after {at}");
        match end {
            Ok(()) => assert_eq!(left, 0, "cut after {at}"),
            Err(ConnectionError::Truncated { held }) => assert_eq!(held, left, "cut after {at}"),
            Err(other) => panic!("cut after {at}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_reset_is_a_lost_connection_wherever_it_comes() {
    let (stream, mut listener) = (stream(), bind().await);
    for at in offsets(&stream) {
        // A reset may destroy what was on its way, so fewer packets may come, never a part of one.
        let (_, end) = cut_after(listener.as_mut(), &stream[..at], true).await;
        assert!(
            matches!(end, Err(ConnectionError::Io(_))),
            "reset after {at}: {end:?}"
        );
    }
}
