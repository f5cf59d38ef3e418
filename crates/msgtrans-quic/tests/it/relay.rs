//! [`Relay`]: a UDP path between one client and a server that can be watched and cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What the path does, and what it has seen.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// Drops what the server sends.
    pub(crate) mute_server: AtomicBool,
    /// Drops what the client sends.
    pub(crate) mute_client: AtomicBool,
    /// Drops so many of the client's next datagrams.
    pub(crate) lose: AtomicUsize,
    /// Retry packets that the server sent.
    pub(crate) retries: AtomicUsize,
    /// Datagrams that the server sent, dropped or not.
    pub(crate) answers: AtomicUsize,
    /// Datagrams that the client sent, dropped or not.
    pub(crate) sent: AtomicUsize,
    /// Bytes of the largest of them.
    pub(crate) largest: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) address: String,
    pub(crate) path: Arc<Path>,
    task: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn to(server: &str) -> Self {
        let server: SocketAddr = server.parse().expect("an address");
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        let address = socket.local_addr().expect("bound").to_string();
        let path = Arc::new(Path::default());
        let task = tokio::spawn(carry(socket, server, path.clone()));
        Self {
            address,
            path,
            task,
        }
    }

    /// Nothing passes any more.
    pub(crate) fn cut(&self) {
        self.path.mute_server.store(true, Ordering::Relaxed);
        self.path.mute_client.store(true, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(near: UdpSocket, server: SocketAddr, path: Arc<Path>) {
    let far = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    loop {
        tokio::select! {
            Ok((len, from)) = near.recv_from(&mut up) => {
                client = Some(from);
                path.sent.fetch_add(1, Ordering::Relaxed);
                path.largest.fetch_max(len, Ordering::Relaxed);
                let lost = path
                    .lose
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                if lost.is_err() && !path.mute_client.load(Ordering::Relaxed) {
                    let _ = far.send_to(&up[..len], server).await;
                }
            }
            Ok((len, _)) = far.recv_from(&mut down) => {
                path.answers.fetch_add(1, Ordering::Relaxed);
                // Long header, packet type 3.
                if down[0] & 0xb0 == 0xb0 {
                    path.retries.fetch_add(1, Ordering::Relaxed);
                }
                if let Some(client) = client && !path.mute_server.load(Ordering::Relaxed) {
                    let _ = near.send_to(&down[..len], client).await;
                }
            }
        }
    }
}
