//! A packet is confirmed by the peer's QUIC, not by a buffer of ours.

use std::time::Duration;

use futures_poll::is_pending;
use msgtrans_core::{CloseReason, WireVersion};
use msgtrans_transport::ConnectionError;

use crate::end::{PATIENCE, bind, local, packet, pair, pair_of};
use crate::relay::Relay;

mod futures_poll {
    //! A future looked at once.

    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Waker};

    pub(super) fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(future).poll(&mut cx).is_pending()
    }
}

#[tokio::test]
async fn what_the_peer_has_acknowledged_is_confirmed_whether_it_reads_or_not() {
    let (mut client, _server, _bound) = pair(WireVersion::V2).await;
    let small = client.queue_confirmed(packet(1, 10));
    let large = client.queue_confirmed(packet(2, 300_000));
    client.queue(packet(3, 10));
    let last = client.queue_confirmed(packet(4, 10));
    client.flush().await.expect("written");
    for confirmed in [small, large, last] {
        let confirmed = tokio::time::timeout(PATIENCE, confirmed).await;
        assert!(confirmed.expect("acknowledged"));
    }
}

#[tokio::test]
async fn what_a_vanished_peer_never_acknowledged_fails() {
    let mut bound = bind(local()).await;
    let relay = Relay::to(&bound.address).await;
    let config = msgtrans_quic::QuicClientConfig::new(&relay.address)
        .with_pin(bound.identity.spki_pin())
        .keep_alive(Duration::from_secs(1))
        .max_idle_timeout(Duration::from_millis(1500));
    let (mut client, _server) = pair_of(&mut bound, &config, WireVersion::V2).await;
    let before = client.queue_confirmed(packet(1, 10));
    client.flush().await.expect("written");
    assert!(before.await);

    relay.cut();
    let mut after = client.queue_confirmed(packet(2, 10));
    client.flush().await.expect("quinn has taken it");
    assert!(is_pending(&mut after), "taken is not acknowledged");
    let error = client.recv().await.expect_err("nobody is there");
    assert!(
        matches!(&error, ConnectionError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut),
        "{error}"
    );
    drop(client);
    assert!(!after.await, "nobody has it");
}

#[tokio::test]
async fn a_connection_dropped_or_closed_at_once_confirms_nothing() {
    let mut bound = bind(local()).await;
    for close in [false, true] {
        let relay = Relay::to(&bound.address).await;
        let config = msgtrans_quic::QuicClientConfig::new(&relay.address)
            .with_pin(bound.identity.spki_pin());
        let (mut client, _server) = pair_of(&mut bound, &config, WireVersion::V2).await;
        relay.cut();
        let confirmed = client.queue_confirmed(packet(2, 10));
        client.flush().await.expect("quinn has taken it");
        if close {
            let lost = CloseReason::network(msgtrans_core::Code::TIMEOUT, "");
            client.close(&lost).await;
        }
        drop(client);
        assert!(!confirmed.await, "nobody has it");
    }
}
