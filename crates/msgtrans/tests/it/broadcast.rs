//! Broadcasts over sockets: what goes past the sessions' tasks arrives as if it had not.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use msgtrans::{Code, EventStream, Packet, PacketType, Session, TransportServer};
use msgtrans_core::{HEADER_LEN, Hello};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

use crate::raw::Raw;
use crate::support::{Protocol, next_message, only_session, run, start, until};

/// A broadcast behind such a pause is none of a run. Nothing depends on it but the way that a broadcast takes.
async fn pause() {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_micros(50) {
        tokio::task::yield_now().await;
    }
}

/// A message that says whose it is, and the how many-th.
fn numbered(source: u8, number: u32, len: usize) -> Packet {
    let mut payload = vec![source; len];
    payload[1..5].copy_from_slice(&number.to_be_bytes());
    Packet::binary(payload)
}

fn number(packet: &Packet, len: usize) -> (u8, u32) {
    let payload = &packet.payload;
    assert_eq!(payload.len(), len);
    assert!(payload[5..].iter().all(|byte| *byte == payload[0]));
    let number = payload[1..5].try_into().expect("four bytes");
    (payload[0], u32::from_be_bytes(number))
}

#[test]
fn a_broadcast_is_on_the_sockets_of_idle_sessions_before_their_tasks_have_run() {
    // One thread: no task runs while the test does not wait.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let server = start(Protocol::Tcp.server()).await;
        let mut sockets = Vec::new();
        for _ in 0..3 {
            let (raw, _) = Raw::v2(&server).await;
            let socket = raw.stream.into_std().expect("a socket");
            socket.set_nonblocking(false).expect("a socket");
            let timeout = Some(Duration::from_secs(30));
            socket.set_read_timeout(timeout).expect("a socket");
            sockets.push(socket);
        }
        until(|| server.session_count() == 3).await;
        let before = server.stats();
        let packet = Packet::binary(vec![7; 64]);
        let report = server.broadcast(packet).await.expect("encoded");
        assert_eq!((report.queued, report.full, report.failed), (3, 0, 0));
        for socket in &mut sockets {
            let mut frame = [0; HEADER_LEN + 64];
            socket.read_exact(&mut frame).expect("a frame");
            assert_eq!(frame[HEADER_LEN..], [7; 64]);
        }
        let after = server.stats();
        assert_eq!(after.packets_out - before.packets_out, 3);
        let bytes = (HEADER_LEN + 64) as u64;
        assert_eq!(after.bytes_out - before.bytes_out, 3 * bytes);
    });
}

const CLIENTS: usize = 6;
const BROADCASTERS: u8 = 3;
const SENDERS: u8 = 2;
const EACH: u32 = 300;

/// Broadcasts, some of them alone and some in runs, and sends to one session before each.
fn broadcaster(server: &TransportServer, source: u8, first: Session) -> JoinHandle<()> {
    let server = server.clone();
    tokio::spawn(async move {
        for each in 0..EACH {
            // What one task sends and what it broadcasts keep their order.
            let packet = numbered(source, 2 * each, 64);
            first.send(packet).await.expect("open");
            let packet = numbered(source, 2 * each + 1, 64);
            let report = server.broadcast(packet).await.expect("encoded");
            assert_eq!((report.full, report.failed), (0, 0));
            if each % 8 < 6 {
                pause().await;
            }
        }
    })
}

fn sender(session: Session, source: u8) -> JoinHandle<()> {
    tokio::spawn(async move {
        for each in 0..EACH {
            let packet = numbered(source, each, 64);
            session.send(packet).await.expect("open");
            if each % 2 == 0 {
                pause().await;
            }
        }
    })
}

/// Receives everything and checks that each source's messages come in order, and none is missing.
fn all_in_order(mut events: EventStream, first: bool, total: u32) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut next = vec![None; usize::from(BROADCASTERS + SENDERS)];
        for _ in 0..total {
            let packet = next_message(&mut events).await;
            let (source, number) = number(&packet, 64);
            let expected = &mut next[usize::from(source)];
            // To all but the first session every second message of a broadcaster goes to somebody else.
            let step = if first || source >= BROADCASTERS {
                1
            } else {
                2
            };
            let begin = step - 1;
            assert_eq!(number, expected.map_or(begin, |last: u32| last + step));
            *expected = Some(number);
        }
    })
}

#[test]
fn broadcasters_and_senders_beside_one_another_lose_nothing_and_keep_their_order() {
    run(async {
        let server = start(Protocol::Tcp.server()).await;
        let broadcast = u32::from(BROADCASTERS) * EACH;
        let total = u32::from(SENDERS) * EACH + broadcast;
        let mut clients = Vec::new();
        let mut sessions = Vec::new();
        let mut work = Vec::new();
        for index in 0..CLIENTS {
            let client = Protocol::Tcp.connected(&server).await;
            let id = client.session_id().expect("open");
            until(|| server.session(id).is_some()).await;
            sessions.push(server.session(id).expect("open"));
            let first = index == 0;
            let more = if first { broadcast } else { 0 };
            work.push(all_in_order(client.events(), first, total + more));
            clients.push(client);
        }
        for source in 0..BROADCASTERS {
            work.push(broadcaster(&server, source, sessions[0].clone()));
        }
        for source in BROADCASTERS..BROADCASTERS + SENDERS {
            let senders = sessions.iter().cloned();
            work.extend(senders.map(|session| sender(session, source)));
        }
        for each in work {
            each.await.expect("ran");
        }
        // A pass is counted when it has ended: the last one may not have.
        let frames = u64::from(total) * CLIENTS as u64 + u64::from(broadcast);
        until(|| server.stats().packets_out == frames).await;
        for (session, client) in sessions.iter().zip(&clients) {
            until(|| session.stats().bytes_out == client.stats().bytes_in).await;
        }
        let bytes: u64 = clients.iter().map(|client| client.stats().bytes_in).sum();
        until(|| server.stats().bytes_out == bytes).await;
    });
}

/// A peer whose window holds little.
async fn narrow(server: &TransportServer) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket");
    let port = server.local_endpoints()[0].port().expect("a port");
    let stream = socket.connect(([127, 0, 0, 1], port).into()).await;
    let mut raw = Raw::over(stream.expect("a listener"));
    raw.hello(&Hello::default()).await;
    raw
}

#[test]
fn a_frame_that_a_full_socket_takes_in_part_is_whole_and_in_its_place() {
    const LEN: usize = 3_000;
    run(async {
        let builder = TransportServer::builder()
            .with_protocol("tcp://127.0.0.1:0?send_buffer=4096")
            .session_config(|config| config.outbound.items = 4);
        let server = start(builder).await;
        let mut raw = narrow(&server).await;
        until(|| server.session_count() == 1).await;
        let session = only_session(&server).await;
        let (mut sent, mut read) = (0, 0);
        for _ in 0..20 {
            loop {
                let packet = numbered(1, sent, LEN);
                let report = server.broadcast(packet).await.expect("encoded");
                assert_eq!((report.queued + report.full, report.failed), (1, 0));
                if report.full == 1 {
                    break;
                }
                sent += 1;
                pause().await;
            }
            assert_eq!(session.close_reason(), None);
            while read < sent {
                let packet = raw.expect(PacketType::OneWay).await;
                assert_eq!(number(&packet, LEN), (1, read));
                read += 1;
            }
            until(|| session.stats().queued == 0).await;
        }
        until(|| session.stats().packets_out == u64::from(sent)).await;
        until(|| server.stats().packets_out == u64::from(sent)).await;
    });
}

/// Broadcasts one by one until it is told to stop; gives how many.
fn news(server: &TransportServer, stop: Arc<AtomicBool>) -> JoinHandle<u32> {
    let server = server.clone();
    tokio::spawn(async move {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            let packet = numbered(1, sent, 64);
            server.broadcast(packet).await.expect("encoded");
            sent += 1;
            pause().await;
        }
        sent
    })
}

#[test]
fn sessions_that_end_amid_broadcasts_end_in_good_order_and_the_others_miss_nothing() {
    run(async {
        let server = start(Protocol::Tcp.server()).await;
        let stays = Protocol::Tcp.connected(&server).await;
        let mut events = stays.events();
        until(|| server.session_count() == 1).await;
        let heard = tokio::spawn(async move {
            let mut next = 0;
            loop {
                match number(&next_message(&mut events).await, 64) {
                    (1, number) => assert_eq!(number, next),
                    _ => return next,
                }
                next += 1;
            }
        });
        let stop = Arc::new(AtomicBool::new(false));
        let news = news(&server, stop.clone());
        for round in 0..40 {
            let (mut raw, welcome) = Raw::v2(&server).await;
            let id = welcome.session;
            until(|| server.session(id).is_some()).await;
            let session = server.session(id).expect("open");
            let mut next = None;
            let mut check = |packet: &Packet| {
                let (_, number) = number(packet, 64);
                assert_eq!(next.unwrap_or(number), number);
                next = Some(number + 1);
            };
            for _ in 0..10 {
                check(&raw.expect(PacketType::OneWay).await);
            }
            if round % 2 == 0 {
                session.close(Code::NORMAL, "enough");
                loop {
                    let (packet, _) = raw.recv().await.expect("a Goodbye before the end");
                    if packet.packet_type == PacketType::Goodbye {
                        break;
                    }
                    check(&packet);
                }
                // Whoever keeps the session's handle does not keep its socket.
                assert!(raw.recv().await.is_none(), "a frame behind the Goodbye");
            }
            drop(raw);
            session.closed().await;
            assert_eq!(session.stats().queued, 0);
        }
        stop.store(true, Ordering::Relaxed);
        let sent = news.await.expect("ran");
        let last = server.broadcast(numbered(2, 0, 64)).await;
        last.expect("encoded");
        assert_eq!(heard.await.expect("ran"), sent);
        assert_eq!(server.session_count(), 1);
    });
}
