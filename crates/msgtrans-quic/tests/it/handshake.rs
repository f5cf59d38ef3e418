//! Handshakes: who is believed, what is agreed, and that nobody waits for anybody else.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use msgtrans_core::{ConnectError, WireVersion, WireVersions};
use msgtrans_quic::{QuicClientConfig, QuicServerConfig};
use msgtrans_tls::{Identity, Roots};

use crate::end::{Bound, End, PATIENCE, bind, dial, hello, local, packet};
use crate::relay::Relay;
use crate::version1::Raw;

/// Accepts for ever, each handshake beside the others, and hands out the ends that came to be.
fn serve(mut bound: Bound) -> tokio::sync::mpsc::UnboundedReceiver<End> {
    let (sender, ends) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let handshake = bound.incoming().await;
            let sender = sender.clone();
            tokio::spawn(async move {
                if let Ok(connection) = handshake.await {
                    let _ = sender.send(End::new(connection));
                }
            });
        }
    });
    ends
}

/// Dials a fresh server that speaks `theirs`, and says why not or what was agreed.
async fn agree(theirs: WireVersions, ours: WireVersions) -> Result<WireVersion, ConnectError> {
    let bound = bind(local().wire(theirs)).await;
    let client = bound.client();
    let _ends = serve(bound);
    let end = dial(&client, ours).await?;
    assert!(end.connection.info().secure);
    assert_eq!(end.connection.info().protocol, "quic");
    Ok(end.connection.info().negotiated.expect("agreed"))
}

#[tokio::test]
async fn alpn_decides_the_version_and_a_mismatch_is_refused() {
    use WireVersions::{Any, V1, V2};
    for (theirs, ours, agreed) in [
        (Any, V2, WireVersion::V2),
        (Any, V1, WireVersion::V1),
        (Any, Any, WireVersion::V2),
        (V1, Any, WireVersion::V1),
        (V2, Any, WireVersion::V2),
    ] {
        assert_eq!(agree(theirs, ours).await.expect("agreed"), agreed);
    }
    for (theirs, ours) in [(V1, V2), (V2, V1)] {
        let error = agree(theirs, ours).await.expect_err("refused");
        let tls = matches!(error, ConnectError::Handshake { stage: "tls", .. });
        assert!(tls && !error.is_retryable(), "{error}");
    }
}

#[tokio::test]
async fn only_a_known_server_is_believed() {
    let bound = bind(local()).await;
    let (pin, address) = (bound.identity.spki_pin(), bound.address.clone());
    let pem = |identity: &Identity| identity.to_pem().certificates;
    let own = Roots::from_pem(pem(&bound.identity).as_bytes()).expect("roots");
    let stranger = Identity::development().expect("an identity");
    let other = Roots::from_pem(pem(&stranger).as_bytes()).expect("roots");
    let _ends = serve(bound);
    let client = || QuicClientConfig::new(&address);
    for good in [
        client().with_pin(pin),
        client().with_roots(own.clone()),
        client().with_roots(own.clone()).with_pin(pin),
        client()
            .with_roots(own.clone())
            .with_server_name("localhost"),
    ] {
        dial(&good, WireVersions::V2)
            .await
            .map(drop)
            .expect("believed");
    }
    for bad in [
        client().with_roots(other),
        client().with_pin(stranger.spki_pin()),
        client()
            .with_roots(own.clone())
            .with_pin(stranger.spki_pin()),
        client().with_roots(own).with_server_name("example.org"),
    ] {
        let error = dial(&bad, WireVersions::V2)
            .await
            .map(drop)
            .expect_err("refused");
        let tls = matches!(error, ConnectError::Handshake { stage: "tls", .. });
        assert!(tls && !error.is_retryable(), "{error}");
    }
}

#[cfg(feature = "dangerous-insecure")]
#[tokio::test]
async fn verification_can_be_skipped_by_name() {
    let bound = bind(local()).await;
    let client = QuicClientConfig::new(&bound.address)
        .dangerous()
        .skip_verification();
    let _ends = serve(bound);
    dial(&client, WireVersions::V2)
        .await
        .map(drop)
        .expect("whoever it is");
}

#[tokio::test]
async fn a_half_open_handshake_stalls_nobody() {
    let bound = bind(local()).await;
    let (address, pin) = (bound.address.clone(), bound.identity.spki_pin());
    let relay = Relay::to(&address).await;
    relay.path.mute_server.store(true, Ordering::Relaxed);
    let mut ends = serve(bound);
    let hanging = QuicClientConfig::new(&relay.address).with_pin(pin);
    let hanging = tokio::spawn(async move { dial(&hanging, WireVersions::V2).await.map(drop) });
    let clients: Vec<_> = (0..20)
        .map(|_| {
            let client = QuicClientConfig::new(&address).with_pin(pin);
            tokio::spawn(async move {
                let mut end = dial(&client, WireVersions::V2).await.expect("connected");
                end.send(hello(WireVersion::V2)).await;
                end
            })
        })
        .collect();
    for _ in &clients {
        let end = tokio::time::timeout(PATIENCE, ends.recv()).await;
        end.expect("in time").expect("accepted");
    }
    for client in clients {
        client.await.expect("no panic");
    }
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test]
async fn a_client_that_shows_no_stream_stalls_nobody_and_is_told() {
    let mut bound = bind(local()).await;
    let (address, pin) = (bound.address.clone(), bound.identity.spki_pin());
    let silent = Raw::connect(&address, pin, b"msgtrans/2");
    let mut unfinished = None;
    let (silent, ()) = tokio::join!(silent, async {
        let handshake = unfinished.insert(bound.incoming().await);
        // The caller's deadline, which passes.
        let waits = tokio::time::timeout(Duration::from_millis(300), handshake).await;
        assert!(waits.is_err(), "there is no stream");
    });
    let client = bound.client();
    let (mut end, accepted) = tokio::join!(
        async {
            let mut end = dial(&client, WireVersions::V2).await.expect("connected");
            end.send(hello(WireVersion::V2)).await;
            end
        },
        bound.accept()
    );
    let mut server = accepted.expect("accepted");
    server.send(packet(3, 3)).await;
    assert_eq!(end.expect().await, packet(3, 3));
    drop(unfinished);
    let quinn::ConnectionError::ApplicationClosed(close) = silent.connection.closed().await else {
        panic!("no close");
    };
    assert_eq!(close.error_code, 7_u32.into());
}

#[tokio::test]
async fn clients_must_prove_their_address_beyond_a_number_of_open_handshakes() {
    let bound = bind(local().retry_above(1)).await;
    let (address, pin) = (bound.address.clone(), bound.identity.spki_pin());
    let mut ends = serve(bound);
    let connect = async |relay: &Relay| {
        let client = QuicClientConfig::new(&relay.address).with_pin(pin);
        let mut end = dial(&client, WireVersions::V2).await.expect("connected");
        end.send(hello(WireVersion::V2)).await;
        end
    };
    let first = Relay::to(&address).await;
    let _end = connect(&first).await;
    ends.recv().await.expect("accepted");
    assert_eq!(first.path.retries.load(Ordering::Relaxed), 0);

    let hanging = Relay::to(&address).await;
    hanging.path.mute_server.store(true, Ordering::Relaxed);
    let client = QuicClientConfig::new(&hanging.address).with_pin(pin);
    let stuck = tokio::spawn(async move { dial(&client, WireVersions::V2).await.map(drop) });
    while hanging.path.answers.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    let second = Relay::to(&address).await;
    let _end = connect(&second).await;
    ends.recv().await.expect("accepted");
    assert_eq!(second.path.retries.load(Ordering::Relaxed), 1);
    stuck.abort();
}

#[tokio::test]
async fn a_handshake_that_the_server_gave_up_may_be_tried_again() {
    let mut bound = bind(local()).await;
    let client = bound.client();
    let dialled = tokio::spawn(async move { dial(&client, WireVersions::V2).await.map(drop) });
    let mut handshake = bound.incoming().await;
    let begun = poll_fn(|cx| Poll::Ready(handshake.as_mut().poll(cx).is_pending()));
    assert!(begun.await);
    // As a server does whose deadline has passed.
    drop(handshake);
    let error = dialled.await.expect("no panic").expect_err("given up");
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn a_listener_that_is_gone_refuses_and_lets_its_connections_be() {
    let mut bound = bind(local()).await;
    let client = bound.client();
    let (mut end, mut server) = crate::end::pair_of(&mut bound, &client, WireVersion::V2).await;
    drop(bound);
    let error = dial(&client, WireVersions::V2)
        .await
        .map(drop)
        .expect_err("refused");
    assert!(error.is_retryable(), "{error}");
    end.send(packet(1, 1)).await;
    assert_eq!(server.expect().await, packet(1, 1));
}

#[tokio::test]
async fn a_listener_takes_over_the_socket_that_another_has_left_to_its_connections() {
    let mut bound = bind(local()).await;
    let address = bound.address.clone();
    let old = bound.client();
    let (mut end, mut server) = crate::end::pair_of(&mut bound, &old, WireVersion::V2).await;
    drop(bound);
    for number in 1..=3 {
        // Each with a certificate of its own.
        let mut bound = bind(QuicServerConfig::new(&address)).await;
        assert_eq!(bound.address, address);
        let client = bound.client();
        let (mut newer, mut accepted) =
            crate::end::pair_of(&mut bound, &client, WireVersion::V2).await;
        newer.send(packet(number, 1)).await;
        assert_eq!(accepted.expect().await, packet(number, 1));
        end.send(packet(number, 1)).await;
        assert_eq!(server.expect().await, packet(number, 1));
        let (dialled, met) = tokio::join!(dial(&old, WireVersions::V2), bound.accept());
        assert!(
            dialled.is_err() && met.is_err(),
            "the certificate of before"
        );
    }
    // With the last connection goes the socket.
    drop((end, server));
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while std::net::UdpSocket::bind(&address).is_err() {
        looks.tick().await;
    }
}

#[tokio::test]
async fn a_name_with_an_address_that_does_not_answer_is_dialled_at_the_next() {
    // Where localhost is ::1 first, nobody is there.
    let bound = bind(local()).await;
    let port = bound.listener.local_endpoint().port().expect("a port");
    let client =
        QuicClientConfig::new(format!("localhost:{port}")).with_pin(bound.identity.spki_pin());
    let _ends = serve(bound);
    let dialled = tokio::time::timeout(PATIENCE, dial(&client, WireVersions::V2)).await;
    dialled.expect("in time").map(drop).expect("connected");
}

#[tokio::test]
async fn a_server_on_all_addresses_knows_ipv4_clients_by_their_names() {
    let Ok(probe) = std::net::UdpSocket::bind("[::]:0") else {
        return;
    };
    drop(probe);
    let mut bound = bind(QuicServerConfig::new("[::]:0")).await;
    let port = bound.listener.local_endpoint().port().expect("a port");
    let client =
        QuicClientConfig::new(format!("127.0.0.1:{port}")).with_pin(bound.identity.spki_pin());
    let (_client, server) = crate::end::pair_of(&mut bound, &client, WireVersion::V2).await;
    let peer = server.connection.info().peer.to_string();
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
}

#[tokio::test]
async fn reconnects_come_from_one_socket_and_another_runtime_gets_its_own() {
    let mut bound = bind(local()).await;
    let client = bound.client();
    let mut peers = Vec::new();
    for _ in 0..2 {
        let (end, server) = crate::end::pair_of(&mut bound, &client, WireVersion::V2).await;
        peers.push(server.connection.info().peer.to_string());
        drop(end);
    }
    assert_eq!(peers[0], peers[1]);
    // A runtime that ends takes its socket with it.
    let elsewhere = client.clone();
    let elsewhere = std::thread::spawn(move || {
        for _ in 0..2 {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let end = dial(&elsewhere, WireVersions::V1).await.expect("connected");
                drop(end);
            });
        }
    });
    for _ in 0..2 {
        bound.accept().await.expect("accepted");
    }
    elsewhere.join().expect("no panic");
}
