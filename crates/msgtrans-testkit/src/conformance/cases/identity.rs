//! Listening, dialling, and who is at the other end.

use std::future::poll_fn;

use msgtrans_core::{Packet, PeerAddress};

use super::{Case, Ran, both, case};
use crate::conformance::Protocol;
use crate::conformance::pair::{Setup, opening};
use crate::failure::Failure;
use crate::peer::{Peer, accept};

pub(super) const CASES: &[Case] = &[
    case!(a_connection_says_which_protocol_and_peer),
    case!(the_local_endpoint_can_be_dialled_again_and_again),
    case!(many_dial_at_once_and_each_has_its_own_connection),
    case!(nobody_listens_after_the_listener_is_gone, |capabilities| {
        (!capabilities.refuses).then_some("nobody answers where nobody listens")
    }),
];

async fn a_connection_says_which_protocol_and_peer(protocol: Protocol) -> Ran {
    let pair = protocol.pair().await?;
    let scheme = pair.listener.local_endpoint().scheme().to_owned();
    for peer in [&pair.client, &pair.server] {
        let info = peer.info();
        Failure::unless(info.protocol == scheme, || {
            format!("the listener is {scheme}, its connection {}", info.protocol)
        })?;
        if let PeerAddress::Socket(address) = &info.peer {
            Failure::unless(address.port() != 0, || format!("the peer is at {address}"))?;
        }
    }
    Ok(())
}

async fn the_local_endpoint_can_be_dialled_again_and_again(protocol: Protocol) -> Ran {
    let setup = Setup::default();
    let mut listener = protocol.listen(setup).await?;
    let endpoint = listener.local_endpoint();
    Failure::unless(endpoint.port() != Some(0), || {
        format!("{endpoint} still has port 0")
    })?;
    for _ in 0..3 {
        let dial = protocol.dial(&endpoint, setup, [opening(setup.version)]);
        both(dial, async {
            let mut server = Peer::new(accept(listener.as_mut()).await?, setup.version);
            server.expect().await
        })
        .await?;
    }
    Ok(())
}

async fn many_dial_at_once_and_each_has_its_own_connection(protocol: Protocol) -> Ran {
    const COUNT: u32 = 16;
    let setup = Setup::default();
    let mut listener = protocol.listen(setup).await?;
    let endpoint = listener.local_endpoint();
    let clients: Vec<_> = (0..COUNT)
        .map(|id| {
            let (protocol, endpoint) = (protocol.clone(), endpoint.clone());
            tokio::spawn(async move {
                let first = [Packet::text("which").with_message_id(id)];
                let mut client = protocol.dial(&endpoint, setup, first).await?;
                let got = client.expect().await?;
                Failure::unless(got.message_id == id, || {
                    format!("client {id} heard what client {} said", got.message_id)
                })
            })
        })
        .collect();
    let mut servers = Vec::new();
    for _ in 0..COUNT {
        let incoming = poll_fn(|cx| listener.poll_accept(cx)).await?;
        servers.push(tokio::spawn(async move {
            let connection = match incoming {
                msgtrans_transport::Incoming::Connection(connection) => connection,
                msgtrans_transport::Incoming::Handshake { handshake, .. } => handshake.await?,
            };
            let mut server = Peer::new(connection, setup.version);
            let first = server.expect().await?;
            server.set_wire(setup.limits);
            server.send(first).await?;
            // The client leaves first, so that nothing is cut.
            let _ = server.recv().await;
            Ok::<_, Failure>(())
        }));
    }
    for task in clients.into_iter().chain(servers) {
        task.await??;
    }
    Ok(())
}

async fn nobody_listens_after_the_listener_is_gone(protocol: Protocol) -> Ran {
    let setup = Setup::default();
    let endpoint = protocol.listen(setup).await?.local_endpoint();
    match protocol.dial(&endpoint, setup, []).await {
        Err(_) => Ok(()),
        Ok(_) => Err(Failure::new(format!(
            "{endpoint} answers although its listener is gone"
        ))),
    }
}
