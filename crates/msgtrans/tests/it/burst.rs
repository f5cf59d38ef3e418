//! Many peers at once: all of them come in before a session of theirs runs.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use msgtrans::{ConnectRequest, Handler, Refusal, Session, TransportServer, WireVersion};
use msgtrans_core::Hello;
use tokio::time::timeout;

use crate::raw::frame;
use crate::support::Protocol;

/// More than tokio lets a task take in a row, fewer than any backlog holds.
const PEERS: usize = 500;

/// Counts who had come in when the first session was about to open.
struct Door {
    server: Mutex<Receiver<TransportServer>>,
    counted: tokio::sync::mpsc::Sender<u64>,
}

impl Handler for Door {
    async fn on_connect(&self, _: &Session, _: &ConnectRequest) -> Result<(), Refusal> {
        let server = self.server.lock().expect("no panic").try_recv();
        if let Ok(server) = server {
            let accepted = server.listener_stats().accepted;
            self.counted.try_send(accepted).expect("room for one");
        }
        Ok(())
    }
}

/// What peers say that want to have a session, each before the server has begun to accept.
fn check(protocol: Protocol, words: &[u8]) {
    // One thread: accepting and sessions take turns, in an order that does not depend on the machine.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (hand_over, server): (Sender<TransportServer>, _) = channel();
        let (counted, mut count) = tokio::sync::mpsc::channel(1);
        let door = Door {
            server: Mutex::new(server),
            counted,
        };
        let server = protocol.server().with_handler(door).build().await;
        let server = server.expect("bound");
        let at = (
            "127.0.0.1",
            server.local_endpoints()[0].port().expect("a port"),
        );
        let peers = (0..PEERS).map(|_| {
            let mut peer = TcpStream::connect(at).expect("room in the backlog");
            peer.write_all(words).expect("room in the socket");
            peer
        });
        let _peers: Vec<_> = peers.collect();
        hand_over.send(server.clone()).expect("the handler lives");
        server.start().expect("the first start");
        let accepted = timeout(Duration::from_secs(60), count.recv()).await;
        let accepted = accepted.expect("a session in time").expect("a count");
        assert_eq!(accepted, PEERS as u64, "{protocol:?}");
    });
}

#[test]
fn who_waits_in_the_backlog_comes_in_before_any_session_runs() {
    check(
        Protocol::Tcp,
        &frame(&Hello::default().to_packet(), WireVersion::V2),
    );
    check(
        Protocol::Ws,
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Protocol: msgtrans.v1\r\n\r\n",
    );
}
