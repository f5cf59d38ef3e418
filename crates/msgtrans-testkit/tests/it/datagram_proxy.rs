//! UDP through a bad network.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use msgtrans_testkit::chaos::{DatagramFaults, DatagramProxy, Direction};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::within_deadline;

struct Path {
    proxy: DatagramProxy,
    client: UdpSocket,
    server: UdpSocket,
}

async fn path(faults: impl Fn(&mut DatagramFaults)) -> Path {
    let server = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let target = server.local_addr().expect("bound");
    let proxy = DatagramProxy::start(target, 11).await.expect("a port");
    proxy.change(Direction::ToServer, faults);
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    client.connect(proxy.address()).await.expect("an address");
    Path {
        proxy,
        client,
        server,
    }
}

impl Path {
    /// Sends 0 to `count` one after the other; what arrives, and from where.
    async fn send(&self, count: u8) -> (Vec<u8>, SocketAddr) {
        let (mut got, mut from) = (Vec::new(), None);
        for number in 0..count {
            self.client.send(&[number]).await.expect("sent");
            tokio::task::yield_now().await;
        }
        let mut buffer = [0; 16];
        while let Ok(received) = timeout(
            Duration::from_millis(200),
            self.server.recv_from(&mut buffer),
        )
        .await
        {
            let (length, address) = received.expect("a socket");
            assert_eq!(length, 1);
            got.push(buffer[0]);
            from = Some(address);
        }
        (got, from.expect("something arrived"))
    }
}

#[tokio::test]
async fn datagrams_pass_there_and_back() {
    within_deadline(async {
        let path = path(|_| {}).await;
        let (got, from) = path.send(50).await;
        assert_eq!(got, (0..50).collect::<Vec<u8>>());
        path.server.send_to(b"back", from).await.expect("sent");
        let mut buffer = [0; 16];
        let length = path.client.recv(&mut buffer).await.expect("a socket");
        assert_eq!(&buffer[..length], b"back");
        assert_eq!(path.proxy.stats().passed, 51);
    })
    .await;
}

#[tokio::test]
async fn loss_duplication_and_reordering_are_seen_by_the_server() {
    within_deadline(async {
        let path = path(|faults| {
            faults.loss = 0.2;
            faults.duplication = 0.2;
            faults.reordering = 0.2;
        })
        .await;
        let (got, _) = path.send(200).await;
        let mut times: BTreeMap<u8, u32> = BTreeMap::new();
        for number in &got {
            *times.entry(*number).or_default() += 1;
        }
        let stats = path.proxy.stats();
        assert!((120..190).contains(&times.len()), "{} of 200", times.len());
        assert_eq!(200 - times.len() as u64, stats.lost);
        let twice = times.values().filter(|times| **times == 2).count();
        assert_eq!(twice as u64, stats.duplicated);
        assert!(twice > 10, "{twice} twice");
        assert!(!got.is_sorted(), "in order");
        assert_eq!(stats.passed, got.len() as u64);
    })
    .await;
}

#[tokio::test]
async fn a_blackhole_takes_everything_until_it_is_closed() {
    within_deadline(async {
        let path = path(|faults| faults.blackhole = true).await;
        path.client.send(b"lost").await.expect("sent");
        while path.proxy.stats().lost == 0 {
            tokio::task::yield_now().await;
        }
        path.proxy
            .set(Direction::ToServer, DatagramFaults::default());
        assert_eq!(path.send(3).await.0, [0, 1, 2]);
    })
    .await;
}

#[tokio::test]
async fn after_a_rebind_the_client_comes_from_another_address() {
    within_deadline(async {
        let path = path(|_| {}).await;
        let (_, before) = path.send(1).await;
        path.proxy.rebind();
        let (got, after) = path.send(1).await;
        assert_eq!(got, [0]);
        assert_ne!(before, after);
    })
    .await;
}
