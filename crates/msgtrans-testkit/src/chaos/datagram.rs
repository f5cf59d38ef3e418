//! [`DatagramProxy`]: a bad network in front of a UDP server.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::delay_line::{DelayLine, Fate};
use super::faults::{DatagramFaults, Direction};
use super::random::Random;

/// Clients at a time; a datagram of one more is dropped.
const FLOWS_MAX: usize = 4_096;
/// A client that neither sends nor receives for this long is forgotten.
const FLOW_IDLE: Duration = Duration::from_secs(120);
/// The kernel's receive buffer of a socket: what comes in a burst is to be lost by the faults alone.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Datagrams of a client that wait for their flow's task; more are dropped.
const INBOX: usize = 256;
/// The largest UDP datagram.
const DATAGRAM_BYTES: usize = 65_535;

/// Receives datagrams, sends them to the server from a socket a client, and back, as badly as it is told.
///
/// Cheap to clone; every clone is the same proxy, which ends with the last one, without a word to anybody.
#[derive(Clone, Debug)]
pub struct DatagramProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner(JoinHandle<()>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Shared {
    target: Mutex<SocketAddr>,
    to_server: watch::Sender<DatagramFaults>,
    to_client: watch::Sender<DatagramFaults>,
    /// Counts the times that clients got a new address.
    rebinds: watch::Sender<u64>,
    counts: Counts,
}

/// Relaxed everywhere: read for reports alone.
#[derive(Debug, Default)]
struct Counts {
    passed: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    late: AtomicU64,
}

/// What a [`DatagramProxy`] has done so far, both directions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatagramStats {
    /// Datagrams sent on, the second ones of those that were duplicated too.
    pub passed: u64,
    /// Datagrams lost: on purpose, for want of room, or refused by the system.
    pub lost: u64,
    /// Datagrams sent twice.
    pub duplicated: u64,
    /// Datagrams held back for others to overtake.
    pub late: u64,
}

impl DatagramProxy {
    /// A proxy at a free port of 127.0.0.1, in front of `target`, without faults. The same `seed` draws the same.
    ///
    /// # Errors
    /// No port could be bound.
    pub async fn start(target: SocketAddr, seed: u64) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        make_room(&socket);
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            to_server: watch::Sender::default(),
            to_client: watch::Sender::default(),
            rebinds: watch::Sender::default(),
            counts: Counts::default(),
        });
        let receiving = receive(Arc::new(socket), shared.clone(), Random::new(seed));
        Ok(Self {
            address,
            shared,
            owner: Arc::new(Owner(tokio::spawn(receiving))),
        })
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts the proxy in front of another server, for clients that are new or rebound from now on.
    pub fn set_target(&self, target: SocketAddr) {
        *self.shared.lock_target() = target;
    }

    /// Replaces the faults of a direction.
    pub fn set(&self, direction: Direction, faults: DatagramFaults) {
        self.change(direction, |now| *now = faults.clone());
    }

    /// Changes the faults of a direction.
    pub fn change(&self, direction: Direction, change: impl Fn(&mut DatagramFaults)) {
        if direction != Direction::ToClient {
            self.shared.to_server.send_modify(&change);
        }
        if direction != Direction::ToServer {
            self.shared.to_client.send_modify(&change);
        }
    }

    /// Gives every client another address in the eyes of the server, as a router does that has lost its table.
    pub fn rebind(&self) {
        self.shared.rebinds.send_modify(|count| *count += 1);
    }

    /// What it has done so far.
    pub fn stats(&self) -> DatagramStats {
        let counts = &self.shared.counts;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DatagramStats {
            passed: of(&counts.passed),
            lost: of(&counts.lost),
            duplicated: of(&counts.duplicated),
            late: of(&counts.late),
        }
    }

    /// Stops: closes its sockets.
    ///
    /// # Cancel safety
    /// It stops all the same.
    pub async fn stop(self) {
        self.owner.0.abort();
        while !self.owner.0.is_finished() {
            tokio::task::yield_now().await;
        }
    }
}

impl Shared {
    fn lock_target(&self) -> std::sync::MutexGuard<'_, SocketAddr> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket that talks to the server alone.
    async fn dial(&self) -> io::Result<UdpSocket> {
        let target = *self.lock_target();
        let any: SocketAddr = match target {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        make_room(&socket);
        socket.connect(target).await?;
        Ok(socket)
    }
}

/// As much as the system gives: it is a hint.
fn make_room(socket: &UdpSocket) {
    let _ = socket2::SockRef::from(socket).set_recv_buffer_size(BUFFER_BYTES);
}

impl Counts {
    fn count(&self, fate: Fate) {
        let add = |count: &AtomicU64, happened: bool| {
            count.fetch_add(u64::from(happened), Ordering::Relaxed);
        };
        add(&self.lost, fate.lost);
        add(&self.duplicated, fate.duplicated);
        add(&self.late, fate.late);
    }

    fn lost(&self, datagrams: usize) {
        self.lost.fetch_add(datagrams as u64, Ordering::Relaxed);
    }

    fn sent(&self, sent: io::Result<usize>) {
        match sent {
            Ok(_) => self.passed.fetch_add(1, Ordering::Relaxed),
            // As on a path: whoever sent it does not hear of it.
            Err(_) => self.lost.fetch_add(1, Ordering::Relaxed),
        };
    }
}

/// Receives from all clients and gives each to its flow.
async fn receive(socket: Arc<UdpSocket>, shared: Arc<Shared>, random: Random) {
    let mut flows: HashMap<SocketAddr, mpsc::Sender<Bytes>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut number = 0;
    loop {
        let (length, client) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // A client whose port is closed; others go on.
                Err(_) => continue,
            },
            Some(ended) = tasks.join_next() => {
                if let Ok(client) = ended {
                    flows.remove(&client);
                }
                continue;
            }
        };
        let mut datagram = Bytes::copy_from_slice(&buffer[..length]);
        if let Some(flow) = flows.get(&client) {
            match flow.try_send(datagram) {
                Ok(()) => continue,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    shared.counts.lost(1);
                    continue;
                }
                // It has just ended; the datagram begins a new one.
                Err(mpsc::error::TrySendError::Closed(back)) => datagram = back,
            }
        }
        if tasks.len() >= FLOWS_MAX {
            shared.counts.lost(1);
            continue;
        }
        number += 1;
        let (inbox, received) = mpsc::channel(INBOX);
        // It has room for the first one.
        let _ = inbox.try_send(datagram);
        flows.insert(client, inbox);
        let flow = Flow {
            client,
            front: socket.clone(),
            shared: shared.clone(),
            up: DelayLine::new(random.fork(2 * number)),
            down: DelayLine::new(random.fork(2 * number + 1)),
        };
        tasks.spawn(async move {
            // Without a socket there is no path; the next datagram tries again.
            let _ = flow.run(received).await;
            client
        });
    }
}

/// One client's way to the server and back.
struct Flow {
    client: SocketAddr,
    front: Arc<UdpSocket>,
    shared: Arc<Shared>,
    up: DelayLine,
    down: DelayLine,
}

impl Flow {
    async fn run(mut self, mut received: mpsc::Receiver<Bytes>) -> io::Result<()> {
        let shared = self.shared.clone();
        let counts = &shared.counts;
        let mut to_server = shared.to_server.subscribe();
        let mut to_client = shared.to_client.subscribe();
        let mut rebinds = shared.rebinds.subscribe();
        let mut back = shared.dial().await?;
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let mut idle_at = Instant::now() + FLOW_IDLE;
        loop {
            if to_server.borrow_and_update().blackhole {
                counts.lost(self.up.clear());
            }
            if to_client.borrow_and_update().blackhole {
                counts.lost(self.down.clear());
            }
            let (up_due, down_due) = (self.up.next_due(), self.down.next_due());
            tokio::select! {
                datagram = received.recv() => {
                    let Some(datagram) = datagram else {
                        return Ok(());
                    };
                    let now = Instant::now();
                    idle_at = now + FLOW_IDLE;
                    counts.count(self.up.push(datagram, &to_server.borrow(), now));
                }
                // An error says that nobody listens there: the client does not hear of it, as on a path.
                Ok(length) = back.recv(&mut buffer) => {
                    let now = Instant::now();
                    idle_at = now + FLOW_IDLE;
                    let datagram = Bytes::copy_from_slice(&buffer[..length]);
                    counts.count(self.down.push(datagram, &to_client.borrow(), now));
                }
                () = due(up_due) => {
                    while let Some(datagram) = self.up.pop(Instant::now()) {
                        counts.sent(back.send(&datagram).await);
                    }
                }
                () = due(down_due) => {
                    while let Some(datagram) = self.down.pop(Instant::now()) {
                        counts.sent(self.front.send_to(&datagram, self.client).await);
                    }
                }
                _ = rebinds.changed() => back = shared.dial().await?,
                _ = to_server.changed() => {}
                _ = to_client.changed() => {}
                () = sleep_until(idle_at) => return Ok(()),
            }
        }
    }
}

async fn due(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
