//! 60 000 echoes that the client does not read for a while: all come back, in order, in bounded memory.

use msgtrans::{Session, TransportServer, WireVersion};
use msgtrans_testkit::sessions::{Echo, echo_by_events, number_of, numbered, stuck};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::sync::watch;

use crate::raw::{Raw, frame};
use crate::support::{Protocol, only_session, run, start};

const MESSAGES: u32 = 60_000;

const MIB: u64 = 1024 * 1024;

/// What the server has taken and not given back.
fn held(session: &Session) -> u64 {
    let stats = session.stats();
    stats.bytes_in.saturating_sub(stats.bytes_out)
}

#[test]
fn a_raw_peer_that_reads_late_gets_every_echo_of_a_handler() {
    run(async {
        let server = start(Protocol::Tcp.server().with_handler(Echo)).await;
        raw_peer_reads_late(&server).await;
    });
}

#[test]
fn a_raw_peer_that_reads_late_gets_every_echo_of_an_event_loop() {
    run(async {
        let server = start(Protocol::Tcp.server()).await;
        echo_by_events(&server);
        raw_peer_reads_late(&server).await;
    });
}

async fn raw_peer_reads_late(server: &TransportServer) {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Little room in the kernel: what is not read soon stands before the server.
    socket.set_recv_buffer_size(32 * 1024).expect("a socket");
    let port = server.local_endpoints()[0].port().expect("a port");
    let address = ([127, 0, 0, 1], port).into();
    let stream = socket.connect(address).await.expect("a listener");
    let mut raw = Raw::over(stream);
    raw.hello(&msgtrans_core::Hello::default()).await;
    let session = only_session(server).await;

    let (sent, mut progress) = watch::channel(0);
    let (mut reader, mut writer) = raw.split();
    let writing = tokio::spawn(async move {
        for first in (0..MESSAGES).step_by(100) {
            let frames: Vec<u8> = (first..first + 100)
                .flat_map(|number| {
                    let packet = numbered(number).with_message_id(number);
                    frame(&packet, WireVersion::V2)
                })
                .collect();
            writer.write_all(&frames).await.expect("written");
            sent.send_replace(first);
        }
        writer
    });
    stuck(&mut progress).await;
    let held = held(&session);
    assert!(held < 4 * MIB, "the server holds {held} bytes");
    assert!(session.stats().queued_bytes as u64 <= 4 * MIB);

    for number in 0..MESSAGES {
        let packet = reader.message().await;
        assert_eq!(number_of(&packet), number);
        assert_eq!(packet.message_id, number);
    }
    drop(writing.await.expect("everything was written"));
}
