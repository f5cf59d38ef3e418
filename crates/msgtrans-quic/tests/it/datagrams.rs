//! What a path gets to see: how large datagrams are, and how many acknowledgements come back.

use std::sync::atomic::Ordering;

use msgtrans_core::WireVersion;
use msgtrans_quic::QuicClientConfig;
use tokio::time::timeout;

use crate::end::{Bound, End, PATIENCE, bind, local, packet, pair_of};
use crate::relay::Relay;

/// A client and a server with a relay between them.
async fn through_a_relay(mtu: Option<u16>) -> (End, End, Relay, Bound) {
    let mut bound = bind(local()).await;
    let relay = Relay::to(&bound.address).await;
    let mut client = QuicClientConfig::new(&relay.address).with_pin(bound.identity.spki_pin());
    if let Some(mtu) = mtu {
        client = client.mtu(mtu);
    }
    let (client, server) = pair_of(&mut bound, &client, WireVersion::V2).await;
    (client, server, relay, bound)
}

/// One packet of so many bytes from the client to the server.
async fn transfer(client: &mut End, server: &mut End, bytes: usize) {
    let sent = packet(1, bytes);
    let moved = async { tokio::join!(client.send(sent.clone()), server.expect()) };
    let (_, received) = timeout(PATIENCE, moved).await.expect("in time");
    assert!(received == sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_datagram_is_larger_than_was_allowed() {
    let (mut client, mut server, relay, _bound) = through_a_relay(Some(1_300)).await;
    transfer(&mut client, &mut server, 1 << 20).await;
    let largest = relay.path.largest.load(Ordering::Relaxed);
    assert!((1_200..=1_300).contains(&largest), "{largest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loopback_path_is_found_to_carry_more_than_ethernet_does() {
    let (mut client, mut server, relay, _bound) = through_a_relay(None).await;
    let largest = || relay.path.largest.load(Ordering::Relaxed);
    let searching = async {
        // Probes leave beside packets, one after the other.
        while largest() <= 1_500 {
            transfer(&mut client, &mut server, 10_000).await;
        }
    };
    let found = timeout(PATIENCE, searching).await;
    found.expect("a larger datagram, in time");
    assert!(largest() <= 6_400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_acknowledgement_answers_many_datagrams() {
    // A usual receiver acknowledges every second datagram, ours every tenth or after 5 ms. A machine that takes longer
    // for a few packets is no wrong setting: one of many runs of them must show it.
    let (mut client, mut server, relay, _bound) = through_a_relay(Some(1_452)).await;
    let counts = || {
        let path = &relay.path;
        [&path.sent, &path.answers].map(|count| count.load(Ordering::Relaxed))
    };
    let mut seen = Vec::new();
    for _ in 0..100 {
        let [sent_before, answers_before] = counts();
        for _ in 0..20 {
            // Each arrives before the next leaves, so that no two are read at once.
            transfer(&mut client, &mut server, 64).await;
        }
        let [sent, answers] = counts();
        let (sent, answers) = (sent - sent_before, answers - answers_before);
        if answers * 3 < sent {
            return;
        }
        seen.push((sent, answers));
    }
    panic!("datagrams and answers: {seen:?}");
}
