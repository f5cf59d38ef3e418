//! Presets: each gives what it says, and both spellings of it are one.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use msgtrans_core::{CloseReason, WireVersion, WireVersions};
use msgtrans_quic::{QuicClientConfig, QuicCongestion, QuicPreset, QuicServerConfig};
use msgtrans_transport::{Endpoint, ProtocolConfig};
use tokio::time::timeout;

use crate::end::{PATIENCE, bind, dial, local, packet, pair_of};
use crate::relay::Relay;

const ALL: [QuicPreset; 3] = [QuicPreset::Lan, QuicPreset::Wan, QuicPreset::Lossy];

/// How long a dial takes whose first datagram is lost.
async fn dial_through_a_loss(preset: Option<QuicPreset>) -> Duration {
    let mut bound = bind(local()).await;
    let relay = Relay::to(&bound.address).await;
    let mut client = QuicClientConfig::new(&relay.address).with_pin(bound.identity.spki_pin());
    if let Some(preset) = preset {
        client = client.preset(preset);
    }
    relay.path.lose.store(1, Ordering::Relaxed);
    let begin = Instant::now();
    let mut taken = Duration::MAX;
    let dialling = async {
        let mut end = dial(&client, WireVersions::V2).await.expect("connected");
        taken = begin.elapsed();
        end.send(packet(1, 1)).await;
        end
    };
    let both = async { tokio::join!(dialling, bound.accept()) };
    let (_client, server) = timeout(PATIENCE, both).await.expect("in time");
    server.expect("accepted");
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lan_does_not_wait_a_second_for_a_lost_first_datagram() {
    // Three times the round trip that is assumed: 1 s, and 30 ms.
    let least = Duration::from_millis(900);
    assert!(dial_through_a_loss(None).await >= least);
    // A machine that stands still for a second is no wrong preset: one of a few must show it.
    for _ in 0..5 {
        if dial_through_a_loss(Some(QuicPreset::Lan)).await < least {
            return;
        }
    }
    panic!("no dial was faster than without the preset");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wan_keeps_twelve_mebibytes_in_flight() {
    let mut bound = bind(local().preset(QuicPreset::Wan)).await;
    let client = bound.client().preset(QuicPreset::Wan);
    let (mut client, _server) = pair_of(&mut bound, &client, WireVersion::V2).await;
    for id in 0..12 {
        client.queue(packet(id, 1 << 20));
    }
    // Nobody reads; with the windows of the defaults 2 MiB pass and the rest waits for ever.
    let flushed = timeout(PATIENCE, client.flush()).await;
    flushed.expect("taken").expect("sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_preset_carries_packets_to_a_peer_with_another_or_none() {
    for preset in ALL {
        for with in [None, Some(preset)] {
            let mut bound = bind(local().preset(preset)).await;
            let client = bound.client();
            let client = with.map_or(client.clone(), |preset| client.preset(preset));
            let (mut client, mut server) = pair_of(&mut bound, &client, WireVersion::V2).await;
            let sent = packet(7, 100_000);
            let (_, received) = tokio::join!(client.send(sent.clone()), server.expect());
            assert!(received == sent, "{preset} to {with:?}");
        }
    }
}

#[test]
fn a_preset_has_two_spellings_and_what_is_set_beside_it_holds() {
    for preset in ALL {
        let typed = QuicServerConfig::new("0.0.0.0:8082")
            .preset(preset)
            .stream_window(1 << 20);
        let url = format!("quic://0.0.0.0:8082?stream_window=1048576&preset={preset}");
        let url = Endpoint::parse(&url).expect("a URL");
        let read = QuicServerConfig::from_endpoint(&url).expect("a configuration");
        assert_eq!(read.endpoint(), typed.endpoint());
        let first = QuicServerConfig::new("0.0.0.0:8082")
            .stream_window(1 << 20)
            .preset(preset);
        assert_eq!(first.endpoint(), typed.endpoint());
        let client = |url: &str| QuicClientConfig::from_endpoint(&Endpoint::parse(url)?);
        let client = client(&format!("quic://h:1?ca=x&preset={preset}&udp_buffer=65536"));
        let typed = QuicClientConfig::new("h:1")
            .with_roots_pem_file("x")
            .udp_buffer(65_536)
            .preset(preset);
        assert_eq!(client.expect("valid").endpoint(), typed.endpoint());
        read.validate().expect("valid");
        let plain = QuicServerConfig::new("0.0.0.0:8082").preset(preset);
        let text = plain.endpoint().to_string();
        assert_eq!(text, format!("quic://0.0.0.0:8082?preset={preset}"));
    }
    let unknown = Endpoint::parse("quic://0.0.0.0:8082?preset=moon").expect("a URL");
    let error = QuicServerConfig::from_endpoint(&unknown).expect_err("no preset");
    assert_eq!(error.field(), "preset");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_congestion_controller_carries_packets_and_closes() {
    for congestion in [
        QuicCongestion::Cubic,
        QuicCongestion::Bbr,
        QuicCongestion::NewReno,
    ] {
        let mut bound = bind(local().congestion(congestion)).await;
        let client = bound.client().congestion(congestion);
        let (mut client, mut server) = pair_of(&mut bound, &client, WireVersion::V2).await;
        let sent = packet(7, 100_000);
        let (_, received) = tokio::join!(client.send(sent.clone()), server.expect());
        assert!(received == sent, "{congestion}");
        let reason = CloseReason::normal();
        let (_, (_, error)) = tokio::join!(client.close(&reason), server.drain());
        assert!(error.is_none(), "{congestion}: {error:?}");
    }
}

#[tokio::test]
async fn the_offloads_of_a_bound_socket_are_those_told() {
    let large = local().udp_buffer(1 << 20);
    let small = local().udp_buffer(65_536);
    let (large_probed, small_probed) = (large.offloads(), small.offloads());
    let (large_probed, small_probed) = (large_probed.expect("told"), small_probed.expect("told"));
    assert!(small_probed.receive_buffer < large_probed.receive_buffer);
    let _bound = bind(large.clone()).await;
    // Not what a new one would be given.
    let asked = large.udp_buffer(65_536).offloads().expect("told");
    assert_eq!(asked.receive_buffer, large_probed.receive_buffer);
}

#[test]
fn the_offloads_of_a_socket_are_told() {
    let small = local().udp_buffer(65_536).offloads().expect("a socket");
    let large = local().udp_buffer(1 << 20).offloads().expect("a socket");
    assert!(small.receive_buffer >= 65_536);
    assert!(large.receive_buffer >= small.receive_buffer);
    assert!(large.send_segments >= 1 && large.receive_segments >= 1);
    let line = large.to_string();
    for part in ["GSO ", "GRO ", "ECN ", &large.receive_buffer.to_string()] {
        assert!(line.contains(part), "{part} in {line}");
    }
}
