//! Streams cut anywhere, ended anywhere, slow, endless and buffered.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Wake, Waker};

use bytes::{Buf, Bytes};
use msgtrans_core::{Code, OutBuffer, Packet, PeerAddress, encode};
use proptest::prelude::*;
use tokio::io::ReadBuf;

use super::*;
use crate::outbound::Confirmation;

/// A stream that does what a test says and writes down what was done to it.
#[derive(Debug, Default)]
struct Scripted {
    /// What each read finds; `None` is nothing yet. At the end of the script: the end of the stream, or nothing yet.
    reads: VecDeque<Option<Bytes>>,
    ends: bool,
    /// Whom the last look that found nothing stored.
    reader: Mutex<Option<Waker>>,
    /// Brings a byte or more with every read and never ends.
    endless: Option<usize>,
    read: usize,
    /// How many bytes each write takes; 0 is no room now. At the end of the script: everything.
    writes: VecDeque<usize>,
    written: Vec<u8>,
    /// How often a flush says not yet.
    flushes_pending: usize,
    shutdown: bool,
}

impl AsyncRead for Scripted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(step) = self.endless {
            let count = step.min(buf.remaining());
            buf.put_slice(&vec![0; count]);
            self.read += count;
            return Poll::Ready(Ok(()));
        }
        match self.reads.pop_front() {
            Some(Some(mut bytes)) => {
                let count = bytes.len().min(buf.remaining());
                buf.put_slice(&bytes.split_to(count));
                self.read += count;
                if !bytes.is_empty() {
                    self.reads.push_front(Some(bytes));
                }
                Poll::Ready(Ok(()))
            }
            None if self.ends => Poll::Ready(Ok(())),
            Some(None) | None => {
                *self.reader.lock().expect("whole") = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = match self.writes.pop_front() {
            Some(0) => return Poll::Pending,
            Some(max) => max.min(buf.len()),
            None => buf.len(),
        };
        self.written.extend_from_slice(&buf[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flushes_pending > 0 {
            self.flushes_pending -= 1;
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown = true;
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn connection(stream: Scripted, version: WireVersion) -> StreamConnection<Scripted> {
    let mut connection = fresh(stream, false);
    connection.set_wire(version, Limits::default());
    connection
}

fn fresh(stream: Scripted, buffered: bool) -> StreamConnection<Scripted> {
    let info = ConnectionInfo::new("test", PeerAddress::Local("test".to_owned()));
    StreamConnection::new(stream, info, WireVersions::Any, Limits::default(), buffered)
}

fn encoded(packets: &[Packet]) -> Bytes {
    let mut out = OutBuffer::new();
    for packet in packets {
        encode(packet, WireVersion::V2, &mut out).expect("encodes");
    }
    out.copy_to_bytes(out.remaining())
}

fn packet(id: u32, len: usize) -> Packet {
    let payload: Vec<u8> = (0..len).map(|at| (at as u32 ^ id) as u8).collect();
    Packet::binary(payload).with_message_id(id)
}

fn reads(bytes: &Bytes, cuts: &[usize]) -> VecDeque<Option<Bytes>> {
    let mut rest = bytes.clone();
    let mut cuts = cuts.iter().cycle();
    let mut reads = VecDeque::new();
    while !rest.is_empty() {
        match cuts.next() {
            Some(0) => reads.push_back(None),
            Some(cut) => reads.push_back(Some(rest.split_to((*cut).min(rest.len())))),
            None => reads.push_back(Some(std::mem::take(&mut rest))),
        }
    }
    reads
}

/// Receives until the stream ends or fails.
fn receive_all(
    connection: &mut StreamConnection<Scripted>,
    budget: usize,
) -> (Vec<Packet>, Result<(), ConnectionError>) {
    let (mut packets, mut batch) = (Vec::new(), PacketBatch::new());
    loop {
        match connection.poll_recv(&mut cx(), budget, &mut batch) {
            Poll::Pending => {}
            Poll::Ready(Ok(Received::Packets | Received::Lone)) => {
                assert!(!batch.is_empty());
                packets.extend(std::iter::from_fn(|| batch.pop()));
            }
            Poll::Ready(Ok(Received::End)) => return (packets, Ok(())),
            Poll::Ready(Err(error)) => return (packets, Err(error)),
        }
    }
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    let size = prop_oneof![
        4 => 0..100_usize,
        2 => 4000..70_000_usize,
        1 => 100_000..400_000_usize,
    ];
    proptest::collection::vec(size, 1..8)
}

/// Cuts of a stream; 0 is a wait. One that is not 0 stands at the end, so that every script gets on.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    let cut = prop_oneof![
        Just(0),
        1..20_usize,
        1000..50_000_usize,
        100_000..300_000_usize
    ];
    (proptest::collection::vec(cut, 0..10), 500..50_000_usize).prop_map(|(mut cuts, last)| {
        cuts.push(last);
        cuts
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_stream_cut_anywhere_brings_the_same_packets(sizes in sizes(), cuts in cuts(), budget in 0..500_000_usize) {
        let sent: Vec<_> = sizes.iter().enumerate().map(|(id, size)| packet(id as u32, *size)).collect();
        let bytes = encoded(&sent);
        let stream = Scripted { reads: reads(&bytes, &cuts), ends: true, ..Scripted::default() };
        let mut connection = connection(stream, WireVersion::V2);
        let (got, end) = receive_all(&mut connection, budget);
        prop_assert!(end.is_ok(), "{end:?}");
        prop_assert_eq!(connection.progress().read, bytes.len() as u64);
        prop_assert_eq!(got.len(), sent.len());
        for (got, mut sent) in got.into_iter().zip(sent) {
            sent.assign_id(|| 0);
            prop_assert!(got == sent);
        }
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_truncated(sizes in sizes(), cuts in cuts(), at in any::<proptest::sample::Index>()) {
        let sent: Vec<_> = sizes.iter().enumerate().map(|(id, size)| packet(id as u32, *size)).collect();
        let bytes = encoded(&sent);
        let cut = at.index(bytes.len());
        // Whole frames in front of the cut, and bytes of the one that it hits.
        let mut left = cut;
        let whole = sizes.iter().take_while(|size| {
            let fits = left >= *size + 16;
            left -= if fits { *size + 16 } else { 0 };
            fits
        }).count();
        let stream = Scripted { reads: reads(&bytes.slice(..cut), &cuts), ends: true, ..Scripted::default() };
        let (got, end) = receive_all(&mut connection(stream, WireVersion::V2), usize::MAX);
        prop_assert_eq!(got.len(), whole);
        match end {
            Ok(()) => prop_assert_eq!(left, 0),
            Err(ConnectionError::Truncated { held }) => prop_assert_eq!(held, left),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn writes_of_any_size_bring_every_byte(sizes in sizes(), writes in proptest::collection::vec(0..10_000_usize, 0..50)) {
        let sent: Vec<_> = sizes.iter().enumerate().map(|(id, size)| packet(id as u32, *size)).collect();
        let stream = Scripted { writes: writes.into(), ..Scripted::default() };
        let mut connection = connection(stream, WireVersion::V2);
        let mut batch = OutboundBatch::new(connection.framing(), WireVersion::V2);
        for packet in &sent {
            batch.push(packet).expect("encodes");
        }
        while connection.poll_send(&mut cx(), &mut batch).is_pending() {}
        prop_assert!(batch.is_empty());
        prop_assert!(connection.stream.written == encoded(&sent));
        prop_assert_eq!(connection.progress().written, connection.stream.written.len() as u64);
    }
}

/// Where the worker's next read goes: into the same buffer again unless somebody holds it, behind what was read before.
fn next_read() -> usize {
    worker::take_read_buffer().bytes_mut().as_ptr().addr()
}

#[test]
fn a_connection_that_waits_holds_no_read_buffer() {
    let whole = encoded(&[packet(1, 100_000)]);
    let stream = Scripted {
        reads: [
            None,
            // Part of a header, part of a body: what is held of them is their own.
            Some(whole.slice(..10)),
            None,
            Some(whole.slice(10..10_000)),
            None,
        ]
        .into(),
        ..Scripted::default()
    };
    let mut connection = connection(stream, WireVersion::V2);
    let mut batch = PacketBatch::new();
    let free = next_read();
    for held in [0, 10, 10_000] {
        assert!(
            connection
                .poll_recv(&mut cx(), usize::MAX, &mut batch)
                .is_pending()
        );
        assert_eq!(connection.decoder.held_bytes(), held);
        let used = next_read() - free;
        assert!(
            (held..held + 3 * 64).contains(&used),
            "{used} bytes on, with {held} bytes of a frame"
        );
    }
}

#[test]
fn a_frame_that_claims_much_and_brings_little_costs_little() {
    let whole = encoded(&[packet(1, 16 << 20)]);
    let stream = Scripted {
        reads: [Some(whole.slice(..100)), None].into(),
        ..Scripted::default()
    };
    let mut connection = connection(stream, WireVersion::V2);
    let mut batch = PacketBatch::new();
    assert!(
        connection
            .poll_recv(&mut cx(), usize::MAX, &mut batch)
            .is_pending()
    );
    assert_eq!(connection.decoder.read_target(), ReadTarget::Shared);
    assert_eq!(connection.decoder.held_bytes(), 100);
}

#[test]
fn a_large_frame_is_read_straight_into_its_own_buffer() {
    let whole = encoded(&[packet(1, 1 << 20)]);
    let stream = Scripted {
        reads: [
            Some(whole.slice(..50_000)),
            None,
            Some(whole.slice(50_000..)),
        ]
        .into(),
        ends: true,
        ..Scripted::default()
    };
    let mut connection = connection(stream, WireVersion::V2);
    let mut batch = PacketBatch::new();
    assert!(
        connection
            .poll_recv(&mut cx(), usize::MAX, &mut batch)
            .is_pending()
    );
    assert!(matches!(
        connection.decoder.read_target(),
        ReadTarget::Direct(_)
    ));
    let (got, end) = receive_all(&mut connection, usize::MAX);
    assert!(end.is_ok());
    assert!(got[0].payload == packet(1, 1 << 20).payload);
}

#[test]
fn a_peer_that_trickles_does_not_hold_the_thread() {
    let bytes = encoded(&[packet(1, 1000)]);
    let stream = Scripted {
        reads: reads(&bytes, &[1]),
        ..Scripted::default()
    };
    let mut connection = connection(stream, WireVersion::V2);
    let count = Arc::new(Count::default());
    let waker = count.clone().into();
    let mut cx = Context::from_waker(&waker);
    let mut batch = PacketBatch::new();
    assert!(
        connection
            .poll_recv(&mut cx, usize::MAX, &mut batch)
            .is_pending()
    );
    assert_eq!(connection.stream.read, READS_MAX);
    assert_eq!(
        count.0.load(Ordering::Relaxed),
        1,
        "it comes back by itself"
    );
}

#[test]
fn packets_in_front_of_a_broken_frame_come_first() {
    let mut bytes = encoded(&[packet(1, 10), packet(2, 10)]).to_vec();
    bytes.extend([9; 16]);
    bytes.extend(encoded(&[packet(3, 10)]));
    let stream = Scripted {
        reads: [Some(bytes.into())].into(),
        ..Scripted::default()
    };
    let mut connection = connection(stream, WireVersion::V2);
    let (got, end) = receive_all(&mut connection, usize::MAX);
    assert_eq!(got.len(), 2);
    assert!(matches!(end, Err(ConnectionError::Decode(_))), "{end:?}");
    let (got, end) = receive_all(&mut connection, usize::MAX);
    assert!(got.is_empty() && end.is_err(), "what follows is garbage");
}

#[test]
fn a_version_2_close_half_closes_and_waits_for_the_peer() {
    let stream = Scripted {
        reads: [Some(Bytes::from_static(&[0; 100])), None].into(),
        ends: true,
        ..Scripted::default()
    };
    let mut connection = connection(stream, WireVersion::V2);
    let reason = CloseReason::normal();
    assert!(connection.poll_close(&mut cx(), &reason).is_pending());
    assert!(connection.stream.shutdown);
    assert_eq!(connection.stream.read, 100, "read and thrown away");
    assert!(matches!(
        connection.poll_close(&mut cx(), &reason),
        Poll::Ready(Ok(()))
    ));
}

#[test]
fn a_version_1_close_never_half_closes() {
    let stream = Scripted {
        reads: [Some(Bytes::from_static(&[0; 100])), None].into(),
        ends: true,
        ..Scripted::default()
    };
    let mut connection = connection(stream, WireVersion::V1);
    let reason = CloseReason::normal();
    assert!(connection.poll_close(&mut cx(), &reason).is_pending());
    assert_eq!(connection.stream.read, 100, "read and thrown away");
    assert!(matches!(
        connection.poll_close(&mut cx(), &reason),
        Poll::Ready(Ok(()))
    ));
    assert!(!connection.stream.shutdown);
}

#[test]
fn a_close_towards_a_peer_that_never_stops_is_bounded() {
    for step in [1000, 1_000_000] {
        let stream = Scripted {
            endless: Some(step),
            ..Scripted::default()
        };
        let mut connection = connection(stream, WireVersion::V2);
        let closed = connection.poll_close(&mut cx(), &CloseReason::normal());
        assert!(matches!(closed, Poll::Ready(Ok(()))), "{closed:?}");
        assert_eq!(connection.stream.read as u64, u64::from(LINGER_BYTES_MAX));
    }
}

#[test]
fn a_lost_connection_is_closed_without_a_word() {
    let mut connection = connection(Scripted::default(), WireVersion::V2);
    let lost = CloseReason::network(Code::TIMEOUT, "silent");
    assert!(matches!(
        connection.poll_close(&mut cx(), &lost),
        Poll::Ready(Ok(()))
    ));
    assert!(!connection.stream.shutdown);
}

fn confirmed(confirmed: &mut crate::Confirmed) -> Poll<bool> {
    Pin::new(confirmed).poll(&mut cx())
}

/// A batch of one packet and its confirmation.
fn one(connection: &StreamConnection<Scripted>) -> (OutboundBatch, crate::Confirmed) {
    let mut batch = OutboundBatch::new(connection.framing(), WireVersion::V2);
    batch.push(&packet(1, 100)).expect("encodes");
    let (confirmation, done) = Confirmation::new();
    batch.confirm(confirmation);
    (batch, done)
}

#[test]
fn an_unbuffered_stream_confirms_with_the_last_byte_written() {
    let stream = Scripted {
        writes: [115, 0, 1].into(),
        flushes_pending: usize::MAX,
        ..Scripted::default()
    };
    let mut connection = fresh(stream, false);
    let (mut batch, mut done) = one(&connection);
    assert!(connection.poll_send(&mut cx(), &mut batch).is_pending());
    assert_eq!((batch.len(), confirmed(&mut done)), (1, Poll::Pending));
    assert!(connection.poll_send(&mut cx(), &mut batch).is_ready());
    assert_eq!(confirmed(&mut done), Poll::Ready(true));
}

#[test]
fn a_buffered_stream_confirms_once_it_is_flushed() {
    let stream = Scripted {
        flushes_pending: 2,
        ..Scripted::default()
    };
    let mut connection = fresh(stream, true);
    let (mut batch, mut done) = one(&connection);
    for _ in 0..2 {
        assert!(connection.poll_send(&mut cx(), &mut batch).is_pending());
        assert_eq!((batch.len(), confirmed(&mut done)), (0, Poll::Pending));
    }
    // Called again with an empty batch, it goes on flushing.
    assert!(connection.poll_send(&mut cx(), &mut batch).is_ready());
    assert_eq!(confirmed(&mut done), Poll::Ready(true));
}

#[tokio::test]
async fn a_duplex_of_a_few_bytes_carries_large_frames_both_ways() {
    async fn side(stream: tokio::io::DuplexStream) -> Vec<usize> {
        let info = ConnectionInfo::new("test", PeerAddress::Local("test".to_owned()));
        let limits = Limits::default();
        let mut connection = StreamConnection::new(stream, info, WireVersions::V2, limits, true);
        connection.set_wire(WireVersion::V2, limits);
        let mut out = OutboundBatch::new(connection.framing(), WireVersion::V2);
        for size in [1, 300_000, 0, 70_000] {
            out.push(&packet(1, size)).expect("encodes");
        }
        let (mut batch, mut sizes) = (PacketBatch::new(), Vec::new());
        std::future::poll_fn(|cx| {
            let sent = connection.poll_send(cx, &mut out)?.is_ready();
            while sizes.len() < 4 {
                ready!(connection.poll_recv(cx, usize::MAX, &mut batch))?;
                sizes.extend(std::iter::from_fn(|| batch.pop()).map(|got| got.payload.len()));
            }
            if sent {
                Poll::Ready(Ok::<_, ConnectionError>(()))
            } else {
                Poll::Pending
            }
        })
        .await
        .expect("nothing is lost");
        sizes
    }
    let (one, other) = tokio::io::duplex(700);
    let sizes = tokio::join!(side(one), side(other));
    assert_eq!(sizes.0, [1, 300_000, 0, 70_000]);
    assert_eq!(sizes.1, sizes.0);
}

/// Longer than any machine needs.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A socket, and the peer that writes to it at once.
async fn sockets() -> (StreamConnection<tokio::net::TcpStream>, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("has one");
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connects");
    let (peer, _) = listener.accept().expect("accepts");
    peer.set_nodelay(true).expect("no delay");
    let info = ConnectionInfo::new("test", PeerAddress::Socket(address));
    let mut connection =
        StreamConnection::new(stream, info, WireVersions::Any, Limits::default(), false)
            .with_probe(&crate::probe::TCP);
    connection.set_wire(WireVersion::V2, Limits::default());
    (connection, peer)
}

/// The ids of the packets that the next read brings.
async fn next_ids(connection: &mut StreamConnection<tokio::net::TcpStream>) -> Vec<u32> {
    let mut batch = PacketBatch::new();
    let received = std::future::poll_fn(|cx| connection.poll_recv(cx, usize::MAX, &mut batch));
    let received = tokio::time::timeout(PATIENCE, received).await;
    let received = received.expect("bytes that lie there are seen");
    assert!(
        matches!(received, Ok(Received::Packets | Received::Lone)),
        "{received:?}"
    );
    std::iter::from_fn(|| batch.pop())
        .map(|packet| packet.message_id)
        .collect()
}

#[tokio::test]
async fn bytes_are_seen_whenever_they_arrive_after_a_short_read() {
    use std::io::Write;
    let (mut connection, mut peer) = sockets().await;
    let mut write = |id: u32| {
        peer.write_all(&encoded(&[packet(id, 64)]))
            .expect("written")
    };
    for round in (1..300).step_by(3) {
        write(round);
        // The read is short, so the socket counts as empty from here on.
        assert_eq!(next_ids(&mut connection).await, [round]);
        // Between the read and the second look.
        write(round + 1);
        assert_eq!(next_ids(&mut connection).await, [round + 1]);
        // Between the second look, which finds nothing, and the sleep.
        let mut batch = PacketBatch::new();
        let mut woken = std::pin::pin!(std::future::poll_fn(|cx| {
            if batch.is_empty()
                && connection
                    .poll_recv(cx, usize::MAX, &mut batch)
                    .is_pending()
            {
                return Poll::Pending;
            }
            Poll::Ready(())
        }));
        assert!(
            std::future::poll_fn(|cx| Poll::Ready(woken.as_mut().poll(cx)))
                .await
                .is_pending()
        );
        write(round + 2);
        tokio::time::timeout(PATIENCE, woken).await.expect("woken");
        assert_eq!(batch.pop().map(|packet| packet.message_id), Some(round + 2));
    }
}

#[tokio::test]
async fn behind_a_lone_packet_whoever_read_it_is_woken_without_asking_again() {
    use std::io::Write;
    let (mut connection, mut peer) = sockets().await;
    let mut lone = 0;
    for round in 1..100 {
        let bytes = encoded(&[packet(round, 64)]);
        peer.write_all(&bytes).expect("written");
        let mut batch = PacketBatch::new();
        let received = std::future::poll_fn(|cx| connection.poll_recv(cx, usize::MAX, &mut batch));
        let received = tokio::time::timeout(PATIENCE, received).await;
        let received = received.expect("it came").expect("a packet");
        assert_eq!(batch.len(), 1);
        if received != Received::Lone {
            // The socket has been told of the packet once more, behind the read.
            continue;
        }
        lone += 1;
        let mut told = false;
        let woken = std::future::poll_fn(|_| {
            if told {
                return Poll::Ready(());
            }
            told = true;
            peer.write_all(&bytes).expect("written");
            Poll::Pending
        });
        tokio::time::timeout(PATIENCE, woken).await.expect("woken");
        assert_eq!(next_ids(&mut connection).await, [round]);
    }
    assert!(lone > 0, "no packet came alone");
}

#[tokio::test]
async fn a_task_that_had_no_share_left_is_woken_by_the_next_bytes() {
    use std::io::Write;
    use tokio::task::coop::poll_proceed;
    let (mut connection, mut peer) = sockets().await;
    let mut batch = PacketBatch::new();
    std::future::poll_fn(|cx| {
        while let Poll::Ready(share) = poll_proceed(cx) {
            share.made_progress();
        }
        // Pending for want of a share, not of bytes: the stream knows nobody yet.
        let received = connection.poll_recv(cx, usize::MAX, &mut batch);
        assert!(received.is_pending(), "{received:?}");
        Poll::Ready(())
    })
    .await;
    tokio::task::yield_now().await;
    let (ids, ()) = tokio::join!(next_ids(&mut connection), async {
        peer.write_all(&encoded(&[packet(7, 64)])).expect("written");
    });
    assert_eq!(ids, [7]);
}

#[test]
fn behind_a_short_read_a_stream_is_asked_and_not_read_and_each_look_stores_the_waker() {
    const ASKED: Probe<Scripted> = Probe {
        poll_readable: |stream, cx| {
            *stream.reader.lock().expect("whole") = Some(cx.waker().clone());
            Poll::Pending
        },
        ..Probe::NONE
    };
    for count in [1, 2] {
        let packets: Vec<_> = (1..=count).map(|id| packet(id, 64)).collect();
        let script = Scripted {
            reads: [Some(encoded(&packets)), None].into(),
            ..Scripted::default()
        };
        let mut batch = PacketBatch::new();
        let mut connection = connection(script, WireVersion::V2).with_probe(&ASKED);
        let mut cx = Context::from_waker(Waker::noop());
        // The look that follows the read is a question, asked at once where one packet came; whoever looks after that has
        // been woken, mostly to read.
        let received = connection.poll_recv(&mut cx, usize::MAX, &mut batch);
        let lone = matches!(received, Poll::Ready(Ok(Received::Lone)));
        assert!(received.is_ready() && lone == (count == 1), "{received:?}");
        for (look, unread) in [1, 0, 0].into_iter().enumerate() {
            if look > 0 || !lone {
                let received = connection.poll_recv(&mut cx, usize::MAX, &mut batch);
                assert!(received.is_pending(), "{received:?}");
            }
            assert_eq!(connection.stream.reads.len(), unread);
            // A wake-up for bytes that have been read meanwhile takes whoever is there now.
            let reader = connection.stream.reader.lock().expect("whole").take();
            assert!(reader.is_some(), "nobody hears of what comes next");
        }
    }
}

#[tokio::test]
async fn a_reset_that_the_look_for_the_first_bytes_meets_is_told_by_the_next_read() {
    let (mut connection, peer) = sockets().await;
    socket2::SockRef::from(&peer)
        .set_linger(Some(std::time::Duration::ZERO))
        .expect("an option");
    drop(peer);
    let first = std::future::poll_fn(|cx| connection.poll_first(cx));
    tokio::time::timeout(PATIENCE, first).await.expect("heard");
    let mut batch = PacketBatch::new();
    let received = connection.poll_recv(&mut cx(), usize::MAX, &mut batch);
    assert!(
        matches!(received, Poll::Ready(Err(ConnectionError::Io(_)))),
        "{received:?}"
    );
}
